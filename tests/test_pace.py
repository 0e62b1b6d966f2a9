"""Seconds of waiting and of computing apart: by a clock that is told, on a device that is waited for and on one that
computes by itself."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from resnet_backbone.classification.data.splits import Array, Data
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.training import loop as loop_module
from resnet_backbone.classification.training.classifier import build_classifier
from resnet_backbone.classification.training.loop import Loop
from resnet_backbone.classification.training.pace import LINES, Pace, remedies

TINY = TrainConfig(
    network="resnet18", stem_out_channels=4, res2_out_channels=4, iterations=140, batch_size=2, size=16, test_size=16,
    test_resize=16, workers=0, device="cpu", test_every=0, save_every=0, scale=(0.9, 1.0),
)  # fmt: skip


class Device:
    """Computes each step in `step` seconds, behind those that it was given before; the loop waits for it or not."""

    def __init__(self, step: float, live: bool) -> None:
        self.now, self.free, self.step, self.live = 0.0, 0.0, step, live

    def mark(self) -> float:
        return max(self.now, self.free)

    def seconds(self, first: float, second: float) -> float:
        return second - first

    def wait(self) -> None:
        self.now = max(self.now, self.free)

    def compute(self) -> None:
        self.free = max(self.now, self.free) + self.step
        if self.live:
            self.wait()


class Hundredths(Device):
    """Whatever lies between two marks took 0.01 s."""

    def seconds(self, first: float, second: float) -> float:
        return 0.01


def lines_of(read: float, step: float, live: bool, pause: float = 0.0, lines: int = LINES + 2):
    """Five iterations a line, of ten images; reading goes on while a device computes by itself."""
    device = Device(step, live)
    pace = Pace(10, device, lambda: device.now)

    def batches():
        ready = 0.0
        while True:
            ready = max(ready, device.now if live else 0.0) + read
            device.now = max(device.now, ready)
            yield None

    iterator, found = pace.waiting(batches()), []
    for _ in range(lines):
        for _ in range(5):
            next(iterator)
            device.compute()
            pace.stepped()
            device.wait() if pause else None
            device.now += pause  # a test, or a save
        found.append((pace.line(), pace.bound()))
    return found, pace


def test_the_two_add_up():
    found, pace = lines_of(read=0.1, step=0.3, live=True)
    for line, _ in found:
        expected = {"images_per_second": 25, "data_seconds": 0.1, "compute_seconds": 0.3}
        assert line == {key: pytest.approx(value) for key, value in expected.items()}
    assert pace.speed == pytest.approx(25) and (pace.whole.steps, pace.warm.steps) == (5 * (LINES + 2), 5 * (LINES + 1))


def test_pauses_do_not_count():
    for live in (True, False):
        line = lines_of(read=0.1, step=0.3, live=live, pause=7.0)[0][-1][0]
        assert line["compute_seconds"] == pytest.approx(0.3) and line["data_seconds"] <= 0.1 + 1e-9


def test_waiting_is_said_once_and_behind_a_first_line():
    assert [bound for _, bound in lines_of(0.1, 0.3, True)[0]] == [None] * LINES + [pytest.approx(0.25), None]
    assert {bound for _, bound in lines_of(0.05, 0.3, True)[0]} == {None}


def test_who_waits_while_a_gpu_is_busy_loses_nothing():
    # Read in 0.29 s while the GPU computes for 0.3 s: the loop waits nearly always, the GPU never.
    line = lines_of(read=0.29, step=0.3, live=False)[0][-1][0]
    assert line["data_seconds"] == pytest.approx(0) and line["images_per_second"] == pytest.approx(10 / 0.3)
    line = lines_of(read=0.4, step=0.3, live=False)[0][-1][0]
    assert line["data_seconds"] == pytest.approx(0.1) and line["compute_seconds"] == pytest.approx(0.3)
    assert line["images_per_second"] == pytest.approx(10 / 0.4)


def test_remedies_are_those_that_are_left():
    assert "reader fast" in remedies(replace(TINY, reader="plain")) and "reader" not in remedies(TINY)
    assert "more workers" not in remedies(replace(TINY, workers=10_000))


def test_a_run_says_that_its_loader_is_slow(tmp_path, monkeypatch, caplog):
    class Slow(Array):
        def read(self, index):
            time.sleep(0.01)
            return super().read(index)

    noise = np.random.default_rng(0).integers(0, 256, (8, 3, 16, 16), np.uint8)
    split = Slow(noise, np.arange(8) % 2, "train")
    data = Data(split, split, None, ("a", "b"), "made")
    monkeypatch.setattr(loop_module.loop, "PERIOD", 2)
    monkeypatch.setattr(loop_module, "timer_of", lambda device: Hundredths(1, True))
    config = replace(TINY, iterations=2 * (LINES + 2))
    with caplog.at_level(logging.WARNING):
        Loop(config, data, build_classifier(config, 2), tmp_path, torch.device("cpu")).run()
    said = [record.getMessage() for record in caplog.records if "loader-bound" in record.getMessage()]
    assert (
        len(said) == 1
        and "loader-bound: 50 % of the time is spent waiting for images; remedy: more workers (0 now" in said[0]
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == LINES + 2
    for line in lines[1:]:  # before the first step nothing was computed
        assert (line["data_seconds"], line["compute_seconds"], line["images_per_second"]) == (0.01, 0.01, 100)
