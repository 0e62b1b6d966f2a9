"""Losses that stay on the device for some steps: the same run, and a number that is none found all the same."""

from __future__ import annotations

import itertools
import math
import os
import signal
from dataclasses import replace

import pytest
import torch
from made_cifar import CIFAR, write_cifar
from made_pretraining import metrics
from test_engine_step import PerImage, Wild, examples
from torch.utils._python_dispatch import TorchDispatchMode

from resnet_backbone.classification.data.batches import training_batches
from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.training import loop as loop_module
from resnet_backbone.classification.training.classifier import Classifier, build_classifier
from resnet_backbone.classification.training.loop import Loop
from resnet_backbone.classification.training.train import pretrain
from resnet_backbone.engine.interrupt import Stopped
from resnet_backbone.engine.step import SKIPS, Diverged, TrainStep
from resnet_backbone.weights.files import read_weights

CPU = torch.device("cpu")


def steps_of(model, every, **more):
    return TrainStep(torch.optim.SGD(model.parameters(), lr=0.1), check_every=every, **more)


@pytest.mark.parametrize("parts", [1, 2])
def test_weights_and_losses_are_those_of_a_step_that_looks_each_time(parts):
    one, other = PerImage(), PerImage()
    other.load_state_dict(one.state_dict())
    often, seldom = steps_of(one, 1, parts=parts), steps_of(other, 5, parts=parts)
    expected, shown = [], []
    for number in range(7):
        batch = examples()
        expected.append(often(one, batch, number))
        shown.append(seldom(other, batch, number))
    assert all(map(torch.equal, one.parameters(), other.parameters()))
    assert shown == [*[{}] * 4, *[expected[4]] * 3], "those that were looked at last"
    assert seldom.take() == often.take() == expected
    assert seldom.take() == often.take() == []


def test_the_first_step_that_went_wrong_is_named():
    model, good = PerImage(), examples()
    bad = [(torch.randn(5), torch.full((3,), math.inf)), *good[1:]]
    step = steps_of(model, 5)
    for number, batch in enumerate([good, good, bad, good]):
        step(model, batch, number)
    with pytest.raises(Diverged, match="^the loss is {'square': inf, 'absolute': inf}$") as caught:
        step.take()
    assert caught.value.iteration == 2
    model = Wild()
    model.wild, step = False, steps_of(model, 3)
    step(model, good, 7)
    model.wild = True
    step(model, good, 8)
    with pytest.raises(Diverged, match="the losses are finite, but not the gradients of layers.2.bias$") as caught:
        step(model, good, 9)
    assert caught.value.iteration == 8


def test_fp16_counts_skipped_steps_over_looks():
    model = Wild()
    step, batch = steps_of(model, 4, dtype=torch.float16), examples()
    with pytest.raises(Diverged, match=rf"layers.2.bias were no numbers in {SKIPS} steps in a row") as caught:
        for number in range(2 * SKIPS):
            step(model, batch, number)
    assert caught.value.iteration == SKIPS - 1


class Waits(TorchDispatchMode):
    """Counts what would make a GPU be waited for."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.fixture
def data(tmp_path):
    return write_cifar(tmp_path / "cifar.npz")


@pytest.mark.parametrize("every", [1, 10])
def test_a_look_is_the_only_wait(data, tmp_path, every, monkeypatch):
    """One for the loss and one for the gradients, or one for all steps."""
    looks, to_list = [], torch.Tensor.tolist  # is no operation of the dispatcher
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: looks.append(self.shape) or to_list(self))
    monkeypatch.setitem(loop_module.CHECK_EVERY, "cpu", every)
    loop = Loop(replace(CIFAR, ema=0.0), open_data(str(data)), build_classifier(CIFAR, 10), tmp_path, CPU)
    trained, batches = loop.wrapped(), loop.batches()
    with Waits() as waits:
        for _ in range(10):
            loop._step(trained, next(batches))
            loop.advance()
    assert (waits.count, len(looks)) == ((10, 10) if every == 1 else (0, 1))


def test_a_run_is_the_same_with_its_metrics_and_average(data, tmp_path, monkeypatch):
    pretrain(CIFAR, data, tmp_path / "often")
    monkeypatch.setitem(loop_module.CHECK_EVERY, "cpu", 20)
    pretrain(CIFAR, data, tmp_path / "seldom")
    often, seldom = (torch.load(tmp_path / name / "last.pth", weights_only=True) for name in ("often", "seldom"))
    for part in ("model", "ema"):
        assert all(map(torch.equal, often[part].values(), seldom[part].values()))
    lines = metrics(tmp_path / "often")
    assert metrics(tmp_path / "seldom") == lines
    assert [line["iteration"] for line in lines] == [11, 20, 22, 24, 24]


@pytest.mark.parametrize("every", [1, 20])
def test_a_loss_that_is_no_number_is_told_with_its_images_and_nothing_is_saved_after_it(
    data, tmp_path, every, monkeypatch
):
    forward, seen = Classifier.forward, []

    def spoiled(self, batch):
        losses = forward(self, batch)
        seen.append(batch.iteration)
        return {"loss": losses["loss"] * math.nan} if batch.iteration == 15 else losses

    monkeypatch.setattr(Classifier, "forward", spoiled)
    monkeypatch.setitem(loop_module.CHECK_EVERY, "cpu", every)
    with pytest.raises(Diverged) as caught:
        pretrain(CIFAR, data, tmp_path / "run")
    # The next look is for the line of metrics after 20 iterations.
    assert seen[-1] == (15 if every == 1 else 19)
    (batch,) = itertools.islice(training_batches(open_data(str(data)).train, CIFAR, 15, CPU), 1)
    names = ", ".join(f"train/{index}" for index in batch.indices)
    assert str(caught.value) == (
        f"the loss is {{'loss': nan}} at iteration 16 (rate 0.00125, images {names}): lower rate_per_256, lengthen "
        f"warmup or look at the images; the last checkpoint is kept: {tmp_path / 'run' / 'last.pth'}"
    )
    state = torch.load(tmp_path / "run" / "last.pth", weights_only=True)
    assert state["iteration"] == 14 and all(value.isfinite().all() for value in state["model"].values())
    assert [line["iteration"] for line in metrics(tmp_path / "run")] == [11]
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_signal_between_two_looks_loses_no_iteration(data, tmp_path, monkeypatch):
    whole = pretrain(CIFAR, data, tmp_path / "whole")
    monkeypatch.setitem(loop_module.CHECK_EVERY, "cpu", 20)
    step = Loop._step

    def signalled(self, *arguments):
        if self.iteration == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Stopped, match="stopped after iteration 13 of 24"):
        patch.setattr(Loop, "_step", signalled)
        pretrain(CIFAR, data, tmp_path / "parts")
    parts = pretrain(CIFAR, data, tmp_path / "parts", resume=True)
    first, second = (read_weights(outcome.weights).state for outcome in (whole, parts))
    assert all(torch.equal(first[key], second[key]) for key in first)
