"""Every image of a split once over all processes, as a test looks at it: by index, or in the order of tar shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, IterableDataset

from resnet_backbone.classification.data.loader import this_worker
from resnet_backbone.classification.data.shards import each_once
from resnet_backbone.classification.data.splits import Pixels, Split, Streamed
from resnet_backbone.engine import group

View = Callable[[bytes | Pixels, str], Any]
"""What is seen of an image, by its content and its name."""
Numbers = NDArray[np.int64]


def once(split: Split, view: View, size: int, numbers: Numbers | None = None) -> tuple[Dataset[Any], dict[str, Any]]:
    """What `DataLoader` makes batches of, and how: lists of (view, label, number of the image, ()).

    An image or shard that cannot be read is a ValueError in the list.

    Args:
        size: at most so many images in a batch.
        numbers: only these images, ascending.
    """
    if isinstance(split, Streamed):
        return _Streamed(split, view, size, numbers), {"batch_size": None}
    numbers = np.arange(len(split)) if numbers is None else numbers
    own = numbers[group.rank() :: group.world()]
    chunks = np.array_split(own, max(-(-len(own) // size), 1))
    return Viewed(split, view), {"batch_sampler": [chunk.tolist() for chunk in chunks if len(chunk)]}


class Viewed(Dataset[Any]):
    """Images of a split by index. Errors are values: one in a worker process would reach the user as a traceback."""

    def __init__(self, split: Split, view: View) -> None:
        self._split, self._view, self._labels = split, view, split.labels

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> Any:
        try:
            seen = self._view(self._split.read(index), self._split.name(index))
        except ValueError as error:
            return error
        return seen, int(self._labels[index]), index, ()


class _Streamed(IterableDataset[Any]):
    def __init__(self, split: Streamed, view: View, size: int, numbers: Numbers | None) -> None:
        self._shards, self._view, self._size, self._numbers = split.shards, view, size, numbers
        self._rank, self._world = group.rank(), group.world()  # a worker process does not know them

    def __iter__(self) -> Iterator[Any]:
        worker, workers = this_worker()
        reader, readers = self._rank * workers + worker, self._world * workers
        samples = each_once(self._shards, reader=reader, readers=readers, numbers=self._numbers)
        try:
            while batch := list(islice(samples, self._size)):
                yield [(self._view(one.data, one.name), one.label, one.index, ()) for one in batch]
        except ValueError as error:
            yield [error]
