"""Reads the user's own data whole: both splits, with images checked, classes indexed and masks looked at."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from detectron2.data.common import DatasetFromList

from resnet_backbone.detection.data.checks import box_notes, check_images
from resnet_backbone.detection.data.coco import CocoData, load_coco
from resnet_backbone.detection.data.faults import Faults
from resnet_backbone.detection.data.splits import seeded_split
from resnet_backbone.detection.data.voc import choose_splits, find_images, load_voc
from resnet_backbone.engine.text import some

Record = dict[str, Any]


@dataclass(frozen=True)
class DataSpec:
    """The keys `DATA.*` that decide what is read, and whether masks are asked for."""

    format: str
    name: str
    root: Path
    train: str
    test: str
    train_images: str
    test_images: str
    classes: tuple[str, ...]
    seed: int
    fraction: float
    masks: bool


@dataclass
class DataSplit:
    """Detectron2's records of one split, and its metadata but for the classes."""

    records: Sequence[Record]
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedData:
    """Both splits; notes are lines for the user; for `mask_format` see `UserData`."""

    train: DataSplit
    test: DataSplit
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    mask_format: str


@lru_cache(maxsize=4)
def load_user_data(spec: DataSpec) -> LoadedData:
    """Reads and checks everything; the same spec is read once in a process.

    Raises:
        ValueError: one sentence with file or key, value and remedy for whatever cannot be trained on. A DataError
            has one for every annotation that is wrong, or, if none is, for every image.
    """
    train, test, offered, notes = _read_voc(spec) if spec.format == "voc" else _read_coco(spec)
    faults = Faults()
    for what, split in (("training", train), ("test", test)):
        if not split.records:
            key = "DATA.TRAIN" if split is train else "DATA.TEST"
            raise ValueError(f"{key}: the {what} set of {spec.root} has no images; name one that has, or add them")
        faults.tried(check_images, split.records)
    faults.end()
    for what, split in (("training", train), ("test", test)):
        notes += box_notes(split.records, what)
    classes = _choose_classes(spec, offered)
    notes += _index_classes((train, test), classes)
    if not any(_trainable(a) for a in _annotations(train)):
        raise ValueError(
            f"DATA.TRAIN: none of the {len(train.records)} training images of {spec.root} has an object to train "
            "on (crowds do not count); name a split or file that has"
        )
    notes += _unseen(train, test, classes)
    mask_format = _check_masks(spec, train, notes) if spec.masks else ""
    for split in (train, test):
        # As bytes, smaller than objects; and nobody changes what another will get.
        split.records = DatasetFromList(split.records, copy=False)
    head = f"{spec.name}: {len(train.records)} images to train on, {len(test.records)} to test on, "
    notes.insert(0, f"{head}{len(classes)} classes: {some(classes)}")
    return LoadedData(train, test, classes, tuple(notes), mask_format)


def _read_voc(spec: DataSpec) -> tuple[DataSplit, DataSplit, list[str], list[str]]:
    if spec.masks:
        raise ValueError("MODEL.MASK_ON: True, but data in VOC's layout have no masks; set it to False")
    images = find_images(spec.root)
    train, test, notes = choose_splits(spec.root, images, spec.train, spec.test, spec.fraction, spec.seed)
    faults = Faults()
    splits = [
        DataSplit(faults.tried(load_voc, spec.root, ids, images) or [], {"dirname": str(spec.root), "split": name})
        for ids, name in ((train, spec.train or "train"), (test, spec.test or "test"))
    ]
    faults.end()
    names = {a["category_id"] for split in splits for a in _annotations(split)}
    return splits[0], splits[1], sorted(names), notes


def _read_coco(spec: DataSpec) -> tuple[DataSplit, DataSplit, list[str], list[str]]:
    files = [spec.root / spec.train, spec.root / (spec.test or spec.train)]
    images = [spec.root / spec.train_images, spec.root / (spec.test_images or spec.train_images)]
    faults = Faults()
    read = [faults.tried(load_coco, *both) for both in list(zip(files, images))[: 2 if spec.test else 1]]
    faults.end()
    train, *rest = [data for data in read if data]
    notes = [note for data in (train, *rest) for note in data.notes]
    if rest:
        test = rest[0]
    else:
        both = {r["image_id"]: r for r in train.records}
        parts = seeded_split(list(both), spec.fraction, spec.seed)
        train, test = (CocoData([both[i] for i in ids], train.category_ids, as_is=False) for ids in parts)
        notes.append(
            f"DATA.TEST is empty: {len(parts[0])} images to train on and {len(parts[1])} to test on drawn from "
            f"{files[0].name} by DATA.SPLIT_SEED {spec.seed} and DATA.TEST_FRACTION {spec.fraction}"
        )
    names = list(dict.fromkeys([*train.category_ids, *test.category_ids]))
    classes = _choose_classes(spec, names)
    splits = []
    for data, other, file, folder in zip((train, test), (test, train), files, images):
        ids = {**other.category_ids, **data.category_ids}
        metadata: dict[str, Any] = {"image_root": str(folder)}
        if len({ids[name] for name in classes}) == len(classes):
            metadata["thing_dataset_id_to_contiguous_id"] = {ids[n]: i for i, n in enumerate(classes)}
        if data.as_is and list(classes) == list(data.category_ids):
            metadata["json_file"] = str(file)
        splits.append(DataSplit(data.records, metadata))
    return splits[0], splits[1], names, notes


def _choose_classes(spec: DataSpec, offered: Sequence[str]) -> tuple[str, ...]:
    twice = [name for name, count in Counter(spec.classes).items() if count > 1]
    if twice:
        raise ValueError(f"DATA.CLASSES: names {some(twice)} more than once; name each class once")
    for name in spec.classes:
        if name not in offered:
            near = difflib.get_close_matches(name, offered, 1)
            remedy = f"did you mean {near[0]!r}?" if near else "correct the name or take it out"
            raise ValueError(f"DATA.CLASSES: the data have no class {name!r}, but {some(offered)}; {remedy}")
    return spec.classes or tuple(offered)


def _index_classes(splits: Sequence[DataSplit], classes: Sequence[str]) -> list[str]:
    """Turns class names into their indices, and leaves out objects of classes that are not asked for."""
    indices = {name: index for index, name in enumerate(classes)}
    left_out: Counter[str] = Counter()
    for record in (r for split in splits for r in split.records if "annotations" in r):
        left_out.update(a["category_id"] for a in record["annotations"] if a["category_id"] not in indices)
        record["annotations"] = [a for a in record["annotations"] if a["category_id"] in indices]
        for annotation in record["annotations"]:
            annotation["category_id"] = indices[annotation["category_id"]]
    if not left_out:
        return []
    return [f"{left_out.total()} objects of classes that DATA.CLASSES does not name left out: {some(left_out)}"]


def _unseen(train: DataSplit, test: DataSplit, classes: Sequence[str]) -> list[str]:
    seen, asked = (Counter(a["category_id"] for a in _annotations(split)) for split in (train, test))
    unseen = [name for index, name in enumerate(classes) if asked[index] and not seen[index]]
    notes = []
    if unseen:
        notes.append(f"classes of the test set that no training image shows, so their AP will be 0: {some(unseen)}")
    if not asked:
        notes.append("the test set has no objects: there is nothing to measure an AP on")
    return notes


def _check_masks(spec: DataSpec, train: DataSplit, notes: list[str]) -> str:
    """The mask format that Detectron2's mapper needs; an object without a mask becomes one to be ignored."""
    objects = [a for a in _annotations(train) if _trainable(a)]
    masked = [a for a in objects if "segmentation" in a]
    if not masked:
        raise ValueError(f"MODEL.MASK_ON: True, but {spec.train} has no masks; set it to False, or annotate masks")
    for annotation in objects:
        if "segmentation" not in annotation:
            annotation["iscrowd"] = 1
    if len(masked) < len(objects):
        notes.append(f"training: {len(objects) - len(masked)} objects without a mask are not trained on")
    return "bitmask" if any(isinstance(a["segmentation"], Mapping) for a in masked) else "polygon"


def _annotations(split: DataSplit) -> list[Record]:
    return [a for record in split.records for a in record.get("annotations", ())]


def _trainable(annotation: Record) -> bool:
    return not annotation.get("iscrowd")
