"""Torch's data loader as every part of this package uses it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from resnet_backbone.classification.data.batch import Batch
from resnet_backbone.classification.data.splits import Split
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.engine.interrupt import obey_parent_alone


def loaded(
    data: Dataset[Any], split: Split, config: TrainConfig, start: int = 0, *, workers: int | None = None, **how: Any
) -> Iterator[Batch]:
    """Batches that say which of the run they are, and what their images are called.

    Args:
        start: number of the first one.
        workers: instead of the recipe's.
        how: what makes batches of `data`, as `DataLoader` takes it.

    Raises:
        ValueError: that a worker gave back in the place of a batch.
    """
    workers = config.workers if workers is None else workers
    pin = torch.cuda.is_available() and config.device != "cpu"
    batches = read(data, workers, seed=config.seed, pin_memory=pin, **how)
    for iteration, batch in enumerate(batches, start):
        batch.iteration, batch.name = iteration, split.name
        yield batch


def read(data: Dataset[Any], workers: int, *, seed: int = 0, **how: Any) -> Iterator[Any]:
    """What so many worker processes make of `data`.

    Args:
        how: as `DataLoader` takes it.

    Raises:
        ValueError: that a worker gave back in the place of a batch.
    """
    loader: DataLoader[Any] = DataLoader(
        data,
        num_workers=workers,
        worker_init_fn=obey_parent_alone,
        # A generator of its own: the loop's random numbers do not depend on the number of workers.
        generator=torch.Generator().manual_seed(seed),
        **how,
    )
    for batch in loader:
        if isinstance(batch, ValueError):
            raise batch
        yield batch


def this_worker() -> tuple[int, int]:
    """Number of the worker process that asks, from 0, and how many there are; the main process counts as one."""
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)
