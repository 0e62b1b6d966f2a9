"""The captured step: on the CPU the same work without a graph, beside the plain step."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import replace

import pytest
import torch
from made_cifar import CIFAR, write_cifar
from made_pretraining import metrics

from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.training import captured
from resnet_backbone.classification.training import loop as loop_module
from resnet_backbone.classification.training.captured import CapturedStep
from resnet_backbone.classification.training.classifier import Classifier, build_classifier
from resnet_backbone.classification.training.loop import Loop
from resnet_backbone.classification.training.train import pretrain
from resnet_backbone.engine import group
from resnet_backbone.engine.interrupt import Stopped
from resnet_backbone.engine.step import Diverged

CPU = torch.device("cpu")
CAPTURED = replace(CIFAR, capture=True)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(captured, "DEVICES", {"cpu"})
    monkeypatch.setitem(loop_module.CHECK_EVERY, "cpu", 20)
    return write_cifar(tmp_path / "cifar.npz")


def states(loop):
    """All that a checkpoint would hold of it."""
    momentum = [one["momentum_buffer"] for one in loop.optimizer.state.values()]
    return [*loop.model.state_dict().values(), *momentum, *loop.ema.state_dict().values(), loop.classifier.counts]


@pytest.mark.parametrize("changes", [{}, {"precision": "bf16", "nesterov": False, "decay_norms": False, "clip": 0.1}])
def test_ten_captured_steps_are_ten_plain_ones(data, tmp_path, changes):
    loops = []
    for config in (CIFAR, CAPTURED):
        config = replace(config, **changes)
        torch.manual_seed(0)
        loop = Loop(config, open_data(str(data)), build_classifier(config, 10), tmp_path, CPU)
        trained, batches = loop.wrapped(), loop.batches()
        for _ in range(10):
            loop._step(trained, next(batches))
            loop.advance()
        loops.append(loop)
    assert isinstance(loops[1].step, CapturedStep) and not isinstance(loops[0].step, CapturedStep)
    plain, other = map(states, loops)
    assert len(plain) == len(other) > 50 and all(map(torch.equal, plain, other))
    assert loops[0].step.take() == loops[1].step.take()
    assert loops[0].optimizer.state_dict()["param_groups"] == loops[1].optimizer.state_dict()["param_groups"]


def test_rehearsals_before_the_capture_leave_no_trace(data, tmp_path):
    loop = Loop(CAPTURED, open_data(str(data)), build_classifier(CAPTURED, 10), tmp_path, CPU)
    before = [value.clone() for value in loop.model.state_dict().values()]
    calls = []
    loop.step._rehearse(loop.classifier, lambda: (calls.append(0), loop.step._work(loop.classifier)))
    assert len(calls) == captured.REHEARSALS
    assert all(map(torch.equal, before, loop.model.state_dict().values()))
    assert loop.classifier.take_errors() == (0, 0) and not any(map(torch.any, loop.step._momentum()))


def test_a_captured_run_resumes_into_a_plain_one_and_ends_as_the_whole(data, tmp_path, monkeypatch):
    pretrain(CIFAR, data, tmp_path / "plain")
    step = Loop._step

    def signalled(self, *arguments):
        if self.iteration == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Loop, "_step", signalled)
        pretrain(CAPTURED, data, tmp_path / "parts")
    pretrain(replace(CAPTURED, capture=False), data, tmp_path / "parts", resume=True)
    pretrain(CAPTURED, data, tmp_path / "captured")
    one, two, three = (
        torch.load(tmp_path / name / "last.pth", weights_only=True) for name in ("plain", "captured", "parts")
    )
    for part in ("model", "ema"):
        assert all(map(torch.equal, one[part].values(), two[part].values()))
        assert all(map(torch.equal, one[part].values(), three[part].values()))
    assert metrics(tmp_path / "plain") == metrics(tmp_path / "captured")


def test_a_number_that_is_none_is_told_with_its_images(data, tmp_path, monkeypatch):
    forward, calls = Classifier.forward, []

    def spoiled(self, batch):
        calls.append(0)
        losses = forward(self, batch)
        return {"loss": losses["loss"] * (math.nan if len(calls) == captured.REHEARSALS + 16 else 1)}

    monkeypatch.setattr(Classifier, "forward", spoiled)
    with pytest.raises(Diverged, match=r"the loss is {'loss': nan} at iteration 16 \(rate 0.00125, images train/"):
        pretrain(CAPTURED, data, tmp_path / "run")
    assert torch.load(tmp_path / "run" / "last.pth", weights_only=True)["iteration"] == 14


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation": "resized_crop"}, "capture: only with augmentation 'padded_crop', not 'resized_crop'"),
        ({"mixup": 0.2}, "capture: not with mixup, which differs from step to step"),
        ({"drop_path": 0.1}, "capture: not with drop_path"),
        ({"network": "vgg16"}, "capture: not with vgg16, whose dropout differs from step to step"),
        ({"accumulate": 2}, "capture: not with accumulate 2"),
        ({"precision": "fp16"}, "capture: not with precision 'fp16' \\(use bf16\\)"),
    ],
)
def test_what_no_graph_can_do_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(CAPTURED, **changes)


def test_a_graph_needs_one_gpu_and_one_process(tmp_path, monkeypatch):
    path = write_cifar(tmp_path / "cifar.npz")
    with pytest.raises(ValueError, match="capture: a CUDA graph needs a GPU, and the run is on cpu; leave it out"):
        pretrain(CAPTURED, path, tmp_path / "run")
    monkeypatch.setattr(group, "world", lambda: 2)
    with pytest.raises(ValueError, match="capture: for one process, not 2; leave it out"):
        captured.check_capture(CAPTURED, torch.device("cuda"))
    captured.check_capture(CIFAR, CPU)


def test_a_run_of_before_a_key_goes_on(data, tmp_path):
    pretrain(CIFAR, data, tmp_path / "run")
    path = tmp_path / "run" / "last.pth"
    state = torch.load(path, weights_only=True)
    del state["config"]["tf32"], state["config"]["capture"]
    torch.save(state, path)
    pretrain(CIFAR, data, tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match="begun with tf32 True, now it is False"):
        pretrain(replace(CIFAR, tf32=False), data, tmp_path / "run", resume=True)
    assert TrainConfig.__dataclass_fields__["tf32"].default is True


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_the_graph_does_what_the_plain_step_does(tmp_path):
    path, gpu, weights = write_cifar(tmp_path / "cifar.npz"), torch.device("cuda"), []
    torch.backends.cudnn.allow_tf32 = False
    for config in (CIFAR, CAPTURED):
        torch.manual_seed(0)
        network = build_classifier(config, 10).to(gpu, memory_format=torch.channels_last)
        loop = Loop(replace(config, device="cuda"), open_data(str(path)), network, tmp_path, gpu)
        trained, batches = loop.wrapped(), loop.batches()
        for _ in range(10):
            loop._step(trained, next(batches))
            loop.advance()
        weights.append(states(loop))
        assert len(loop.step.take()) == 10
    for plain, other in zip(*weights, strict=True):
        torch.testing.assert_close(plain.float(), other.float(), rtol=1e-3, atol=1e-4)
