"""Pretraining that is killed or stopped at any moment goes on as if nothing had been, to the last bit."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_pretraining import SMALL, forked, metrics, options, tool, write_cifar
from test_training_run import KILL_SEED, assert_same

from resnet_backbone.classification.data.order import Order
from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.training import train as train_module
from resnet_backbone.classification.training.loop import Loop

EVERYTHING = replace(
    SMALL, epochs=None, iterations=10, workers=2, accumulate=2, ema=0.9, mixup=0.2, cutmix=0.5, drop_path=0.3,
    start_size=16, batch_sides=(24, 32), policy="trivial_augment", erasing=0.5, colour_shift=0.1, clip=1.0, repeats=2,
    label_smoothing=0.1, loss="binary_cross_entropy", decay_norms=False, warmup=3.0, test_every=4.0, save_every=3.0,
    keep=2, broken_images=2, augment_on="device",
)  # fmt: skip
CIFAR = replace(
    SMALL, network="cifar_resnet8", stem_out_channels=4, res2_out_channels=4, epochs=None, iterations=112,
    batch_size=4, augmentation="padded_crop", mean_image=True, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0),
    test_resize=32, warmup_until_error=60.0, warmup_share=0.256, schedule="steps", steps=(108.0,), test_every=50.0,
    save_every=7.0, exact_norm_images=0,
)  # fmt: skip
PLATEAU = replace(
    SMALL, epochs=None, iterations=24, holdout=8, schedule="plateau", patience=1, test_every=2.0, save_every=5.0,
)  # fmt: skip
VARIANTS = {"everything": EVERYTHING, "cifar": CIFAR, "plateau": PLATEAU}
MOMENTS = ["_step", "save", "_evaluate_if_due", "write_state", "a write"]


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Processes that were forked have no other, and sums have other last bits on two."""


def killed(chosen, moment: str, at: int) -> None:
    """Starts the tool in a process that kills itself after `moment`, or within a write, from iteration `at` on."""
    method = "write_state" if moment == "a write" else moment
    first = getattr(Loop, method)

    def die(*arguments) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def last(self, *arguments, **more):
        if moment == "a write" and self.iteration >= at:
            os.fsync = die
        result = first(self, *arguments, **more)
        if self.iteration >= at:
            die()
        return result

    def run() -> int:
        setattr(Loop, method, last)
        return tool(chosen)

    assert forked(run) == [-signal.SIGKILL]


def contents(folder):
    """Everything that a run leaves, but times and TensorBoard's files."""
    found = {file.name: torch.load(file, weights_only=True) for file in folder.glob("*.pth")}
    found |= {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}
    found |= {file.name: file.read_text() for file in folder.glob("*.txt") if file.name != "log.txt"}
    assert not list(folder.glob(".*")), "a file that was not finished"
    return found


def iterations(folder) -> int:
    """How many the checkpoint of a run holds."""
    last = folder / "last.pth"
    return torch.load(last, weights_only=True)["iteration"] if last.exists() else 0


def measured(folder, after: int):
    """Lines of metrics behind an iteration; the first that has losses covers the time since then alone."""
    lines = [line for line in metrics(folder) if line["iteration"] > after]
    partial = next((line for line in lines if "loss" in line), None)
    return [line for line in lines if line is not partial]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_that_is_killed_three_times_ends_as_the_whole_one(folders, tmp_path, variant):
    config, rng = VARIANTS[variant], random.Random(f"{KILL_SEED} {variant}")
    data = write_cifar(tmp_path / "cifar.npz") if variant == "cifar" else folders
    if config.broken_images:
        for name in ("across/3.png", "down/5.png"):
            (data / "train" / name).write_bytes(b"no image")
    assert tool(options(tmp_path / "whole", config, data)) == 0
    whole = contents(tmp_path / "whole")
    last = whole["last.pth"]["iteration"]  # the plateau rule may have ended it early
    run = options(tmp_path / "run", config, data, resume=True)
    for _ in range(3):
        left = last - iterations(tmp_path / "run")  # killed after the last save, it has no step any more
        moment, at = rng.choice(MOMENTS if left else MOMENTS[1:]), rng.randint(1, last - 1)
        print(f"RESNET_BACKBONE_KILL_SEED={KILL_SEED}: {variant} killed in {moment} from iteration {at} on")
        killed(run, moment, at)
        assert not (tmp_path / "run" / "model.safetensors").exists()
    saved = iterations(tmp_path / "run")
    assert tool(run) == 0
    assert_same(whole, contents(tmp_path / "run"))
    assert_same(*(measured(tmp_path / folder, saved) for folder in ("whole", "run")))
    assert_same(*([line for line in metrics(tmp_path / folder) if "val/top1" in line] for folder in ("whole", "run")))


def test_a_finished_run_that_is_resumed_only_tests_and_writes(folders, tmp_path, monkeypatch):
    run = options(tmp_path / "run", replace(EVERYTHING, iterations=4, holdout=4, broken_images=0), folders, resume=True)
    assert tool(run) == 0
    whole, lines = contents(tmp_path / "run"), metrics(tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", lambda *arguments: pytest.fail("trained"))
        assert tool(run) == 0
    assert_same(whole, contents(tmp_path / "run"))
    assert lines == metrics(tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(folders, tmp_path, monkeypatch, capsys, number):
    step = Loop._step

    def signalled(self, *arguments):
        if self.iteration == 2:
            os.kill(os.getpid(), number)
        return step(self, *arguments)

    run = options(tmp_path / "run", SMALL, folders)
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", signalled)
        assert tool(run) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"stopped after iteration 3 of 12; saved in {tmp_path / 'run/last.pth'}; go on with --resume"
    assert iterations(tmp_path / "run") == 3
    assert tool(replace(run, resume=True)) == 0
    assert tool(options(tmp_path / "whole", SMALL, folders)) == 0
    first, second, whole = (line for one in ("run", "whole") for line in metrics(tmp_path / one) if "loss" in line)
    assert (first["iteration"], second["iteration"], whole["iteration"]) == (3, 12, 12)
    for name in ("loss", "error"):  # nothing of what was seen before the signal is missing
        assert 3 * first[name] + 9 * second[name] == pytest.approx(12 * whole[name], rel=1e-4)


@pytest.mark.parametrize("where", ["exact_norms", "measure"])
def test_a_signal_behind_the_last_iteration_is_a_sentence(folders, tmp_path, monkeypatch, capsys, where):
    run = options(tmp_path / "run", replace(SMALL, epochs=1.0), folders)
    with monkeypatch.context() as patch:
        patch.setattr(train_module, where, lambda *arguments: os.kill(os.getpid(), signal.SIGTERM))
        assert tool(run) == 130
    assert capsys.readouterr().err.endswith("\ninterrupted; what was saved is kept, go on with --resume\n")
    assert iterations(tmp_path / "run") == 4
    assert tool(replace(run, resume=True)) == 0


def test_what_was_broken_is_listed_once(folders, tmp_path):
    """Behind the last checkpoint more were found, which the resumed run finds again."""
    train = open_data(str(folders)).train
    broken = [train.name(index) for index in Order(32, SMALL.seed).indices(0, 32)[[2, 18, 26]]]
    for name in broken:
        Path(name).write_bytes(b"no image")
    run = options(tmp_path / "run", replace(SMALL, epochs=1.0, broken_images=3, save_every=0.5), folders, resume=True)
    killed(run, "_step", 3)  # saved after two iterations, has seen all images
    for _ in range(2):
        assert (tmp_path / "run" / "broken_images.txt").read_text().splitlines() == broken
        assert tool(run) == 0
