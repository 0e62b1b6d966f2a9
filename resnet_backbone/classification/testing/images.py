"""Labelled images to test on: whatever a run of pretraining validates on, and images with a `labels.txt`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_backbone.classification.data.batch import first_error
from resnet_backbone.classification.data.cifar import is_cifar
from resnet_backbone.classification.data.cifar_download import SOURCES, located
from resnet_backbone.classification.data.folders import ClassFolders, Paths
from resnet_backbone.classification.data.loader import read
from resnet_backbone.classification.data.once import once
from resnet_backbone.classification.data.shard_files import is_remote
from resnet_backbone.classification.data.shard_index import INDEX, ShardSet
from resnet_backbone.classification.data.splits import Array, Files, Pixels, Split, Streamed, cifar_splits
from resnet_backbone.classification.data.views import opened
from resnet_backbone.classification.testing.protocols import Protocol, Views
from resnet_backbone.images.listing import class_names, validation_folder
from resnet_backbone.weights.record import WeightRecord
from resnet_backbone.weights.verify import labelled_images

TOGETHER = 16
"""Images that are read before their views go through the network, at least."""
KINDS = f"class folders, tar shards (index.json), CIFAR's official files, {SOURCES}, or a folder with a labels.txt"
Seen = tuple[Views, int, int, tuple[()]]
"""Views of an image, its label and its number in the split."""


@dataclass(frozen=True)
class LabelledImages:
    """Images of a split that are tested, and the names of the classes.

    Attributes:
        numbers: of the images in the split, ascending.
        classes: by label; empty where a `labels.txt` gives the labels alone.
    """

    split: Split
    numbers: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of all of them.

        Raises:
            ValueError: tar shards, whose labels are known when they are read.
        """
        chosen: NDArray[np.int64] = self.split.labels[self.numbers]
        return chosen

    @property
    def class_count(self) -> int:
        """Classes that have a name; without names, those that have an image."""
        return len(self.classes) or len(np.unique(self.labels))

    def name(self, label: int) -> str:
        """A class for people."""
        return self.classes[label] if self.classes else f"class {label}"


def find_images(data: str | Path, limit: int | None = None) -> LabelledImages:
    """The validation images at `data`, which may have no training images beside them.

    Class folders, tar shards (by path or address; both also below `data`/val; an address of the split itself ends in
    /val, or is its index's), CIFAR's test images in any of its layouts or torchvision://CIFAR10, or a folder with a
    `labels.txt` of lines of name and class index.

    Args:
        limit: only so many, spread evenly over all.

    Raises:
        ValueError: nothing of the kind is there, or a line or file is wrong.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--limit {limit}: at least 1 image")
    split, classes = _open(str(data))
    count = len(split)
    if limit is None or limit >= count:
        return LabelledImages(split, np.arange(count), classes)
    return LabelledImages(split, np.linspace(0, count - 1, limit).round().astype(np.int64), classes)


def _open(data: str) -> tuple[Split, tuple[str, ...]]:
    data = located(data)
    if is_remote(data):
        itself = data.rstrip("/").endswith(("/val", ".json"))
        shards = ShardSet.open(data if itself else f"{data.rstrip('/')}/val")
        return Streamed(shards), shards.classes
    folder = validation_folder(data)
    if (folder / INDEX).is_file():
        shards = ShardSet.open(folder)
        return Streamed(shards), shards.classes
    if is_cifar(folder):
        _, test, classes = cifar_splits(folder)
        return test, classes
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder or archive; --data takes {KINDS}")
    classes = () if (folder / "labels.txt").is_file() else class_names(folder)
    paths, labels = zip(*labelled_images(folder))
    return Files(ClassFolders(classes, Paths(Path(), map(str, paths)), np.array(labels))), classes


def read_views(
    images: LabelledImages, protocol: Protocol, record: WeightRecord, *, workers: int = 0, size: int = TOGETHER
) -> Iterator[list[Seen]]:
    """All images in lists of at most `size`, read by `workers` processes; those of tar shards in any order.

    Raises:
        ValueError: an image that cannot be read; names it.
    """
    data, how = once(images.split, partial(views_of, protocol, record), size, images.numbers)
    workers = 0 if isinstance(images.split, Array) else min(workers, os.cpu_count() or 1)
    yield from read(data, workers, collate_fn=whole, **how)


def views_of(protocol: Protocol, record: WeightRecord, image: bytes | Pixels, name: str) -> Views:
    """What a protocol sees of an image out of a split.

    Raises:
        ValueError: it cannot be read; names it.
    """
    return protocol.views(opened(image, name), record)


def whole(samples: list[Any]) -> Any:
    """A batch as it is; the first error in it in its place."""
    return first_error(samples) or list(samples)
