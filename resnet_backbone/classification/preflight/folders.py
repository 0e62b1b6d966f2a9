"""Class folders before they are read: everything that is wrong with their layout, not the first thing alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from resnet_backbone.classification.data.folders import SUFFIXES
from resnet_backbone.classification.data.shard_index import INDEX
from resnet_backbone.engine.preflight import Finding
from resnet_backbone.engine.text import some

SORT = "sort them into one folder a class (ImageNet's: tools/prepare_imagenet.py --val)"


def is_class_folders(root: Path) -> bool:
    """Whether somebody meant class folders by it, and neither shards nor CIFAR's files, which are named alike."""
    others = root / "train" / INDEX, root / "train.bin"
    return any((root / name).is_dir() for name in ("train", "val")) and not any(one.exists() for one in others)


def layout_findings(root: Path) -> Iterator[Finding]:
    """What is wrong with `root`/train/<class> and `root`/val/<class>; nothing where all is right."""
    for name in ("train", "val"):
        if not (root / name).is_dir():
            yield Finding("error", f"{root / name}: no such folder; put images into {root / name}/<class>/")
    splits = {name: root / name for name in ("train", "val") if (root / name).is_dir()}
    classes: dict[str, set[str]] = {}
    for name, folder in splits.items():
        classes[name], loose = _entries(folder)
        yield from _of_split(folder, classes[name], loose)
    if all(classes.get(name) for name in ("train", "val")):
        yield from _differences(root, classes["train"], classes["val"])


def _of_split(folder: Path, classes: set[str], loose: int) -> Iterator[Finding]:
    if not classes:
        what = f"{loose:,} images in no class folder; {SORT}" if loose else "no class folders; make one for each class"
        yield Finding("error", f"{folder}: {what}")
        return
    if loose:
        yield Finding("error", f"{folder}: {loose:,} images in no class folder; {SORT}")
    empty = sorted(name for name in classes if not _has_image(folder / name))
    if empty:
        endings = ", ".join(sorted(SUFFIXES))
        yield Finding("error", f"{folder}: no images ({endings}) in {some(empty)}; add some, or remove the folders")


def _differences(root: Path, train: set[str], val: set[str]) -> Iterator[Finding]:
    if len(train) > 1 and len(val) == 1:
        text = f"{root / 'val'}: one folder, {min(val)}, for {len(train)} classes: its images seem unsorted; {SORT}"
        yield Finding("error", text)
        return
    if len(train) == 1:
        yield Finding("error", f"{root / 'train'}: only the class {min(train)}; a classifier needs at least two")
    for name, other, only in (("train", "val", train - val), ("val", "train", val - train)):
        if only:
            text = f"{len(only)} class folders are in {name} only: {some(sorted(only))}; make them in {other} too, or "
            yield Finding("error", f"{root}: {text}take them out of {name}")


def _entries(folder: Path) -> tuple[set[str], int]:
    """Names of class folders, and how many images lie beside them."""
    with os.scandir(folder) as entries:
        shown = [(one.name, one.is_dir()) for one in entries if one.name[0] != "."]
    loose = sum(not is_dir and Path(name).suffix.lower() in SUFFIXES for name, is_dir in shown)
    return {name for name, is_dir in shown if is_dir}, loose


def _has_image(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))
