"""Whether disk and shared memory have room for a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from resnet_backbone.engine.preflight import Finding

SHARED_MEMORY = Path("/dev/shm")
GIGABYTE = 1e9
PREFETCHED = 2
"""Batches that each worker of torch's loader has ready."""


def room(
    output: Path, checkpoint: int, batch: int, workers: int, workers_key: str = "workers", *, kept: int = 0
) -> list[Finding]:
    """Room for the checkpoints in `output`, and for the batches that this machine's workers hand over.

    Args:
        checkpoint: bytes of one, as `checkpoint_size` knows.
        batch: bytes of all batches of one step on this machine.
        workers: of each process.
        workers_key: what their number is called.
        kept: checkpoints besides the last one.
    """
    found = [disk(output, checkpoint, kept), shared_memory(PREFETCHED * workers * batch, workers_key)]
    return [finding for finding in found if finding is not None]


def refuse(findings: Iterable[Finding]) -> None:
    """Before a run.

    Raises:
        ValueError: one of them is an error.
    """
    for finding in findings:
        if finding.level == "error":
            raise ValueError(finding.text)


def checkpoint_size(model: nn.Module, *, moments: int = 1, averaged: bool = False) -> int:
    """Bytes of a model with its optimiser.

    Args:
        moments: numbers that the optimiser keeps of each parameter: 1 for SGD with momentum, 2 for Adam.
        averaged: whether an average of the weights is kept too.
    """
    state = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return state * (1 + averaged) + trained * moments


def disk(folder: Path, checkpoint: int, kept: int = 0) -> Finding:
    """Room for the checkpoints of a run, in a folder that can be written to.

    Args:
        folder: that they go to; need not be there yet.
        checkpoint: bytes of one; while it is replaced there are two, and final and best weights stand beside it.
        kept: checkpoints besides the last one.
    """
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not there.is_dir():
        return Finding("error", f"{there} is a file and no folder; choose another folder: --output DIR")
    free = shutil.disk_usage(there).free
    text = f"{free / GIGABYTE:.1f} GB free in {folder}, a checkpoint takes {checkpoint / GIGABYTE:.2f} GB"
    if not os.access(there, os.W_OK):
        return Finding("error", f"{there} cannot be written to; choose another folder: --output DIR")
    if free < (3 + kept) * checkpoint:
        more = f", beside the {kept} that are kept" * bool(kept)
        text += f", and three are needed at a time{more}; make room or choose another --output DIR"
        return Finding("error", text)
    return Finding("ok", text)


def shared_memory(needed: int, workers_key: str = "workers", *, free: int | None = None) -> Finding | None:
    """Room for the batches that data loaders' workers hand over; None where that is no question.

    Args:
        needed: bytes of all batches that wait at a time.
        workers_key: what the number of workers is called.
        free: bytes; None looks at the machine.
    """
    if not needed or (free is None and not SHARED_MEMORY.is_dir()):
        return None
    free = shutil.disk_usage(SHARED_MEMORY).free if free is None else free
    text = f"{free / GIGABYTE:.2f} GB of shared memory free, the data loader's workers need {needed / GIGABYTE:.2f} GB"
    if free < needed:
        return Finding("error", f"{text}; start the container with --shm-size=8g, or set {workers_key} 0")
    return Finding("ok", text)
