"""The processes that train together, as Python objects pass between them; alone, everything is one's own."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

from torch import distributed

T = TypeVar("T")


def rank() -> int:
    """0 .. `world()` - 1."""
    return distributed.get_rank() if _together() else 0


def world() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if _together() else 1


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
    values = gather_all(value)
    return values if is_main() else []


def synchronize() -> None:
    """Waits until every process has come here."""
    if world() > 1:
        distributed.barrier()


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


@lru_cache
def _of_objects(all_processes: Any) -> Any:
    """Objects do not travel over GPUs; a new group where these are what the processes exchange gradients with."""
    if distributed.get_backend(all_processes) == "nccl":
        return distributed.new_group(backend="gloo")
    return all_processes
