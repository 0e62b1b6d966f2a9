"""What was looked at before a long run: findings under headings, and whether it should start."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Level = Literal["ok", "note", "warning", "error"]
SHARED_MEMORY = Path("/dev/shm")
GIGABYTE = 1e9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; what is not "ok" or a "note" says its remedy."""

    level: Level
    text: str


@dataclass
class Report:
    """Findings under headings, said as they come.

    Args:
        say: gets each line.
    """

    say: Callable[[str], None] = print
    findings: list[Finding] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """What the next findings are about."""
        self.say(f"{text}:")

    def add(self, *findings: Finding) -> None:
        """Says and keeps them."""
        for finding in findings:
            self.say(f"  {finding.level:<7}  {finding.text}")
            self.findings.append(finding)

    @property
    def exit_code(self) -> int:
        """1 where there is an error, else 0."""
        return int(any(finding.level == "error" for finding in self.findings))

    def verdict(self) -> str:
        """The last line."""
        errors, warnings = (sum(f.level == level for f in self.findings) for level in ("error", "warning"))
        if errors:
            return f"Training should not start: {errors} error{'s' * (errors > 1)}, {warnings} to think about."
        return f"Training can start{f'; {warnings} to think about' if warnings else ''}."


def disk(folder: Path, checkpoint: int) -> Finding:
    """Room for the checkpoints of a run, in a folder that can be written to.

    Args:
        folder: that they go to; need not be there yet.
        checkpoint: bytes of one; while it is replaced there are two, and the final weights stand beside it.
    """
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not there.is_dir():
        return Finding("error", f"{there} is a file and no folder; choose another folder: --output DIR")
    free = shutil.disk_usage(there).free
    text = f"{free / GIGABYTE:.1f} GB free in {folder}, a checkpoint takes {checkpoint / GIGABYTE:.2f} GB"
    if not os.access(there, os.W_OK):
        return Finding("error", f"{there} cannot be written to; choose another folder: --output DIR")
    if free < 3 * checkpoint:
        return Finding("error", f"{text}, and three are needed at a time; make room or choose another --output DIR")
    return Finding("ok", text)


def shared_memory(needed: int, *, free: int | None = None) -> Finding | None:
    """Room for the batches that data loaders' workers hand over; None where that is no question.

    Args:
        needed: bytes of all batches that wait at a time.
        free: bytes; None looks at the machine.
    """
    if not needed or (free is None and not SHARED_MEMORY.is_dir()):
        return None
    free = shutil.disk_usage(SHARED_MEMORY).free if free is None else free
    text = f"{free / GIGABYTE:.2f} GB of shared memory free, the data loader's workers need {needed / GIGABYTE:.2f} GB"
    if free < needed:
        return Finding("error", f"{text}; start the container with --shm-size=8g, or set DATALOADER.NUM_WORKERS 0")
    return Finding("ok", text)
