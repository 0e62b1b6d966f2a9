"""CIFAR's networks by the tool's own loop, from draw to saved checkpoint: eager, compiled and captured."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cifar_record import PAPER
from benchmarks.cost import cost_of
from resnet_backbone.classification.data.splits import Array, Data
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.training.classifier import build_classifier
from resnet_backbone.classification.training.loop import Loop
from resnet_backbone.engine.loop import PERIOD

NETWORKS = {"cuda": ("cifar_resnet20", "cifar_resnet56", "cifar_resnet110"), "cpu": ("cifar_resnet20",)}
MODES: dict[str, dict[str, Any]] = {"eager": {}, "compiled": {"compile": True}, "captured": {"capture": True}}
LINES = {"cuda": 40, "cpu": 3}
"""Of metrics in a run, the first two of which warm up."""
NOTE = (
    "The recipe of the paper, batch 128, on generated images of CIFAR's size in the device's memory, by the loop of "
    "tools/pretrain_imagenet.py with its metrics and checks, without tests. Speeds of 20 iterations each, after the "
    "first two."
)


class Timed(Loop):
    """Notes the time of each line of metrics, when the device has been waited for."""

    stamps: list[float]

    def measured(self) -> dict[str, float]:
        """As ever."""
        values = super().measured()
        self.stamps.append(time.perf_counter())
        return values


def images(count: int) -> Data:
    """Noise in ten classes."""
    rng = np.random.default_rng(0)
    split = Array(rng.integers(0, 256, (count, 3, 32, 32), np.uint8), np.arange(count) % 10, "generated")
    return Data(split, split, None, tuple(map(str, range(10))), "generated")


def speed(config: TrainConfig, data: Data, device: torch.device) -> float:
    """Images a second of one run: the median over the lines of metrics."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    network = build_classifier(config, len(data.classes)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with tempfile.TemporaryDirectory() as folder:
        loop = Timed(config, data, network, Path(folder), device)
        loop.stamps = []
        loop.run()
    passed = np.diff(loop.stamps)[1:]
    return config.batch_size * PERIOD / float(statistics.median(passed))


def measure_all(device: torch.device, rounds: int) -> Iterator[list[dict[str, Any]]]:
    """A run for each mode, network by network, the modes in turns; a graph needs a GPU."""
    modes = [mode for mode in MODES if device.type == "cuda" or mode == "eager"]
    data = images(50_000 if device.type == "cuda" else 512)
    for network in NETWORKS[device.type]:
        config = replace(
            PAPER, network=network, precision="bf16", iterations=PERIOD * LINES[device.type], steps=(1e6,),
            test_every=0.0, save_every=0.0, workers=0, device=device.type,
        )  # fmt: skip
        speeds: dict[str, list[float]] = {mode: [] for mode in modes}
        for number in range(rounds):
            for mode in modes[:: -1 if number % 2 else 1]:
                speeds[mode].append(speed(replace(config, **MODES[mode]), data, device))
        runs = [run_of(network, mode, speeds[mode], speeds["eager"], device) for mode in modes]
        print(*runs, sep="\n", flush=True)
        yield runs


def run_of(
    network: str, mode: str, speeds: Sequence[float], eager: Sequence[float], device: torch.device
) -> dict[str, Any]:
    """Images a second, seconds of an epoch, and the ratio to eager of the same rounds."""
    middle = statistics.median(speeds)
    return {
        "network": network, "mode": mode, "device": device.type, "batch": PAPER.batch_size, "images_s": middle,
        "epoch_s": 50_000 / middle, "ratio": statistics.median(a / b for a, b in zip(speeds, eager, strict=True)),
        "train_gflop": cost_of(network, 32, num_classes=10).train_gflop,
        "images_s_all": [round(one, 1) for one in speeds],
    }  # fmt: skip
