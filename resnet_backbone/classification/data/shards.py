"""Samples streamed from tar shards: in an order that is known without reading, and from any place of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resnet_backbone.classification.data.shard_index import ShardSet
from resnet_backbone.classification.data.shard_reader import Labelled, read_shard

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """An image as it is in its shard.

    Attributes:
        data: the image file.
        name: its key in the shard.
        index: its number among all samples of the shards, whoever reads it.
        epoch: the pass over all samples.
        position: its place in its reader's stream; `start=position + 1` goes on behind it.
    """

    data: bytes
    label: int
    name: str
    index: int
    epoch: int
    position: int


class ShardStream(Iterable[Sample]):
    """One reader's share of endless, shuffled passes over shards.

    The order is a function of seed, readers and reader alone. In each epoch the shards are permuted, and their samples
    are cut into `readers` ranges of equal length; a remainder of fewer than `readers` samples, others in each epoch,
    is left out. Each reader mixes its range as a shuffle buffer does: a sample may come up to `buffer` places
    earlier or later than it lies, and no more than `buffer` are held in memory.

    Args:
        reader: which of the `readers` (processes times their workers) this is, from 0.
        start: place in the stream to begin at. Only shards from which samples are still to come are read.
        buffer: samples; their images lie in memory as files.

    Raises:
        ValueError: arguments out of range, fewer samples than readers; when iterating, as `read_shard`.
    """

    def __init__(
        self, shards: ShardSet, *, seed: int, reader: int = 0, readers: int = 1, start: int = 0, buffer: int = 2000
    ) -> None:
        if not 0 <= reader < readers:
            raise ValueError(f"reader {reader} of {readers}: must be from 0 to {readers - 1}")
        if min(seed, start, buffer - 1) < 0:
            raise ValueError(f"seed {seed}, start {start}, buffer {buffer}: must be at least 0, 0 and 1")
        self.per_epoch = len(shards) // readers
        """Samples of this reader in each epoch."""
        if not self.per_epoch:
            raise ValueError(
                f"{shards.where}: {len(shards)} samples for {readers} readers; take fewer processes or workers"
            )
        self.shards, self.seed, self.reader, self.readers = shards, seed, reader, readers
        self.start, self.buffer = start, buffer

    def __iter__(self) -> Iterator[Sample]:
        epoch, done = divmod(self.start, self.per_epoch)
        while True:
            yield from self._rest(epoch, done)
            epoch, done = epoch + 1, 0

    def order(self, epoch: int) -> Numbers:
        """The samples' numbers in the order in which this reader gives them in an epoch."""
        return self._lying(epoch)[self._places(epoch)]

    def _lying(self, epoch: int) -> Numbers:
        """The numbers of this reader's samples as they lie one behind the other in the permuted shards."""
        starts = self.shards.starts
        shards = np.random.default_rng([self.seed, epoch]).permutation(len(self.shards.shards))
        first = self.reader * self.per_epoch
        # Only the shards that the range touches are written out.
        ends = np.cumsum(np.diff(starts)[shards])
        low, high = np.searchsorted(ends, [first, first + self.per_epoch - 1], side="right")
        numbers = np.concatenate([np.arange(starts[shard], starts[shard + 1]) for shard in shards[low : high + 1]])
        skipped = first - (ends[low - 1] if low else 0)
        return numbers[skipped : skipped + self.per_epoch]

    def _places(self, epoch: int) -> Numbers:
        """Which of them comes first, which second ...: each is sent up to `buffer` places back, then all are sorted."""
        back = np.random.default_rng([self.seed, epoch, 1 + self.reader]).uniform(0, self.buffer, self.per_epoch)
        return np.argsort(np.arange(self.per_epoch) + back, kind="stable")

    def _rest(self, epoch: int, done: int) -> Iterator[Sample]:
        """An epoch's samples from the one after the first `done`."""
        lying, places = self._lying(epoch), self._places(epoch)[done:]
        coming = _read(self.shards, lying, np.sort(places))
        held: dict[int, Labelled] = {}
        for position, place in enumerate(places.tolist(), epoch * self.per_epoch + done):
            while place not in held:
                read, found = next(coming)
                held[read] = found
            found = held.pop(place)
            yield Sample(found.data, found.label, found.key, int(lying[place]), epoch, position)
        next(coming, None)  # the last shard is checked to its end


def each_once(
    shards: ShardSet, *, reader: int = 0, readers: int = 1, start: int = 0, numbers: Numbers | None = None
) -> Iterator[Sample]:
    """One reader's share of a single pass in order, as tests need it: every sample once over all readers.

    Args:
        start: place in this reader's share to begin at.
        numbers: only these samples, ascending.

    Raises:
        ValueError: as `read_shard`.
    """
    numbers = np.arange(len(shards)) if numbers is None else numbers
    first, end = (len(numbers) * each // readers for each in (reader, reader + 1))
    lying = numbers[first:end]
    for position, found in _read(shards, lying, np.arange(start, len(lying))):
        yield Sample(found.data, found.label, found.key, int(lying[position]), 0, position)


def _read(shards: ShardSet, lying: Numbers, places: Numbers) -> Iterator[tuple[int, Labelled]]:
    """The samples at `places` (ascending) of those that lie one behind the other, with their places.

    Args:
        lying: samples' numbers, each shard's together and ascending.
    """
    numbers = lying[places]
    owners = np.searchsorted(shards.starts, numbers, side="right") - 1
    for part in np.split(np.arange(len(places)), np.flatnonzero(np.diff(owners)) + 1):
        if len(part):
            owner = int(owners[part[0]])
            wanted = (numbers[part] - shards.starts[owner]).tolist()
            yield from zip(places[part].tolist(), read_shard(shards, owner, wanted), strict=True)
