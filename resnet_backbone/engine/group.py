"""The processes that train together, as Python objects pass between them; alone, everything is one's own."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import distributed

T = TypeVar("T")
_local: Any = None
_timeout: timedelta | None = None


def rank() -> int:
    """0 .. `world()` - 1."""
    return distributed.get_rank() if _together() else 0


def world() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if _together() else 1


def local() -> Any:
    """torch.distributed's group of the processes of this machine, as `set_local` was told; None where nobody did."""
    return _local


def set_local(of_machine: Any, timeout: timedelta | None = None) -> None:
    """Whoever makes the processes meet says which of them share a machine, and how long one waits for another."""
    global _local, _timeout
    _local, _timeout = of_machine, timeout


def machines() -> int:
    """How many machines the processes share, of equally many each."""
    return world() // distributed.get_world_size(_local) if _together() and _local is not None else 1


def is_main() -> bool:
    """Whether this is the first process, which writes what is written."""
    return rank() == 0


def gather_all(value: T) -> list[T]:
    """Every process's value, in their order, in every process."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    distributed.all_gather_object(values, value, group=_of_objects(distributed.group.WORLD))
    return values


def gather(value: T) -> list[T]:
    """Every process's value in the first process; nothing in the others."""
    if world() == 1:
        return [value]
    values: list[Any] | None = [None] * world() if is_main() else None
    distributed.gather_object(value, values, group=_of_objects(distributed.group.WORLD))
    return values or []


def synchronize() -> None:
    """Waits until every process has come here."""
    if world() > 1:
        # Without it nccl guesses the GPU by the rank: under Slurm each process may see its own alone, number 0.
        ids = [torch.cuda.current_device()] if distributed.get_backend() == "nccl" else None
        distributed.barrier(device_ids=ids)


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


@lru_cache
def _of_objects(all_processes: Any) -> Any:
    """Objects do not travel over GPUs; a new group where these are what the processes exchange gradients with."""
    if distributed.get_backend(all_processes) == "nccl":
        return distributed.new_group(timeout=_timeout, backend="gloo")
    return all_processes
