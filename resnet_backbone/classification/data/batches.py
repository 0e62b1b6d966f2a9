"""Batches of a split: batch k of a run is a function of the seed and k, so a resumed run sees what it would have."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from resnet_backbone.classification.data.augmentation import Changes
from resnet_backbone.classification.data.batch import Batch, collate
from resnet_backbone.classification.data.loader import loaded
from resnet_backbone.classification.data.on_device import augmented_there, augments_there
from resnet_backbone.classification.data.once import once
from resnet_backbone.classification.data.order import Order, indices_of, share
from resnet_backbone.classification.data.resident import Resident
from resnet_backbone.classification.data.splits import Array, Pixels, Split, Streamed, Synthetic
from resnet_backbone.classification.data.streaming import streamed_batches
from resnet_backbone.classification.data.streams import Stream, generator
from resnet_backbone.classification.data.views import Views
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.recipe.length import length_of, side_at
from resnet_backbone.engine import group
from resnet_backbone.images.views import pixels_of

Place = tuple[int, int]
"""An image's place in the whole run, and its index in the split."""
ATTEMPTS = 10
"""So many images in a row may be unreadable."""


def training_batches(split: Split, config: TrainConfig, start: int, device: torch.device) -> Iterator[Batch]:
    """Endless batches of this process from iteration `start` on.

    Raises:
        ValueError: images that cannot be read, one after the other.
    """
    if isinstance(split, Synthetic):
        return _reused(split, config, start, device)
    cut = augments_there(config, device)
    if isinstance(split, Streamed):
        batches = streamed_batches(split, config, start, cut)
    elif config.augmentation == "padded_crop":
        return _resident(split, config, start, device)
    else:
        batches = _loaded(split, config, start, cut)
    return augmented_there(batches, config, device) if cut else batches


def _loaded(split: Split, config: TrainConfig, start: int, cut: bool) -> Iterator[Batch]:
    places = _Places(Order(len(split), config.seed, config.repeats), config, start)
    return loaded(_Views(split, config, cut), split, config, start, batch_sampler=places, collate_fn=collate)


def _resident(split: Split, config: TrainConfig, start: int, device: torch.device) -> Iterator[Batch]:
    resident = Resident(split, config, device)
    for iteration in itertools.count(start):
        drawn = resident.draw(iteration)
        images, labels = resident.views(torch.from_numpy(drawn.packed).to(device, non_blocking=True))
        yield Batch(images, labels, iteration, drawn.indices, drawn.name, ready=True)


def _reused(split: Synthetic, config: TrainConfig, start: int, device: torch.device) -> Iterator[Batch]:
    """One batch of each side, which stays on the device: what a run costs without its images."""
    count = len(share(config, start))
    labels = torch.tensor(split.labels[:count], device=device)
    total, made = length_of(config, len(split)).total, dict[int, torch.Tensor]()
    for iteration in itertools.count(start):
        side = side_at(config, iteration, total)
        if side not in made:
            noise = generator(Stream.VIEW, config.seed, side).integers(0, 256, (count, 3, side, side), np.uint8)
            made[side] = torch.from_numpy(noise).to(device)
        yield Batch(made[side], labels, iteration, share(config, iteration) % len(split), split.name)


def evaluation_batches(split: Split, config: TrainConfig) -> Iterator[Batch]:
    """Every image once over all processes, in the view of the test; what is broken comes without image.

    Raises:
        ValueError: an image that cannot be read.
    """
    data, how = once(split, Views(config, 1).testing, max(config.batch_size // group.world(), 1))
    workers = 0 if isinstance(split, Array) else None
    yield from loaded(data, split, config, workers=workers, collate_fn=collate, **how)


class _Places(Sampler[list[Place]]):
    """The places of this process's images, batch after batch without end."""

    def __init__(self, order: Order, config: TrainConfig, start: int) -> None:
        self._order, self._config, self._start = order, config, start

    def __iter__(self) -> Iterator[list[Place]]:
        iteration = self._start
        while True:
            places = share(self._config, iteration)
            yield list(zip(places.tolist(), indices_of(self._order, places).tolist(), strict=True))
            iteration += 1


class _Views(Dataset[Any]):
    """Images of a split, augmented by seed and place.

    An image that cannot be read is replaced by another, drawn by seed and place too, and named. With nothing to
    replace it the error is returned: an exception in a worker process would reach the user as a traceback.
    """

    def __init__(self, split: Split, config: TrainConfig, cut: bool) -> None:
        self._split, self._config = split, config
        self._labels = split.labels
        self._cache: dict[int, Pixels] = {}
        self._views = Views(config, length_of(config, len(split)).total, cut)

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, place: Place) -> Any:
        position, index = place
        broken: list[tuple[str, str]] = []
        replacements = generator(Stream.BROKEN, self._config.seed, position)
        for _ in range(ATTEMPTS):
            try:
                view, changes = self._view(index, position)
                return view, int(self._labels[index]), index, broken, changes
            except ValueError as error:
                if not self._config.broken_images:
                    return error
                broken.append((self._split.name(index), str(error)))
            index = int(replacements.integers(len(self._split)))
        return ValueError(f"{ATTEMPTS} images in a row cannot be read; the last: {broken[-1][1]}")

    def _view(self, index: int, position: int) -> tuple[torch.Tensor, Changes | None]:
        iteration = position // self._config.batch_size
        return self._views.training(self._image(index), position, iteration, self._split.name(index))

    def _image(self, index: int) -> bytes | Pixels:
        if not self._config.cache:
            return self._split.read(index)
        if index not in self._cache:
            image = self._split.read(index)
            name = self._split.name(index)
            plain = self._config.reader == "plain"
            self._cache[index] = pixels_of(image, plain=plain, name=name) if isinstance(image, bytes) else image
        return self._cache[index]
