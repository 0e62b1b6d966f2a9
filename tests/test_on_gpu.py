"""What only a GPU can show; `-m gpu` chooses these. They need torch, torchvision and what classification/ imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from made_cifar import CIFAR, write_cifar
from made_pretraining import SMALL, metrics
from made_processes import PATIENCE, wait_for

from resnet_backbone.classification.data.batches import training_batches
from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.training.loop import Loop
from resnet_backbone.classification.training.train import pretrain
from resnet_backbone.engine.interrupt import Stopped

ROOT = Path(__file__).parents[1]
DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
ON_GPU = replace(CIFAR, device=DEVICE)


def last(folder):
    return torch.load(folder / "last.pth", weights_only=True)


def stopped_at(monkeypatch, iteration):
    """A run gets SIGTERM in this iteration."""
    step = Loop._step

    def signalled(self, *arguments):
        if self.iteration == iteration:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments)

    monkeypatch.setattr(Loop, "_step", signalled)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_trains_to_finite_weights(tmp_path, precision):
    outcome = pretrain(replace(ON_GPU, precision=precision), write_cifar(tmp_path / "cifar.npz"), tmp_path / "run")
    state = last(tmp_path / "run")
    assert state["iteration"] == CIFAR.iterations and outcome.weights.is_file()
    assert all(bool(value.isfinite().all()) for value in state["model"].values())


@pytest.mark.parametrize("capture", [False, True])
def test_a_stopped_deterministic_run_ends_in_the_bits_of_the_whole(tmp_path, monkeypatch, capture):
    data, config = write_cifar(tmp_path / "cifar.npz"), replace(ON_GPU, deterministic=True, capture=capture)
    pretrain(config, data, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stopped_at(patch, 12)
        pretrain(config, data, tmp_path / "parts")
    assert last(tmp_path / "parts")["iteration"] < CIFAR.iterations
    pretrain(config, data, tmp_path / "parts", resume=True)
    for part in ("model", "ema"):
        whole, parts = last(tmp_path / "whole")[part], last(tmp_path / "parts")[part]
        assert all(map(torch.equal, whole.values(), parts.values()))
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("capture", [False, True])
def test_compiled_in_channels_last_and_bf16_learns_as_it_does_without(tmp_path, capture):
    data, errors = write_cifar(tmp_path / "cifar.npz", 2000), []
    config = replace(ON_GPU, iterations=200, batch_size=32, steps=(150.0,), test_every=0.0, precision="bf16")
    for changes in ({}, {"compile": True, "channels_last": True, "capture": capture}):
        folder = tmp_path / f"run{len(errors)}"
        outcome = pretrain(replace(config, **changes), data, folder)
        errors.append(outcome.accuracy.numbers("val")["val/error"])
    assert abs(errors[0] - errors[1]) <= 25, "of twenty images, five"


AUGMENTED = replace(SMALL, device=DEVICE, workers=2, policy="randaugment", erasing=0.5, colour_shift=0.1, accumulate=2)


def test_what_the_gpu_augments_is_what_the_cpu_would(folders):
    train, there = open_data(str(folders)).train, replace(AUGMENTED, augment_on="device")
    gpu, cpu = (list(islice(training_batches(train, there, 0, torch.device(one)), 8)) for one in (DEVICE, "cpu"))
    torch.cuda.synchronize()
    for one, other in zip(gpu, cpu, strict=True):
        assert one.images.device.type == DEVICE and one.images.dtype == torch.uint8 and not one.changes
        apart = (one.images.cpu().int() - other.images.int()).abs()
        assert (apart > 1).float().mean() < 0.01 and torch.equal(one.labels, other.labels)


def test_a_stopped_run_that_is_augmented_on_the_gpu_ends_in_the_bits_of_the_whole(folders, tmp_path, monkeypatch):
    config = replace(AUGMENTED, deterministic=True, save_every=0.5)
    pretrain(config, folders, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stopped_at(patch, 5)
        pretrain(config, folders, tmp_path / "parts")
    pretrain(config, folders, tmp_path / "parts", resume=True)
    whole, parts = (last(tmp_path / folder)["model"] for folder in ("whole", "parts"))
    assert all(map(torch.equal, whole.values(), parts.values()))
    torch.use_deterministic_algorithms(False)


def test_imagenette_killed_and_stopped_goes_on_to_the_end(tmp_path, real_data):
    command = [
        sys.executable, "tools/pretrain_imagenet.py", "--config", "configs/imagenet/R18.yaml", "--resume", "--data",
        str(real_data / "imagenette"), "--output", str(tmp_path / "run"), "iterations", "90", "steps", "[60]",
        "batch_size", "32", "save_every", "10", "test_every", "40", "precision", "bf16", "channels_last", "true",
        "workers", "4", "exact_norm_images", "64", "device", DEVICE,
    ]  # fmt: skip
    checkpoint = tmp_path / "run/last.pth"
    for sent, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 130)):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = subprocess.Popen(command, cwd=ROOT)
        wait_for(checkpoint, process, newer_than=before)
        process.send_signal(sent)
        assert process.wait(PATIENCE) == code
    assert last(tmp_path / "run")["iteration"] < 90
    subprocess.run(command, cwd=ROOT, check=True)
    assert last(tmp_path / "run")["iteration"] == 90 and (tmp_path / "run/model.safetensors").is_file()
    seen = [line["iteration"] for line in metrics(tmp_path / "run") if "loss" in line]
    assert seen == sorted(set(seen)) and seen[-1] >= 80
