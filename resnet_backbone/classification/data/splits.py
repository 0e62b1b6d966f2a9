"""Labelled images to train or test on: class folders, CIFAR, or none at all, behind one small interface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_backbone.classification.data.cifar import is_cifar, read_cifar
from resnet_backbone.classification.data.cifar_download import SOURCES, located
from resnet_backbone.classification.data.folders import ClassFolders, find_splits
from resnet_backbone.classification.data.shard_files import is_remote
from resnet_backbone.classification.data.shard_index import INDEX, UNFINISHED, ShardSet, open_splits
from resnet_backbone.classification.data.streams import Stream, generator

Pixels = NDArray[np.uint8]
SYNTHETIC = "synthetic"
KINDS = (
    "a folder with train/<class>/*.jpg and val/<class>/*.jpg in it, or tar shards (train/index.json), or CIFAR's "
    f"official files, which {SOURCES} downloads, or {SYNTHETIC}"
)
"""What `open_data` takes, for people."""


class Split(Protocol):
    """Images with labels, by index."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of every image, 0 .. classes - 1."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes | Pixels:
        """The content of an image's file, or H,W,3 RGB of one that is in memory.

        Raises:
            ValueError: the file cannot be read; names it.
        """

    def name(self, index: int) -> str:
        """What the image is called, for people."""


@dataclass(frozen=True)
class Files:
    """Image files of class folders."""

    folders: ClassFolders

    @property
    def labels(self) -> NDArray[np.int64]:
        """As the folders say."""
        return self.folders.labels

    def __len__(self) -> int:
        return len(self.folders)

    def read(self, index: int) -> bytes:
        """Of the file."""
        try:
            return self.folders.paths[index].read_bytes()
        except OSError as error:
            raise ValueError(
                f"{self.folders.paths[index]}: cannot be read ({error.strerror}); mend or remove it"
            ) from None

    def name(self, index: int) -> str:
        """The path."""
        return str(self.folders.paths[index])


@dataclass(frozen=True)
class Array:
    """Images of one size in memory.

    Attributes:
        images: N,3,H,W uint8 RGB.
        label_array: N.
        title: of the split.
    """

    images: Pixels
    label_array: NDArray[np.int64]
    title: str

    @property
    def labels(self) -> NDArray[np.int64]:
        """The array."""
        return self.label_array

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Pixels:
        """A view of the array."""
        return self.images[index].transpose(1, 2, 0)

    def name(self, index: int) -> str:
        """The split and the number."""
        return f"{self.title}/{index}"


@dataclass(frozen=True)
class Synthetic:
    """Noise that stands for images: in training one batch of it lies on the device, and costs nothing."""

    count: int
    title: str

    @property
    def labels(self) -> NDArray[np.int64]:
        """In turn."""
        return np.arange(self.count) % 1000

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Pixels:
        """Drawn anew, 256,256,3."""
        return generator(Stream.HOLDOUT, index, 1).integers(0, 256, (256, 256, 3), np.uint8)

    def name(self, index: int) -> str:
        """The split and the number."""
        return f"{self.title}/{index}"


@dataclass(frozen=True)
class Part:
    """Some images of a split, in the order of `indices`."""

    whole: Split
    indices: NDArray[np.int64]

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of the images that are in it."""
        chosen: NDArray[np.int64] = self.whole.labels[self.indices]
        return chosen

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> bytes | Pixels:
        """As the whole split does."""
        return self.whole.read(int(self.indices[index]))

    def name(self, index: int) -> str:
        """As in the whole split."""
        return self.whole.name(int(self.indices[index]))


@dataclass(frozen=True)
class Streamed:
    """Samples of tar shards, which come in their own order alone."""

    shards: ShardSet

    @property
    def labels(self) -> NDArray[np.int64]:
        """Not known before the shards are read.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.shards.where}: shards are read in their own order; this needs class folders")

    def __len__(self) -> int:
        return len(self.shards)

    def read(self, index: int) -> bytes:
        """Not by index.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.shards.where}: shards are read in their own order; this needs class folders")

    def name(self, index: int) -> str:
        """The shard and the sample's number in it."""
        shard = int(np.searchsorted(self.shards.starts, index, side="right")) - 1
        return f"{self.shards.shards[shard].url}, sample {index - int(self.shards.starts[shard])}"


@dataclass(frozen=True)
class Data:
    """What a run trains on, chooses by and is measured on.

    Attributes:
        holdout: images that are neither trained on nor in `val`; None where none are held out.
        classes: names by label.
        name: where the images are from, for the record.
    """

    train: Split
    val: Split
    holdout: Split | None
    classes: tuple[str, ...]
    name: str


def open_data(path: str, *, holdout: int = 0, seed: int = 0) -> Data:
    """Finds out what is at `path`: class folders, tar shards, CIFAR in one of its layouts, or "synthetic".

    torchvision://CIFAR10 and torchvision://CIFAR100 are downloaded, once for all processes of a machine.

    Args:
        holdout: training images to leave out and choose by, drawn by `seed` in equal shares of all classes.

    Raises:
        ValueError: nothing of the kind, or it cannot be used; names the file.
    """
    if not path:
        raise ValueError(f"no data: --data PATH, class folders, tar shards, CIFAR, or {SYNTHETIC}")
    path = located(path)
    root = Path(path)
    train: Split
    val: Split
    if path == SYNTHETIC:
        train, val, classes = Synthetic(100_000, "train"), Synthetic(1_000, "val"), _numbered(1000)
    elif is_remote(path) or any((root / "train" / name).is_file() for name in (INDEX, UNFINISHED)):
        sets = open_splits(path)
        train, val, classes = Streamed(sets[0]), Streamed(sets[1]), sets[0].classes
        if holdout:
            raise ValueError(f"holdout: {holdout}, but shards are read in their own order; hold out in class folders")
    elif (root / "train").is_dir() and not (root / "train.bin").exists():
        found = find_splits(root)
        train, val, classes = Files(found[0]), Files(found[1]), found[0].classes
    elif root.is_dir() and any((root / name).is_dir() for name in ("train", "val")):
        find_splits(root)  # says what is missing
        raise ValueError(f"{root}: no class folders")
    elif not root.exists() or not is_cifar(root):
        what = "holds no data" if root.exists() else "no such folder or archive"
        raise ValueError(f"{root}: {what}; --data takes {KINDS}")
    else:
        train, val, classes = cifar_splits(root)
    name = root.name or str(root.resolve().name)
    if not holdout:
        return Data(train, val, None, classes, name)
    kept, held = hold_out(train.labels, holdout, seed)
    return Data(Part(train, kept), val, Part(train, held), classes, name)


def cifar_splits(path: Path) -> tuple[Array, Array, tuple[str, ...]]:
    """Training and test images of CIFAR, and the names of the classes.

    Raises:
        ValueError: as `read_cifar`.
    """
    cifar = read_cifar(path)
    train, test = cifar.train, cifar.test
    return Array(train.pixels, train.labels, "train"), Array(test.pixels, test.labels, "test"), cifar.classes


def hold_out(labels: NDArray[np.int64], count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices that are kept, and `count` that are left out, of all classes in proportion (to one image).

    Raises:
        ValueError: nothing would be left of a class.
    """
    generated = generator(Stream.HOLDOUT, seed, 0)
    order = generated.permutation(len(labels))
    # Sorted by class, shuffled within: every n-th of them is a share of every class.
    by_class = order[np.argsort(labels[order], kind="stable")]
    places = (np.arange(count) * len(labels) / max(count, 1)).astype(int)
    held = np.sort(by_class[places]) if count <= len(labels) else np.arange(len(labels))
    kept = np.setdiff1d(np.arange(len(labels)), held)
    gone = set(labels.tolist()) - set(labels[kept].tolist())
    if gone:
        raise ValueError(f"holdout: {count} of {len(labels)} training images leave none of class {min(gone)}; lower it")
    return kept, held


def spread(split: Split, count: int) -> Split:
    """At most so many images, spread evenly over all classes."""
    if len(split) <= count or isinstance(split, Streamed):
        return split
    by_class = np.argsort(split.labels, kind="stable")
    places = np.linspace(0, len(split) - 1, count).round().astype(int)
    return Part(split, np.sort(by_class[places]))


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"class {k}" for k in range(count))
