"""What pretraining cannot use or survive is one sentence with its remedy, exit code 1, and nothing is lost."""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_pretraining import SMALL, forked, options, tool
from test_launch import ends

from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.launch import job
from resnet_backbone.classification.training.classifier import Classifier
from resnet_backbone.classification.training.loop import Loop
from resnet_backbone.engine import group

SHORT = replace(SMALL, epochs=None, iterations=4, save_every=2.0, test_every=2.0)


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Processes that were forked have no other."""


@pytest.fixture
def said(tmp_path, folders, capfd):
    """The sentence with which a run in tmp_path / "run" ends."""

    def sentence(config=SHORT, *words: str, data=folders, **more) -> str:
        capfd.readouterr()
        assert tool(options(tmp_path / "run", config, data, **more), *words) == 1
        before, found, error = capfd.readouterr().err.strip().rpartition("error: ")
        assert found and "Traceback" not in before + error and "\n" not in error, before + error
        return error

    return sentence


def saved(tmp_path) -> int:
    return int(torch.load(tmp_path / "run" / "last.pth", weights_only=True)["iteration"])


def test_batches_that_cannot_be(said, folders, tmp_path, capfd):
    assert "batch_size: 33, but there are only 32 training images; give 32 or less" in said(
        replace(SHORT, batch_size=33)
    )
    assert "exact_norm_images: 7 are less than a batch of 8; give more, or 0" in said(
        replace(SHORT, exact_norm_images=7)
    )
    config = replace(SHORT, batch_size=6)
    codes, [error], _ = ends(capfd, job(options(tmp_path / "run", config, folders)), world=4)
    assert codes == [1] * 4
    assert error == (
        "error: batch_size: 6 images are no multiple of 4 parts (4 processes times accumulate 1); give 4 (the rate "
        "follows)"
    )
    assert not (tmp_path / "run").exists()


def test_places_that_cannot_be(said, tmp_path):
    assert "seed is -1, but it must not be negative" in said(SHORT, "--seed", "-1")
    (tmp_path / "run").write_text("something")
    assert said() == f"{tmp_path / 'run'} is a file and no folder; choose another folder: --output DIR"
    assert (tmp_path / "run").read_text() == "something"


def test_data_without_labels(said, folders, tmp_path):
    shutil.copy(folders / "train/down/3.png", folders / "train/extra.JPG")
    assert "train/extra.JPG has no class" in said()
    (folders / "train/extra.JPG").unlink()
    for name in ("across", "down"):
        for file in (folders / "train" / name).iterdir():
            file.rename(folders / "train" / f"{name}{file.name}")
        (folders / "train" / name).rmdir()
    assert "train has no class folders" in said()
    np.savez(tmp_path / "c.npz", x_train=np.zeros((4, 32, 32, 3), np.uint8))
    assert "y_train" in said(data=tmp_path / "c.npz")


def test_classes_of_one_split_alone_or_of_one_image(said, folders, tmp_path):
    shutil.copytree(folders / "val/down", folders / "val/more")
    shutil.rmtree(folders / "val/down")
    assert "'down' is in train only" in said()
    (folders / "val/more").rename(folders / "val/down")
    for file in (folders / "val/down").iterdir():
        file.unlink()
    assert "val/down has no images" in said()
    shutil.copy(folders / "train/down/3.png", folders / "val/down")
    for file in list((folders / "train/down").iterdir())[1:]:
        file.unlink()
    assert "leave none of class" in said(replace(SHORT, holdout=17))
    assert tool(options(tmp_path / "run", SHORT, folders)) == 0, "one image can be learnt"


def test_what_cannot_be_gone_on_with(said, folders, tmp_path):
    assert tool(options(tmp_path / "run", SHORT, folders)) == 0
    before = {file: file.read_bytes() for file in (tmp_path / "run").glob("*.*") if file.name != "log.txt"}
    last = tmp_path / "run/last.pth"
    assert "holds a run: go on with --resume" in said()
    assert "none: no such folder" in said(data=tmp_path / "none", overwrite=True)
    assert "did you mean 'resnet18'" in said(replace(SHORT, network="resnet19"), overwrite=True)
    plateau = replace(SHORT, schedule="plateau")
    assert "begun with schedule 'cosine', now it is 'plateau'" in said(plateau, resume=True)
    (folders / "train/down/0.png").rename(tmp_path / "0.png")
    assert "begun with 32 training images, the data have 31, in another order then; give" in said(resume=True)
    (folders / "train/down").rename(folders / "train/upward")
    (folders / "val/down").rename(folders / "val/upward")
    assert "begun with the class 'down' where the data have 'upward'" in said(resume=True)
    for split in ("train", "val"):
        shutil.copytree(folders / split / "across", folders / split / "more")
    assert "begun with 2 classes, the data have 3; give the data of then, or start anew" in said(resume=True)
    assert before == {file: file.read_bytes() for file in before}, "nothing was lost or changed"
    torch.save({"model": {}, "iteration": 3, "config": "MODEL: {}"}, last)
    assert "not a checkpoint of this tool (it has no 'tested')" in said(resume=True)
    last.write_bytes(before[last][:1000])
    assert "last.pth: not a checkpoint of this tool" in said(resume=True)
    last.unlink()
    assert "holds model.safetensors, but no last.pth to go on from: begin anew with --overwrite" in said(resume=True)


def test_the_plateau_rule_keeps_its_tests(said, folders, tmp_path):
    config = replace(SHORT, schedule="plateau")
    assert tool(options(tmp_path / "run", config, folders)) == 0
    assert "begun with test_every 2.0, now it is 1.0" in said(replace(config, test_every=1.0), resume=True)
    assert tool(options(tmp_path / "run", replace(config, save_every=1.0), folders, resume=True)) == 0


def spoil(monkeypatch, rank: int) -> None:
    """The fourth loss of a process becomes NaN."""
    forward = Classifier.forward

    def other(self, batch):
        losses = forward(self, batch)
        nan = batch.iteration == 3 and group.rank() == rank
        return {"loss": losses["loss"] * (math.nan if nan else 1)}

    monkeypatch.setattr(Classifier, "forward", other)


def test_a_loss_that_is_no_number_names_the_images(said, folders, tmp_path, monkeypatch):
    spoil(monkeypatch, 0)
    error = said(replace(SHORT, iterations=9))
    assert error.startswith("the loss is {'loss': nan} at iteration 4 (rate 0.02343") and saved(tmp_path) == 2
    assert error.endswith(
        f"): lower rate_per_256, lengthen warmup or look at the images; the last checkpoint is kept: "
        f"{tmp_path / 'run/last.pth'}"
    )
    assert error.count(".png") == 8
    assert "and 8 more): lower" in said(replace(SHORT, iterations=9, batch_size=24), overwrite=True)


def test_a_loss_that_is_no_number_ends_all_processes(folders, tmp_path, monkeypatch, capfd):
    spoil(monkeypatch, 1)
    codes, said, _ = ends(capfd, job(options(tmp_path / "run", SHORT, folders)))
    [error] = [line for line in said if line.startswith("error: ")]
    assert codes == [1, 1] and "the loss is {'loss': nan} at iteration 4" in error and error.count(".png") == 4
    assert saved(tmp_path) == 2


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_the_other(folders, tmp_path, monkeypatch, capfd, rank):
    step = Loop._step

    def dying(self, *arguments):
        if (self.iteration, group.rank()) == (3, rank):
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *arguments)

    monkeypatch.setattr(Loop, "_step", dying)
    codes, said, _ = ends(capfd, job(options(tmp_path / "run", SHORT, folders)))
    assert codes == [[-9, 1], [1, -9]][rank] and saved(tmp_path) == 2
    [error] = [line for line in said if line.startswith("error: ")]
    assert f"process {rank} of 2" in error and error.endswith("what was saved is kept, go on with --resume")


@pytest.mark.parametrize("world", [1, 2])
def test_a_worker_that_is_killed_is_a_sentence(folders, tmp_path, monkeypatch, capfd, world):
    """As the system does it when memory is full."""
    step = Loop._step

    def bereaved(self, *arguments):
        if (self.iteration, group.rank()) == (3, world - 1):
            worker = multiprocessing.active_children()[0].pid
            os.kill(worker, signal.SIGKILL)
            os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)  # or steps with what it had read would come first
        return step(self, *arguments)

    monkeypatch.setattr(Loop, "_step", bereaved)
    chosen = options(tmp_path / "run", replace(SHORT, iterations=50, workers=1), folders)
    if world == 1:
        codes, said = forked(lambda: tool(chosen)), capfd.readouterr().err.splitlines()
    else:
        codes, said, _ = ends(capfd, job(chosen))
    assert codes == [1] * world and saved(tmp_path) == 2
    [error] = [line for line in said if line.startswith("error: ")]
    assert "error: DataLoader worker (pid" in error and "Remedy: lower workers, for a worker is mostly" in error


def test_a_full_disk_is_a_sentence(folders, tmp_path, monkeypatch, capfd):
    """A file size limit stands in for it: the kernel refuses the write in the middle in the same way."""
    save = Loop.save

    def filling(self):
        save(self)
        size = os.path.getsize(self.output / "last.pth") // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    monkeypatch.setattr(Loop, "save", filling)
    assert forked(lambda: tool(options(tmp_path / "run", SHORT, folders))) == [1]
    said = capfd.readouterr().err
    assert "Traceback" not in said and "last.pth" in said.strip().splitlines()[-1], said
    assert saved(tmp_path) == 2 and not list((tmp_path / "run").glob(".*"))


@pytest.mark.parametrize("world", [1, 2])
def test_an_image_that_breaks_in_validation_is_named(folders, tmp_path, capfd, world):
    bad = folders / "val/down/3.png"
    bad.write_bytes(b"no image")
    codes, said, _ = ends(capfd, job(options(tmp_path / "run", SHORT, folders)), world=world)
    [error] = [line for line in said if line.startswith("error: ")]
    assert codes == [1] * world and error.startswith(f"error: {bad}: not an image") and saved(tmp_path) == 2


def test_few_validation_images_are_enough(folders, tmp_path):
    """Fewer than a batch, and than processes."""
    for file in [*(folders / "val").glob("*/*.png")]:
        if file.stem != "0":
            file.unlink()
    assert len(open_data(str(folders)).val) == 2
    config = replace(SHORT, epochs=0.25, iterations=None, test_every=0.0)
    assert tool(options(tmp_path / "run", config, folders)) == 0


def test_a_folder_that_holds_no_data_says_what_would_be(said, folders):
    """Photographs without train/ and val/, and a name that is misspelt, were taken for CIFAR that is incomplete."""
    for data, what in ((folders / "train", "holds no data"), (folders / "nowhere", "no such folder or archive")):
        assert f"{data}: {what}; --data takes a folder with train/<class>/*.jpg and val/<class>" in said(data=data)
