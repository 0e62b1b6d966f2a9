"""Images in class folders: ROOT/train/<class>/* and ROOT/val/<class>/*."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_backbone.images.listing import SUFFIXES, class_names, image_names, loose_images

LAYOUT = "expected class folders with images, as train/<class>/*.jpg and val/<class>/*.jpg"


class Paths:
    """Many files below a folder: their names' bytes in one piece, each of which becomes a path when it is asked for.

    ImageNet's 1.28 million take 54 MB, which worker processes share. As many `Path`s take hundreds, and every worker
    gets a copy of its own little by little, for Python writes a count of references into each that it touches.

    Args:
        folder: of all files.
        names: of the files in it, "/" between their parts.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self.folder = folder
        content, ends = bytearray(), array("q", [0])
        for name in names:
            content += os.fsencode(name)
            ends.append(len(content))
        self._content, self._ends = bytes(content), np.array(ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> Path:
        place = range(len(self))[index]
        return self.folder / os.fsdecode(self._content[self._ends[place] : self._ends[place + 1]])

    def __iter__(self) -> Iterator[Path]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True, eq=False)
class ClassFolders:
    """One split: paths and labels, sorted, so that a seed means the same everywhere."""

    classes: tuple[str, ...]
    paths: Paths
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)


def find_splits(root: str | Path) -> tuple[ClassFolders, ClassFolders]:
    """Training and validation images under `root`.

    Raises:
        ValueError: a folder is missing or empty, there is one class only, the splits differ in their classes, or an
            image is in no class.
    """
    train, val = (_find_split(Path(root) / name) for name in ("train", "val"))
    if train.classes != val.classes:
        missing, extra = set(train.classes) - set(val.classes), set(val.classes) - set(train.classes)
        odd = f"class {min(missing)!r} is in train only" if missing else f"class {min(extra)!r} is in val only"
        raise ValueError(f"{root}: train and val must have the same class folders, but {odd}")
    return train, val


def _find_split(folder: Path) -> ClassFolders:
    classes, counts = _classes(folder), array("q")

    def names() -> Iterator[str]:
        for name in classes:
            found = image_names(folder / name)
            if not found:
                raise ValueError(f"{folder / name} has no images ({', '.join(sorted(SUFFIXES))})")
            counts.append(len(found))
            yield from (f"{name}/{one}" for one in found)

    paths = Paths(folder, names())
    return ClassFolders(classes, paths, np.repeat(np.arange(len(classes)), counts))


def _classes(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; {LAYOUT}")
    classes = class_names(folder)
    if not classes:
        raise ValueError(f"{folder} has no class folders; {LAYOUT}")
    if len(classes) == 1:
        raise ValueError(f"{folder} has only the class {classes[0]!r}: a classifier needs at least two")
    astray = loose_images(folder)
    if astray:
        raise ValueError(f"{folder / astray[0]} has no class: move it into one of the class folders beside it")
    return classes
