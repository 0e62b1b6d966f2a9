"""What a user can mend is one sentence with its remedy, whatever the state of the terminal that it goes to."""

from __future__ import annotations

import io
import os
import signal
import sys

import pytest
import torch

from resnet_backbone.engine import lifeline as module
from resnet_backbone.engine.guard import guarded, say_and_leave


def closed() -> io.TextIOBase:
    stream = io.StringIO()
    stream.close()
    return stream


class Broken(io.StringIO):
    """A pipe that nobody reads any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("stream", [closed, Broken])
def test_a_terminal_that_is_gone_changes_no_exit_code(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream())
    assert say_and_leave("error: no such file", 1) == 1


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "lower NUM_WORKERS"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "lower NUM_WORKERS"),
        (
            RuntimeError(
                "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers "
                "are out of shared memory. Please try to raise your shared memory limit."
            ),
            "a container with --shm-size=8g, or set NUM_WORKERS to 0",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB.\nmore"), "a smaller batch"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), "a smaller batch"),
        (MemoryError(), "lower NUM_WORKERS, or take a smaller batch"),
    ],
)
def test_memory_that_is_full_names_the_remedy(error, remedy, capsys):
    def action() -> int:
        raise error

    assert guarded(action, memory_remedy="a smaller batch", workers="NUM_WORKERS") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and f"Remedy: {remedy}" in said and said.count("\n") == 1


def test_an_interrupt_in_the_middle_of_torchs_writing_is_an_interrupt(capsys):
    class Interrupted(io.BytesIO):
        def write(self, data: bytes) -> int:
            if self.tell():
                raise KeyboardInterrupt
            return super().write(data)

    def action() -> int:
        torch.save({"weight": torch.zeros(9)}, Interrupted())
        return 0

    assert guarded(action, memory_remedy="") == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_sigterm_does_not_interrupt_who_leaves_already(capsys):
    """torchrun sends it to all others as soon as the first of them is gone."""

    def action() -> int:
        raise ValueError("7.png: not readable")

    def leave(line: str, code: int) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return say_and_leave(line, code)

    assert guarded(action, memory_remedy="", leave=leave) == 1
    assert capsys.readouterr().err == "error: 7.png: not readable\n"


def test_an_error_of_the_program_keeps_its_traceback():
    def action() -> int:
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        guarded(action, memory_remedy="a smaller batch")


class Left(Exception):
    """In place of the process's end."""


def test_a_process_that_cannot_say_why_ends_all_the_same(monkeypatch):
    def leave(code: int) -> None:
        raise Left(code)

    def fail(line: str, code: int) -> int:
        raise RuntimeError("lost")

    monkeypatch.setattr(module.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(module.distributed, "get_world_size", lambda: 1)
    monkeypatch.setattr(module.distributed, "broadcast_object_list", lambda told, src: None)
    monkeypatch.setattr(module, "say_and_leave", fail)
    monkeypatch.setattr(module.os, "_exit", leave)
    with pytest.raises(Left) as left:
        module.Lifeline("localhost", "go on").fail("error: no such file", 1)
    assert left.value.args == (1,)
