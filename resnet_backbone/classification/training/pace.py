"""How fast a loop is: seconds that it waits for images, seconds that it computes, and what to do about the first."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch

from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.engine import group
from resnet_backbone.engine.loop import PERIOD
from resnet_backbone.images.region import library

T = TypeVar("T")

LIMIT = 0.2
"""Share of the time that may be spent waiting for images before it is said."""
LINES = 5
"""Lines of metrics over which that share is taken."""


@dataclass(frozen=True)
class Spent:
    """Seconds that so many iterations waited for images, and computed."""

    steps: int = 0
    data: float = 0.0
    compute: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.steps + other.steps, self.data + other.data, self.compute + other.compute)

    @property
    def seconds(self) -> float:
        """Both."""
        return self.data + self.compute

    @property
    def share(self) -> float:
        """Of the waiting, 0..1."""
        return self.data / max(self.seconds, 1e-9)

    def speed(self, batch_size: int) -> float:
        """Images a second."""
        return self.steps * batch_size / max(self.seconds, 1e-9)


class Timer(Protocol):
    """Marks in what computes, and the seconds between them."""

    live: bool
    """Whether they can be read at once; else behind `wait`."""

    def mark(self) -> Any: ...

    def seconds(self, first: Any, second: Any) -> float: ...

    def wait(self) -> None: ...


class Pace:
    """Measures every iteration of a loop; tests and saves between them do not count.

    Of a GPU, which computes while the loop goes on, its own times count: who waits for images while it is busy loses
    nothing.

    Args:
        batch_size: of all processes.
        timer: of the device.
        clock: seconds of the loop.

    Attributes:
        whole: all iterations up to the last line.
        warm: those behind the first line, in which workers start and kernels are chosen.
    """

    def __init__(self, batch_size: int, timer: Timer, clock: Callable[[], float] = time.monotonic) -> None:
        self._batch_size, self._timer, self._clock = batch_size, timer, clock
        self._waited, self._start, self._end = 0.0, None, None
        self._marks: list[tuple[float, Any, Any]] = []
        self._recent: deque[Spent] = deque(maxlen=PERIOD)
        self._line, self._first, self._said = Spent(), True, False
        self._lines: deque[Spent] = deque(maxlen=LINES)
        self.whole = self.warm = Spent()

    def waiting(self, batches: Iterator[T]) -> Iterator[T]:
        """Passes `batches` on."""
        began = self._clock()
        for batch in batches:
            self._waited, self._start = self._clock() - began, self._timer.mark()
            yield batch
            began = self._clock()

    def stepped(self) -> None:
        """The step with the batch that was passed on last is done, or under way on a GPU."""
        self._marks.append((self._waited, self._start, self._timer.mark()))
        if self._timer.live:
            self._read()

    @property
    def speed(self) -> float | None:
        """Images a second over the last iterations; None before they are known."""
        return sum(self._recent, Spent()).speed(self._batch_size) if self._recent else None

    def line(self) -> dict[str, float]:
        """For metrics.jsonl: of the iterations since the last call, in the process that waited longest.

        All processes call it.
        """
        self._timer.wait()
        self._read()
        spent = max(group.gather_all(self._line), key=lambda one: one.data)
        self.whole += spent
        if not self._first:
            self._lines.append(spent)
            self.warm += spent
        self._first, self._line = False, Spent()
        if not spent.steps:
            return {}
        return {
            "images_per_second": spent.speed(self._batch_size),
            "data_seconds": spent.data / spent.steps,
            "compute_seconds": spent.compute / spent.steps,
        }

    def bound(self) -> float | None:
        """The share of the waiting over the last `LINES` lines, the first time that it is above `LIMIT`; else None."""
        share = sum(self._lines, Spent()).share
        if self._said or len(self._lines) < LINES or share <= LIMIT:
            return None
        self._said = True
        return share

    def _read(self) -> None:
        for waited, start, end in self._marks:
            idle = waited if self._end is None else min(waited, self._timer.seconds(self._end, start))
            one = Spent(1, idle, self._timer.seconds(start, end))
            self._line += one
            self._recent.append(one)
            self._end = end
        self._marks = []


def timer_of(device: torch.device) -> Timer:
    """Of a GPU its own, else the clock."""
    return _OfGpu(device) if device.type == "cuda" else _OfClock()


def remedies(config: TrainConfig) -> str:
    """What makes images come faster."""
    cores = os.cpu_count() or 1
    ways = [f"more workers ({config.workers} now, this machine has {cores} cores)"] if config.workers < cores else []
    if config.reader == "plain":
        ways.append("reader fast")
    if library() is None:
        ways.append("resnet-backbone build-decoder")
    if config.augment_on == "workers":
        ways.append("augment_on auto")
    ways.append("smaller files (ImageNet: tools/prepare_imagenet.py --short-side 320)")
    return ", ".join(ways)


class _OfClock:
    live = True

    def mark(self) -> float:
        return time.monotonic()

    def seconds(self, first: float, second: float) -> float:
        return second - first

    def wait(self) -> None:
        return None


class _OfGpu:
    live = False

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(self, first: torch.cuda.Event, second: torch.cuda.Event) -> float:
        return float(first.elapsed_time(second)) / 1000

    def wait(self) -> None:
        torch.cuda.synchronize(self._device)
