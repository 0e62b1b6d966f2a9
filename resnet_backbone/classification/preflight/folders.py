"""Class folders before they are read: everything that is wrong with their layout, not the first thing alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from resnet_backbone.classification.data.shard_index import INDEX
from resnet_backbone.engine.preflight import Finding
from resnet_backbone.engine.text import some
from resnet_backbone.images.listing import SUFFIXES, class_names, has_images, loose_images

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
    classes = {name: set(class_names(folder)) for name, folder in splits.items()}
    for name, folder in splits.items():
        yield from _of_split(folder, classes[name], len(loose_images(folder)))
    if all(classes.get(name) for name in ("train", "val")):
        yield from _differences(root, classes["train"], classes["val"])


def _of_split(folder: Path, classes: set[str], loose: int) -> Iterator[Finding]:
    if not classes:
        what = f"{loose:,} images in no class folder; {SORT}" if loose else "no class folders; make one for each class"
        yield Finding("error", f"{folder}: {what}")
        return
    if loose:
        yield Finding("error", f"{folder}: {loose:,} images in no class folder; {SORT}")
    empty = sorted(name for name in classes if not has_images(folder / name))
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
