"""Batches out of tar shards: each worker of each process reads its own share, and a run goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import IterableDataset

from resnet_backbone.classification.data.batch import Batch, collate
from resnet_backbone.classification.data.loader import loaded, this_worker
from resnet_backbone.classification.data.shards import Sample, ShardStream
from resnet_backbone.classification.data.splits import Streamed
from resnet_backbone.classification.data.views import Views
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.recipe.length import length_of
from resnet_backbone.engine import group


def streamed_batches(split: Streamed, config: TrainConfig, start: int, cut: bool) -> Iterator[Batch]:
    """Endless batches of this process from iteration `start` on; `cut` as `Views` takes it.

    Raises:
        ValueError: a shard that cannot be read, or too many images in it.
    """
    if config.repeats > 1:
        raise ValueError(f"repeats: {config.repeats}, but shards are read once an epoch; train on class folders")
    # Each worker makes whole batches.
    yield from loaded(_Streams(split, config, start, cut), split, config, start, batch_size=None)


class _Streams(IterableDataset[Any]):
    """Errors are values: an exception in a worker process would reach the user as a traceback."""

    def __init__(self, split: Streamed, config: TrainConfig, start: int, cut: bool) -> None:
        self._split, self._config, self._start = split, config, start
        self._rank, self._world = group.rank(), group.world()  # a worker process does not know them
        self._views = Views(config, length_of(config, len(split)).total, cut)

    def __iter__(self) -> Iterator[Any]:
        worker, workers = this_worker()
        # The loader begins with worker 0 wherever the run does: batch k is reader k % workers' all the same.
        reader = (worker + self._start) % workers
        size = self._config.batch_size // self._world
        done = len(range(reader, self._start, workers))  # batches that this reader has given before
        try:
            stream = iter(
                ShardStream(
                    self._split.shards,
                    seed=self._config.seed,
                    reader=self._rank * workers + reader,
                    readers=self._world * workers,
                    start=done * size,
                )
            )
            for iteration in range(reader + done * workers, 2**62, workers):
                yield self._batch(list(islice(stream, size)), iteration)
        except ValueError as error:
            yield error

    def _batch(self, samples: list[Sample], iteration: int) -> Any:
        broken: list[tuple[str, str]] = []
        views: list[Any] = []
        for sample in samples:
            place = sample.epoch * len(self._split) + sample.index
            try:
                view, changes = self._views.training(sample.data, place, iteration, sample.name)
                views.append((view, sample.label, sample.index, [], changes))
            except ValueError as error:
                if not self._config.broken_images:
                    return error
                broken.append((self._split.name(sample.index), str(error)))
        if not views:
            return ValueError(f"no image of a batch can be read; the last: {broken[-1][1]}")
        # A stream has no other image at hand: the batch's own stand in for those that are broken.
        whole = [views[number % len(views)] for number in range(len(samples))]
        batch = collate(whole)
        batch.broken = tuple(broken)
        return batch
