"""What was looked at before a long run: findings under headings, and whether it should start."""

from __future__ import annotations

import platform
import resource
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import torch

from resnet_backbone.engine.guard import MEMORY

Level = Literal["ok", "note", "warning", "error"]


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


@contextmanager
def errors_into(report: Report) -> Iterator[None]:
    """What a run would end with becomes a finding, and the next part is looked at.

    Raises:
        Exception: memory is full, which has a remedy of its own.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        report.add(Finding("error", str(error)))
    except Exception as error:
        if isinstance(error, MemoryError) or any(sign in str(error) for sign in MEMORY):
            raise
        said = (str(error).strip() or "no more is said").splitlines()[0]
        report.add(Finding("error", f"{type(error).__name__}: {said}; a run would break off there"))


def versions(packages: Iterable[str]) -> Finding:
    """Python's and the packages', which are installed."""
    return Finding("ok", ", ".join([f"Python {platform.python_version()}", *map(_version, packages)]))


def memory(device: str) -> str:
    """The most that this process has used so far: of the GPU if `device` is one, else of the machine."""
    if device.startswith("cuda"):
        card = torch.cuda.get_device_properties(device)
        used = torch.cuda.max_memory_allocated(device) / 2**30
        return f"{used:.1f} of {card.total_memory / 2**30:.0f} GiB of GPU memory at most, on {card.name}"
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f"{used:.1f} GiB of memory at most, on {device} with {torch.get_num_threads()} threads"


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} without version"
