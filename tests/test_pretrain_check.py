"""`pretrain_imagenet.py --check`: what is right is said to be, what is wrong is found, a run is left alone."""

from __future__ import annotations

import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.preflight import sheet, steps
from resnet_backbone.classification.preflight.check import Place, check
from resnet_backbone.classification.prepare.prepare import PrepareOptions, prepare
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.testing.evaluate import Accuracy
from resnet_backbone.classification.training import loop
from resnet_backbone.classification.training.classifier import build_classifier
from resnet_backbone.classification.training.train import pretrain
from resnet_backbone.engine import group

ROOT = Path(__file__).parents[1]
TINY = TrainConfig(
    network="resnet18", stem_out_channels=4, res2_out_channels=4, epochs=6.0, batch_size=16, scale=(0.5, 1.0), size=32,
    test_size=32, test_resize=36, schedule="steps", steps=(2.0, 4.0), warmup=1.0, exact_norm_images=0, workers=0,
    test_every=2.0, device="cpu",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(steps, "LOADING", 0.0)
    monkeypatch.setattr(steps, "LIMIT", 1.0)  # times are not to be tested on


@pytest.fixture
def folders(tmp_path):
    """Two classes of 16 and 12 images to train on, 4 to test on."""
    rng = np.random.default_rng(0)
    for split, counts in (("train", (16, 12)), ("val", (4, 4))):
        for name, count in zip(("cat", "dog"), counts):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{index}.png")
    return tmp_path / "data"


def looked_at(tmp_path, data, gpus=1, config=TINY, resume=False, overwrite=False, **keys):
    lines: list[str] = []
    settled = replace(config, data=str(data), **keys)
    code = check(lambda: settled, Place(tmp_path / "run", gpus, 1, resume, overwrite), lines.append)
    return code, lines


def found(lines, level):
    return [line.split(None, 1)[1] for line in lines if line.startswith(f"  {level} ")]


def test_what_is_right(tmp_path, folders):
    code, lines = looked_at(tmp_path, folders, mixup=0.2)
    assert code == 0 and found(lines, "error") == [] == found(lines, "warning")
    assert [line for line in lines if not line.startswith(" ")][:-1] == [
        "versions:", "settings:", "data:", "norms:", "room:", "a step:", "a test:",
    ]  # fmt: skip
    said = "\n".join(found(lines, "ok"))
    # 6 epochs of 28 images are 10.5 batches of 16; an epoch is 1.75 of them.
    assert "5.7 epochs of 28 images: 10 iterations of 16 images" in said
    assert "rate 0.00625 (0.1 per 256), divided by ten at iterations 4 and 7" in said
    assert "warm-up from 0 over 2 iterations" in said and "tests every 4 iterations, saves every 2" in said
    assert "28 images to train on, 8 to test on, 2 classes" in said
    assert "smallest class dog (12), largest class cat (16)" in said
    assert "all 36 images can be read" in said and "no validation image is a training image too" in said
    assert "20 batch norms learn from 16 images at a time" in said
    assert "ln 2 = 0.693" in said and "parameter tensors get finite gradients" in said and "s a step: about" in said
    assert "the loader alone: " in said and "a test batch: top-1" in said
    assert lines[-1] == "Training can start."
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["check.png"]
    with Image.open(tmp_path / "run/check.png") as sheet:
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 1000


def test_everything_that_is_wrong_at_once(tmp_path, folders):
    (folders / "train/cat/3.png").write_bytes(b"no image")
    cut = folders / "val/dog/1.png"
    cut.write_bytes(cut.read_bytes()[:90])
    shutil.copy(folders / "train/cat/5.png", folders / "val/cat/other.png")
    Image.fromarray(np.zeros((20, 60, 3), np.uint8)).save(folders / "train/dog/small.png")
    for index in range(9):
        (folders / f"train/dog/{index}.png").unlink()
    keys = {"device": "cuda:99", "steps": (2.0, 9.0), "batch_size": 35, "accumulate": 5}
    code, lines = looked_at(tmp_path, folders, gpus=3, **keys)
    errors, warnings = found(lines, "error"), found(lines, "warning")
    assert code == 1 and len(errors) == 5, errors
    for error, said in zip(
        errors, ("cuda:99", "images are no multiple of 15 parts (3 processes", "cat/3.png", "dog/1.png", "dog/1.png")
    ):
        assert said in error
    assert len(warnings) == 4, warnings
    for warning, said in zip(warnings, (
        "steps [9.0] are never reached in 6 epochs",
        "1 classes have fewer than 10 training images: dog (4)",
        "1 validation images are training images too (first: ", "batch norms learn from 2 images at a time",
    )):  # fmt: skip
        assert said in warning
    assert found(lines, "note")[0].startswith("1 of 29 images are smaller than size 32 (smallest: 20 pixels, ")
    assert lines[-1] == "Training should not start: 5 errors, 4 to think about."
    assert (tmp_path / "run/check.png").exists() and any("finite gradients" in line for line in lines)


def test_a_row_of_the_sheet_has_four_images_though_each_is_seen_four_times(tmp_path, folders, monkeypatch):
    """They were four views of one image, mixed with each other."""
    rows = []
    monkeypatch.setattr(sheet, "_row", lambda images, targets, *_: rows.append((images, targets)) or [])
    monkeypatch.setattr(sheet, "contact_sheet", lambda *_, **__: np.zeros((8, 8, 3), np.uint8))
    config = replace(TINY, repeats=4, mixup=1.0)
    sheet.sheet_finding(config, open_data(str(folders)), build_classifier(config, 2), tmp_path / "check.png")
    assert [len(images) for images, _ in rows] == [4] * 4
    assert any((targets > 0).all(1).any() for _, targets in rows), "no image is mixed with one of another class"


def test_broken_images_that_are_allowed(tmp_path, folders):
    (folders / "train/cat/3.png").write_bytes(b"no image")
    code, lines = looked_at(tmp_path, folders, broken_images=1)
    assert code == 0 and "1 training images are passed over, as broken_images 1 allows" in found(lines, "warning")[0]


@pytest.mark.parametrize("network", ["resnet20", "resnet18"])
def test_layouts_are_looked_at_whole(tmp_path, folders, network):
    (folders / "train/fox").mkdir()
    (folders / "val/cow").mkdir()
    code, lines = looked_at(tmp_path, folders, network=network)
    said = " ".join(found(lines, "error"))
    assert code == 1 and "in fox; add" in said and "in cow; add" in said
    assert "in train only: fox" in said and "in val only: cow" in said
    assert ("unknown network 'resnet20'" in said) == (network == "resnet20") == ("room:" not in lines)
    shutil.copy(folders / "train/cat/1.png", folders / "val/1.png")
    assert "val: 1 images in no class folder; sort them" in " ".join(looked_at(tmp_path, folders)[1])
    shutil.rmtree(folders / "val")
    assert "val: no such folder" in " ".join(looked_at(tmp_path, folders)[1])
    (folders / "val/images").mkdir(parents=True)
    shutil.copy(folders / "train/cat/1.png", folders / "val/images/1.png")
    assert "its images seem unsorted; sort them" in " ".join(looked_at(tmp_path, folders)[1])
    (folders / "val/images/1.png").rename(folders / "val/1.png")
    (folders / "val/images").rmdir()
    assert "val: 1 images in no class folder; sort them" in " ".join(looked_at(tmp_path, folders)[1])


def test_a_run_that_is_there(tmp_path, folders):
    pretrain(replace(TINY, data=str(folders), epochs=2.0, steps=(1.0,), save_every=1.0), folders, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    same = {"epochs": 2.0, "steps": (1.0,), "save_every": 1.0}
    code, lines = looked_at(tmp_path, folders, **same)
    assert code == 0 and any("holds a run: go on with --resume" in line for line in found(lines, "note"))
    assert any(line.endswith("--resume goes on after iteration 4") for line in found(lines, "ok"))
    code, lines = looked_at(tmp_path, folders, **same, resume=True)
    assert code == 0 and not any("holds a run" in line for line in lines)
    code, lines = looked_at(tmp_path, folders, **same, batch_size=8)
    assert code == 0 and any("--resume would be refused: " in line for line in found(lines, "note"))
    code, lines = looked_at(tmp_path, folders, **same, batch_size=8, resume=True)
    assert code == 1 and "begun with batch_size 16, now it is 8" in found(lines, "error")[0]
    assert not any("--resume" in line for line in looked_at(tmp_path, folders, overwrite=True)[1])
    (tmp_path / "run/check.png").unlink()
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    other = looked_at(tmp_path / "other", folders, **same, resume=True)
    assert other[0] == 0 and any("--resume begins at the beginning" in line for line in found(other[1], "note"))


def test_steps_and_tests_that_break_off(tmp_path, folders, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(loop, "make_optimizer", lambda *_: 1 / 0)
        patch.setattr(steps, "evaluate", lambda *_: Accuracy(8, 1, None, float("nan")))
        code, lines = looked_at(tmp_path, folders)
    errors = found(lines, "error")
    assert code == 1 and errors[0].startswith("ZeroDivisionError: ") and "the loss is nan" in errors[1]
    assert any("the loader alone: " in line for line in lines)
    code, lines = looked_at(tmp_path, folders, std=(1e-3, 1e-3, 1e-3), norm="GN", mean=(0.0, 0.0, 0.0))
    assert code == 0 and "no batch norms: the batch may be of any size" in found(lines, "ok")


def test_a_slow_loader_and_a_loss_that_is_too_high(tmp_path, folders, monkeypatch):
    real = steps._timed
    monkeypatch.setattr(steps, "_timed", lambda *given: (real(*given), 0.1)[1])
    monkeypatch.setattr(steps, "_loaded", lambda *given: 180)
    monkeypatch.setattr(steps, "HIGH", 0.0)
    monkeypatch.setattr(steps, "LIMIT", 0.2)

    def warnings(gpus, workers):
        code, lines = looked_at(tmp_path, folders, gpus=gpus, batch_size=24, workers=workers)
        assert code == 0
        return [line for line in found(lines, "warning") if "batch norms learn" not in line]

    # A process computes 24 images in 0.1 s; two of them 12 each.
    first, last = warnings(gpus=2, workers=3)
    assert "look at mean, std" in first
    assert last.startswith("loader-bound: 25 % of the time would be spent waiting for images; the loader alone: ")
    assert "180 images/s by 6 workers, 240 are computed; remedy: " in last
    # Without workers, who read 180 a second and compute 240 take turns.
    assert warnings(gpus=1, workers=0)[1].startswith("loader-bound: 57 % ")


def test_a_gpus_batch_is_not_stepped_through_on_a_cpu():
    def taken(**keys):
        looked = steps.looked_at(
            replace(TINY, size=224, test_size=224, test_resize=256, **keys), 2, torch.device("cpu")
        )
        return looked.config.batch_size, looked.config.accumulate, looked.share, looked.few

    assert taken(batch_size=512, accumulate=2) == (4, 1, 256, " (looked at with 4 of the 256 images of a process)")
    assert taken(batch_size=64, accumulate=32) == (4, 4, 32, " (looked at with 4 of the 32 images of a process)")
    assert taken(batch_size=8, accumulate=2) == (4, 2, 4, "")


def test_the_tool(tmp_path, folders, monkeypatch, capsys):
    words = [
        "--config",
        str(ROOT / "configs/imagenet/R18.yaml"),
        "--data",
        str(folders),
        "--output",
        str(tmp_path / "run"),
    ]
    words += ["--check", "device", "cpu", "size", "32", "batch_size", "16", "workers", "0"]
    for more, code in (([], 0), (["--smoke"], 1), (["network", "resnet19"], 1)):
        monkeypatch.setattr(sys, "argv", ["pretrain_imagenet.py", *words, *more])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "tools/pretrain_imagenet.py"), run_name="__main__")
        assert ended.value.code == code
    said = capsys.readouterr()
    assert "Training can start" in said.out and "error: --check: looks at the run that would be" in said.err


def test_a_run_refuses_what_it_has_no_room_for_and_batches_that_cannot_be_shared(tmp_path, folders, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**5, 0, 10**5))
        with pytest.raises(ValueError, match="and three are needed at a time, beside the 2 that are kept; make room"):
            pretrain(replace(TINY, keep=2), folders, tmp_path / "full")
    monkeypatch.setattr(group, "world", lambda: 2)
    with pytest.raises(ValueError, match=r"batch_size: 7 images are no multiple of 2 parts \(2 processes"):
        pretrain(replace(TINY, batch_size=7), folders, tmp_path / "odd")


def test_shards(tmp_path, folders):
    made = PrepareOptions(tmp_path / "shards", folders=folders, any_counts=True, shard_size=0.02)
    assert prepare(made, lambda line: None) == 0
    pretrain(replace(TINY, epochs=1.0, steps=(0.5,), warmup=0.0), tmp_path / "shards", tmp_path / "run")
    same = {"epochs": 1.0, "steps": (0.5,), "warmup": 0.0}
    code, lines = looked_at(tmp_path, tmp_path / "shards", resume=True, **same)
    assert code == 0 and any("28 images to train on, 8 to test on, in shards" in line for line in found(lines, "note"))
    said = "\n".join(found(lines, "ok"))
    assert "16 training images as" in said and "the loader alone: " in said and "a test batch: top-1" in said
    code, lines = looked_at(tmp_path, tmp_path / "shards", resume=True, **same, workers=1)
    assert code == 1 and "shards were read by 1 processes with workers 0, now by 1 with 1" in found(lines, "error")[0]
