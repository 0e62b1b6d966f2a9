"""How far a run is: one line that renews itself on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

T = TypeVar("T")
_BAR = 20


class Progress:
    """Shows steps done, time left, values of the caller, and the share of time spent waiting for data.

    Args:
        total: number of steps of the whole run.
        label: what is counted, at the start of the line.
        done: steps that were done before, by a run that this one continues.
        stream: where to; a terminal gets a bar, anything else plain lines.
        interval: seconds between two lines in a log (a terminal is renewed ten times a second at most).
        clock: seconds, for tests.
        show: False counts and measures, but shows nothing (other processes than the first).
    """

    def __init__(
        self,
        total: int,
        label: str = "",
        *,
        done: int = 0,
        stream: TextIO | None = None,
        interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        show: bool = True,
    ) -> None:
        self.total, self.label, self.done = total, label, done
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._interval = 0.1 if self._terminal else interval
        self._clock, self._visible = clock, show
        self._first = done
        self._start = self._shown = clock()
        self._waited = 0.0
        self._width = 0

    def waiting(self, batches: Iterable[T]) -> Iterator[T]:
        """Passes `batches` on and counts the time that each made the loop wait."""
        iterator = iter(batches)
        while True:
            before = self._clock()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited += self._clock() - before
            yield batch

    @property
    def data_share(self) -> float:
        """Share of the time so far, 0..1, that went into waiting for data."""
        return self._waited / max(self._clock() - self._start, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the steps of this run; None before the first."""
        steps = self.done - self._first
        return (self._clock() - self._start) / steps * (self.total - self.done) if steps else None

    @property
    def due(self) -> bool:
        """Whether the next step's values will be shown."""
        return self._visible and (self._clock() - self._shown >= self._interval or self.done + 1 == self.total)

    def step(self, **values: float | str) -> None:
        """One more step is done; shows the line if it is time to, and always for the last step."""
        due, self.done = self.due, self.done + 1
        if due:
            self._shown = self._clock()
            self._show(values)

    def note(self, text: str) -> None:
        """Writes a line of its own, which stays."""
        self._clear()
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Ends the renewed line."""
        if self._terminal and self._width:
            print(file=self._stream, flush=True)
            self._width = 0

    def _show(self, values: dict[str, float | str]) -> None:
        shown = [
            f"{name} {value if isinstance(value, str) else format(value, '.4g')}" for name, value in values.items()
        ]
        left = self.seconds_left
        parts = [
            f"{self.done}/{self.total}",
            *shown,
            f"data {100 * self.data_share:.0f} %" if self._waited else "",
            "" if left is None else f"{duration(left)} left",
        ]
        text = " | ".join(part for part in parts if part)
        if not self._terminal:
            print(f"{self.label} {text}".strip(), file=self._stream, flush=True)
            return
        full = round(_BAR * self.done / max(self.total, 1))
        line = f"{self.label} [{'#' * full}{'.' * (_BAR - full)}] {text}".strip()
        print("\r" + line.ljust(self._width), end="", file=self._stream, flush=True)
        self._width = len(line)

    def _clear(self) -> None:
        if self._terminal and self._width:
            print("\r" + " " * self._width + "\r", end="", file=self._stream)
            self._width = 0


def duration(seconds: float) -> str:
    """As people say it: "0:42", "12:05", "3:10:00", "2 days 4:00:00"."""
    whole = max(round(seconds), 0)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    clock = f"{hours}:{minutes:02}:{rest:02}" if hours or days else f"{minutes}:{rest:02}"
    return f"{days} day{'s' if days > 1 else ''} {clock}" if days else clock
