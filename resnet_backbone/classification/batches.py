"""Batches of a split: batch k of a run is a function of the seed and k, so a resumed run sees what it would have."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from resnet_backbone.classification.augmentation import Augmentation, resized_crop, shorter_side
from resnet_backbone.classification.batched_crops import crop_batch, draw_crops
from resnet_backbone.classification.config import TrainConfig
from resnet_backbone.classification.length import length_of, side_at
from resnet_backbone.classification.order import Order
from resnet_backbone.classification.splits import Array, Part, Pixels, Split, Synthetic
from resnet_backbone.classification.streams import Stream, generator
from resnet_backbone.engine import group
from resnet_backbone.engine.interrupt import obey_parent_alone
from resnet_backbone.images.transforms import central_view

Place = tuple[int, int]
"""An image's place in the whole run, and its index in the split."""
ATTEMPTS = 10
"""So many images in a row may be unreadable."""


@dataclass
class Batch:
    """Images and labels of one process, and where they are from.

    Attributes:
        images: N,3,H,W: uint8 RGB, or float and normalised (`ready`).
        labels: N.
        iteration: which batch of the run it is, from 0.
        name: of the image of an index.
        indices: N.
        ready: nothing is left to be done to the images.
        broken: (name, what is wrong) of images that could not be read and that others replace.
    """

    images: torch.Tensor
    labels: torch.Tensor
    iteration: int
    indices: NDArray[np.int64]
    name: Callable[[int], str] = str  # not from a worker, which would send the whole split along
    ready: bool = False
    broken: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> Batch:
        return Batch(
            self.images[part], self.labels[part], self.iteration, self.indices[part], self.name, self.ready, ()
        )

    def names(self) -> list[str]:
        """Of all images."""
        return [self.name(int(index)) for index in self.indices]

    def pin_memory(self) -> Batch:
        """As data loaders ask for; `name` stays."""
        self.images, self.labels = self.images.pin_memory(), self.labels.pin_memory()
        return self


def share(config: TrainConfig, iteration: int) -> NDArray[np.int64]:
    """Places in the run of this process's images of a batch.

    Parts of all processes are cut the same way: two processes see, each in one part, what one process sees in two.
    """
    parts = group.world() * config.accumulate
    first = iteration * config.batch_size
    own = range(group.rank() * config.accumulate, (group.rank() + 1) * config.accumulate)
    return np.concatenate([np.arange(first + part, first + config.batch_size, parts) for part in own])


def training_batches(split: Split, config: TrainConfig, start: int, device: torch.device) -> Iterator[Batch]:
    """Endless batches of this process from iteration `start` on.

    Raises:
        ValueError: images that cannot be read, one after the other.
    """
    if isinstance(split, Synthetic):
        return _reused(split, config, start, device)
    if config.augmentation == "padded_crop":
        return _resident(split, config, start, device)
    return _loaded(split, config, start)


def _loaded(split: Split, config: TrainConfig, start: int) -> Iterator[Batch]:
    order = Order(len(split), config.seed, config.repeats)
    loader: DataLoader[Any] = DataLoader(
        _Views(split, config),
        batch_sampler=_Places(order, config, start),
        num_workers=config.workers,
        collate_fn=_collate,
        worker_init_fn=obey_parent_alone,
        pin_memory=torch.cuda.is_available() and config.device != "cpu",
        # A generator of its own: the loop's random numbers do not depend on the number of workers.
        generator=torch.Generator().manual_seed(config.seed),
    )
    for iteration, batch in enumerate(loader, start):
        if isinstance(batch, ValueError):
            raise batch
        batch.iteration, batch.name = iteration, split.name
        yield batch


def _resident(split: Split, config: TrainConfig, start: int, device: torch.device) -> Iterator[Batch]:
    """The whole split lies on the device, where a batch is cut out at once."""
    array, indices = _array(split)
    images = torch.from_numpy(array.images).to(device)
    labels = torch.from_numpy(array.label_array).to(device)
    order = Order(len(split), config.seed, config.repeats)
    shape = (3, 1, 1)
    mean = torch.tensor(config.mean, device=device).view(shape)
    std = torch.tensor(config.std, device=device).view(shape)
    added = mean_image(split).to(device) if config.mean_image else None
    iteration = start
    while True:
        places = share(config, iteration)
        chosen = indices[_indices_of(order, places)]
        crops = draw_crops(config.seed, iteration, config.batch_size)[places - iteration * config.batch_size]
        if not config.flip:
            crops.mirrored[:] = False
        if added is None:
            batch = crop_batch(images, chosen, crops, mean, std)
        else:
            # Every pixel's own mean is subtracted before the crop; the network, which subtracts it too, gets it back.
            batch = crop_batch(images, chosen, crops, added * std + mean, std) + added
        yield Batch(batch, labels[torch.from_numpy(chosen).to(device)], iteration, chosen, array.name, ready=True)
        iteration += 1


def _reused(split: Synthetic, config: TrainConfig, start: int, device: torch.device) -> Iterator[Batch]:
    """One batch of each side, which stays on the device: what a run costs without its images."""
    indices = np.arange(len(share(config, start)))
    labels = torch.tensor(split.labels[: len(indices)], device=device)
    total, made = length_of(config, len(split)).total, dict[int, torch.Tensor]()
    for iteration in itertools.count(start):
        side = side_at(config, iteration, total)
        if side not in made:
            noise = generator(Stream.VIEW, config.seed, side).integers(0, 256, (len(indices), 3, side, side), np.uint8)
            made[side] = torch.from_numpy(noise).to(device)
        yield Batch(made[side], labels, iteration, indices, split.name)


def _array(split: Split) -> tuple[Array, NDArray[np.int64]]:
    if isinstance(split, Part) and isinstance(split.whole, Array):
        return split.whole, split.indices
    if isinstance(split, Array):
        return split, np.arange(len(split))
    raise ValueError("augmentation 'padded_crop' needs images of one size in memory, as CIFAR's; use 'resized_crop'")


def mean_image(split: Split) -> torch.Tensor:
    """The mean of every pixel over a split of images in memory, 3,H,W in 0..1: for mean 0 and std 255.

    Raises:
        ValueError: images of files.
    """
    array, indices = _array(split)
    sums = sum(array.images[part].sum(0, dtype=np.float64) for part in np.array_split(indices, 64) if len(part))
    return torch.from_numpy(np.asarray(sums) / len(indices) / 255).float()


def evaluation_batches(split: Split, config: TrainConfig) -> Iterator[Batch]:
    """Every image once over all processes, in the view of the test; what is broken comes without image.

    Raises:
        ValueError: an image that cannot be read.
    """
    own = np.arange(group.rank(), len(split), group.world())
    chunks = np.array_split(own, max(-(-len(own) // max(config.batch_size // group.world(), 1)), 1))
    loader: DataLoader[Any] = DataLoader(
        _Views(split, config, testing=True),
        batch_sampler=[[(int(index), int(index)) for index in chunk] for chunk in chunks if len(chunk)],
        num_workers=0 if isinstance(split, Array) else config.workers,
        collate_fn=_collate,
        worker_init_fn=obey_parent_alone,
        pin_memory=torch.cuda.is_available() and config.device != "cpu",
        generator=torch.Generator().manual_seed(config.seed),
    )
    for batch in loader:
        if isinstance(batch, ValueError):
            raise batch
        yield batch


class _Places(Sampler[list[Place]]):
    """The places of this process's images, batch after batch without end."""

    def __init__(self, order: Order, config: TrainConfig, start: int) -> None:
        self._order, self._config, self._start = order, config, start

    def __iter__(self) -> Iterator[list[Place]]:
        iteration = self._start
        while True:
            places = share(self._config, iteration)
            yield list(zip(places.tolist(), _indices_of(self._order, places).tolist(), strict=True))
            iteration += 1


def _indices_of(order: Order, places: NDArray[np.int64]) -> NDArray[np.int64]:
    first = int(places.min())
    return order.indices(first, int(places.max()) + 1)[places - first]


class _Views(Dataset[Any]):
    """Images of a split, augmented by seed and place, or as the test wants them.

    An image that cannot be read is replaced by another, drawn by seed and place too, and named. With nothing to
    replace it the error is returned: an exception in a worker process would reach the user as a traceback.
    """

    def __init__(self, split: Split, config: TrainConfig, testing: bool = False) -> None:
        self._split, self._config, self._testing = split, config, testing
        self._labels = np.asarray(split.labels)
        self._cache: dict[int, Pixels] = {}
        self._augmentation = augmentation_of(config)
        self._total = length_of(config, len(split)).total

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, place: Place) -> Any:
        position, index = place
        broken: list[tuple[str, str]] = []
        replacements = generator(Stream.BROKEN, self._config.seed, position)
        for _ in range(ATTEMPTS):
            try:
                return self._view(self._pixels(index), position), int(self._labels[index]), index, broken
            except ValueError as error:
                if self._testing or not self._config.broken_images:
                    return error
                broken.append((self._split.name(index), str(error)))
            index = int(replacements.integers(len(self._split)))
        return ValueError(f"{ATTEMPTS} images in a row cannot be read; the last: {broken[-1][1]}")

    def _pixels(self, index: int) -> Pixels:
        if index in self._cache:
            return self._cache[index]
        pixels = self._split.pixels(index)
        if self._config.cache:
            self._cache[index] = pixels
        return pixels

    def _view(self, pixels: Pixels, position: int) -> torch.Tensor:
        config = self._config
        if self._testing:
            return central_view(Image.fromarray(pixels), config.test_resize, config.test_size)
        rng = generator(Stream.VIEW, config.seed, position)
        height, width = pixels.shape[:2]
        if config.augmentation == "resized_crop":
            box = resized_crop(height, width, config.scale, config.ratio, rng)
        else:
            box = shorter_side(height, width, config.shorter_sides, config.size, rng)
        side = side_at(config, position // config.batch_size, self._total)
        resized = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR, box=box)
        view = self._augmentation(np.asarray(resized), rng)
        return torch.from_numpy(view.transpose(2, 0, 1).copy())


def augmentation_of(config: TrainConfig) -> Augmentation:
    """What a recipe does to a view after the crop."""
    red, green, blue = (round(value) for value in config.mean)
    return Augmentation(
        flip=config.flip,
        policy=config.policy,
        colour_shift=config.colour_shift,
        erasing=config.erasing,
        fill=(red, green, blue),
    )


def _collate(samples: Sequence[Any]) -> Any:
    for sample in samples:
        if isinstance(sample, ValueError):
            return sample
    images, labels, indices, broken = zip(*samples, strict=True)
    said = tuple(one for several in broken for one in several)
    return Batch(torch.stack(images), torch.tensor(labels), 0, np.array(indices), broken=said)
