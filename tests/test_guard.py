"""What a user can mend is one sentence with its remedy, whatever the state of the terminal that it goes to."""

from __future__ import annotations

import io
import sys

import pytest

from resnet_backbone.engine import lifeline as module
from resnet_backbone.engine.guard import say_and_leave


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
