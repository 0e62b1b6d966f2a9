"""How tests wait for other processes: as long as a busy machine takes, but not for ever."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PATIENCE = 300.0
"""Seconds that only what hangs takes."""
PATIENT = timedelta(seconds=PATIENCE)


def codes_of(processes: Sequence[BaseProcess]) -> list[int | None]:
    """Exit codes of processes that are started together; None of one that hangs, which is ended."""
    for one in processes:
        one.start()
    deadline = time.monotonic() + PATIENCE
    # `join` would wait for their children too, which may outlive them.
    while any(one.is_alive() for one in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    codes = [one.exitcode for one in processes]
    for one in processes:
        one.kill()
    return codes


def wait_for(path: Path, process: subprocess.Popen[Any] | None = None, newer_than: int = 0) -> None:
    """Until there is something in a file, as long as the process that is to write it has not ended.

    Args:
        newer_than: nanoseconds, of a file that was there before.
    """
    deadline = time.monotonic() + PATIENCE
    while not (path.exists() and path.stat().st_size and path.stat().st_mtime_ns > newer_than):
        assert process is None or process.poll() is None, f"{path}: not written before the end"
        assert time.monotonic() < deadline, f"{path}: not written"
        time.sleep(0.05)
