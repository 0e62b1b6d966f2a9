"""A queue of long runs that can be cut off at any time: the same command goes on where it stopped."""

from __future__ import annotations

import datetime
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT, hardware, versions
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.interrupt import interrupt_once, on_sigterm

STOPPED = 130
ORIGIN = "origin.json"
"""Beside a run: on what it ran, and at which commit, written by the queue."""


@dataclass(frozen=True)
class Job:
    """One run of a tool.

    Attributes:
        folder: where it writes.
        words: what is typed in the repository's root, "python" first; goes on where the run stopped.
        final: what it leaves in its folder when it is finished.
        names: this machine's paths in `words`, and what a reader calls them.
    """

    folder: Path
    words: tuple[str, ...]
    final: str
    names: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def finished(self) -> bool:
        return (self.folder / self.final).is_file()

    @property
    def public(self) -> str:
        """The command without this machine's paths."""
        words = (_named(word, self.names) for word in self.words)
        return " ".join(word if re.fullmatch(r"[\w./:$-]+", word) else shlex.quote(word) for word in words)


def _named(word: str, names: Mapping[str, str]) -> str:
    for path in sorted(names, key=len, reverse=True):
        if word == path or word.startswith(f"{path}/"):
            return names[path] + word[len(path) :]
    return word


def work(queue: Sequence[Job], deadline: float, done: Callable[[Job], object] | None) -> tuple[list[Job], bool]:
    """Runs what is not finished, one after the other, until `deadline` (of `time.monotonic`).

    Args:
        done: is told each run that gets finished.

    Returns:
        The runs that failed, and whether all others are finished.
    """
    failed: list[Job] = []
    for job in queue:
        if job.finished:
            continue
        if time.monotonic() >= deadline:
            return failed, False
        write_origin(job.folder, job.public)
        print(f"{job.folder}: begins or goes on", flush=True)
        code = call([sys.executable, *job.words[1:]], deadline)
        if code == STOPPED:
            print(f"{job.folder}: stopped and saved; the same command goes on", flush=True)
            return failed, False
        if code:
            failed.append(job)
        elif done:
            done(job)
    return failed, True


def call(words: Sequence[str], deadline: float) -> int:
    """The exit code of a command, which gets a SIGTERM at the deadline and whenever this process is interrupted.

    It is 130 of one that the signal ended, at whatever moment.
    """
    process = subprocess.Popen(words, cwd=ROOT)
    try:
        with on_sigterm(interrupt_once):
            return process.wait(max(deadline - time.monotonic(), 0))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.terminate()
        # While it still imports, a process dies of the signal instead of saying 130.
        return STOPPED if process.wait() else 0


def run(queue: Sequence[Job], limit: float | None, done: Callable[[Job], object] | None) -> int:
    """`work` for `limit` seconds (None: to the end), to the exit code of a tool.

    Returns:
        0, 1 where a run failed, 130 where something is left to do.
    """
    versions()  # a checkout that changes during the run would name another commit
    failed, complete = work(queue, time.monotonic() + (limit or float("inf")), done)
    for job in failed:
        print(f"error: {job.folder}: failed; its log.txt says why", file=sys.stderr)
    return 1 if failed else 0 if complete else STOPPED


def origin(command: str, commit: str) -> dict[str, Any]:
    """Where a run comes from that is made on this machine."""
    return {"command": command, "date": datetime.date.today().isoformat(), "hardware": hardware(), "commit": commit}


def write_origin(folder: Path, command: str) -> None:
    """At the start of a run and whenever it goes on: all commits that it was trained at are kept.

    Raises:
        OSError: it cannot be written.
    """
    now, path = origin(command, versions()["resnet_backbone"]), folder / ORIGIN
    if path.is_file():
        before = str(json.loads(path.read_text())["commit"])
        now["commit"] = before if now["commit"] in before.split("; ") else f"{before}; {now['commit']}"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(json.dumps(now).encode()))


def origin_of(folder: Path, commit: str = "unknown") -> dict[str, Any]:
    """Where a run comes from.

    Args:
        commit: of a run that does not say its own.
    """
    path = folder / ORIGIN
    return json.loads(path.read_text()) if path.is_file() else origin("recorded by its folder", commit)
