"""Ctrl-C and SIGTERM end a loop between two steps, so that what is saved is whole."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any


class Stopped(Exception):
    """The user or the system asked a run to end; what it had done is saved, as the message says."""


SIGNALS = (signal.SIGINT, signal.SIGTERM)


class GracefulStop:
    """While entered, a signal only sets `asked`; a second Ctrl-C interrupts at once as usual.

    SIGTERM never does: Slurm and torchrun send it twice, and a launcher's end sends its processes a SIGINT.
    Outside the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._keyboard = False
        self._at_once: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> GracefulStop:
        if _handlers_allowed():
            self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # A second SIGTERM would interrupt who is on the way out with what is to be said.
            leaving = self.asked and kind is not None and handler is interrupt_once
            signal.signal(number, signal.SIG_IGN if leaving else handler)

    @contextlib.contextmanager
    def at_once(self, line: str) -> Iterator[None]:
        """While entered, where nothing would be lost, every signal interrupts; one that came before does too.

        Raises:
            KeyboardInterrupt: says `line`.
        """
        self._at_once = line
        try:
            if self.asked:
                raise KeyboardInterrupt(line)
            yield
        finally:
            self._at_once = None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        again = number == signal.SIGINT and self._keyboard
        self._keyboard |= number == signal.SIGINT
        self.asked = True
        if again or self._at_once is not None:
            raise KeyboardInterrupt(self._at_once or "")


@contextlib.contextmanager
def on_sigterm(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    """While entered, `handler` gets SIGTERM; does nothing outside the main thread."""
    if not _handlers_allowed():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def interrupt_once(number: int, frame: FrameType | None) -> None:
    """A handler: interrupts as Ctrl-C does, and ignores the signal from then on.

    Raises:
        KeyboardInterrupt: always.
    """
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def pass_on(number: int, frame: FrameType | None) -> None:
    """A handler for SIGTERM of a process that only waits for its children: theirs to obey.

    Raises:
        KeyboardInterrupt: there are none yet.
    """
    children = multiprocessing.active_children()
    if not children:
        raise KeyboardInterrupt("interrupted before any process was started")
    for child in children:
        child.terminate()


def obey_parent_alone(worker: int = 0) -> None:
    """In a data loader's worker: Ctrl-C and SIGTERM that go to all processes are for the parent to obey.

    A worker that died of them would be an error in the middle of the parent's step.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_await_parents_sigterm, daemon=True).start()


def _await_parents_sigterm() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _handlers_allowed() -> bool:
    return threading.current_thread() is threading.main_thread()
