"""The images that shards are written of: parts of ILSVRC2012's archives, or files of class folders."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resnet_backbone.classification.data.archives import opened
from resnet_backbone.classification.data.folders import ClassFolders
from resnet_backbone.classification.prepare.ilsvrc import class_tars, images_of, synsets_of

SEED = 0
"""Of the one shuffle of training images."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image and where its bytes are.

    Attributes:
        key: <class>/<name>, with dots of the name as underscores, as WebDataset takes all behind a dot for the ending.
        ending: "jpg", "png" ...
        label: place of its class in the split's classes.
        file, offset, size: `size` bytes of `file` (-1: all of them).
    """

    key: str
    ending: str
    label: int
    file: Path
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            ValueError: the archive is cut off.
        """
        with self.file.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if self.size not in (-1, len(content)):
            raise ValueError(f"{self.file}: {self.key}: cut off; get it again, then go on")
        return content


@dataclass(frozen=True)
class Split:
    """Images in the order in which they are written, and the names of their labels."""

    name: str
    classes: tuple[str, ...]
    images: tuple[Image, ...]

    def shuffled(self) -> Split:
        """The same in one random order, always the same one, so that every shard mixes classes."""
        order = np.random.default_rng(SEED).permutation(len(self.images))
        return replace(self, images=tuple(self.images[index] for index in order))


def _image(folder: str, name: str, label: int, file: Path, offset: int = 0, size: int = -1) -> Image:
    stem, _, ending = name.rpartition(".")
    ending = sys.intern({"jpeg": "jpg"}.get(ending.lower(), ending.lower()))
    return Image(f"{folder}/{stem.replace('.', '_')}", ending, label, file, offset, size)


def folder_split(folders: ClassFolders, root: Path, name: str) -> Split:
    """The files of class folders at `root`."""
    images = [
        _image(path.parent.relative_to(root).as_posix(), path.name, label, path)
        for path, label in zip(folders.paths, folders.labels.tolist())
    ]
    return Split(name, folders.classes, tuple(images))


def train_split(path: Path) -> Split:
    """The images in the archive of training images, which stay where they are.

    Raises:
        ValueError: no such archive, compressed, or cut off.
    """
    images: list[Image] = []
    with opened(path, mode="r:") as outer:
        members = sorted(class_tars(outer, path), key=lambda member: Path(member.name).stem)  # as class folders are
        classes = tuple(Path(member.name).stem for member in members)
        for label, member in enumerate(members):
            stream = outer.extractfile(member)
            assert stream is not None
            where = f"{path}: {member.name}"
            with opened(where, stream, "r:") as inner:
                for found in images_of(inner, where):
                    offset = member.offset_data + found.offset_data
                    images.append(_image(classes[label], Path(found.name).name, label, path, offset, found.size))
    return Split("train", classes, tuple(images))


def val_split(path: Path, truth: Mapping[str, str] | list[str], classes: tuple[str, ...] | None) -> Split:
    """The images in the archive of validation images, in the order of their names.

    Args:
        truth: their synsets, see `read_truth`.
        classes: synsets in the order of the labels; None takes those of the truth, sorted.

    Raises:
        ValueError: no such archive, compressed, cut off, or not what the truth is of.
    """
    with opened(path, mode="r:") as archive:
        members = {Path(member.name).name: member for member in images_of(archive, path)}
    synsets = synsets_of(members, truth, path)
    classes = classes or tuple(sorted(set(synsets.values())))
    labels = {synset: label for label, synset in enumerate(classes)}
    unknown = next((synset for synset in synsets.values() if synset not in labels), None)
    if unknown is not None:
        raise ValueError(f"{path}: has images of {unknown} by the truth, of which there are no training images")
    images = (
        _image(synset, name, labels[synset], path, members[name].offset_data, members[name].size)
        for name, synset in synsets.items()
    )
    return Split("val", classes, tuple(images))
