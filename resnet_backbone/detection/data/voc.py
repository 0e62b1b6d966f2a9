"""Reads data in PASCAL VOC's layout: the folders Annotations and JPEGImages, and perhaps ImageSets/Main."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode

from resnet_backbone.detection.data.faults import Faults
from resnet_backbone.detection.data.splits import seeded_split
from resnet_backbone.evaluation.voc_files import read_lines
from resnet_backbone.evaluation.voc_xml import read_annotation

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif")
"""In the order of preference where two images have one name."""

Record = dict[str, Any]


def load_voc(root: Path, image_ids: Sequence[str], images: Mapping[str, str]) -> list[Record]:
    """Detectron2's records, as its `load_voc_instances` makes them, but for three things.

    `category_id` is still the class's name; every annotation has a flag `difficult`; height and width are
    None where the annotation does not say. An image without annotation file has no `annotations`.

    Args:
        root: the folder that holds Annotations and JPEGImages.
        image_ids: file names without ending, in the order of the records.
        images: file name of every image by its name without ending.

    Raises:
        DataError: one sentence for every annotation file that is wrong.
    """
    faults = Faults()
    records = [faults.tried(_record, root, image_id, images[image_id]) for image_id in image_ids]
    faults.end()
    return [record for record in records if record is not None]


def _record(root: Path, image_id: str, image: str) -> Record:
    file, path = root / "Annotations" / f"{image_id}.xml", os.path.join(root, "JPEGImages", image)
    if not file.exists():
        return {"file_name": path, "image_id": image_id, "height": None, "width": None}
    annotation = read_annotation(file)
    height, width = annotation.size or (None, None)
    return {
        "file_name": path,
        "image_id": image_id,
        "height": height,
        "width": width,
        "annotations": [
            {
                "category_id": one.name,
                "bbox": list(one.box),
                "bbox_mode": BoxMode.XYXY_ABS,
                "difficult": one.difficult,
            }
            for one in annotation.objects
        ],
    }


def find_images(root: Path) -> dict[str, str]:
    """File names in JPEGImages by their names without ending.

    Raises:
        ValueError: one of the two folders is not there.
    """
    for folder in ("Annotations", "JPEGImages"):
        if not (root / folder).is_dir():
            raise ValueError(
                f"DATA.ROOT: {root} has no folder {folder}; VOC's layout has Annotations and JPEGImages there"
            )
    names = [name for name in os.listdir(root / "JPEGImages") if name.lower().endswith(IMAGE_ENDINGS)]
    worst_first = sorted(names, key=lambda n: IMAGE_ENDINGS.index(os.path.splitext(n)[1].lower()), reverse=True)
    return {os.path.splitext(name)[0]: name for name in worst_first}


def choose_splits(
    root: Path, images: Mapping[str, str], train: str, test: str, fraction: float, seed: int
) -> tuple[list[str], list[str], list[str]]:
    """Image ids to train on, to test on, and what to tell the user about the choice.

    Named splits are files in ImageSets/Main and must be complete, but for a test split of which nothing is
    annotated. Where nothing is named the usual files
    are taken if they are there, else a share of the annotated images is drawn by `seed`.

    Raises:
        ValueError: a split that is not there, or that names an image without file or annotation.
    """
    folder = root / "ImageSets" / "Main"
    there = {file.stem for file in folder.glob("*.txt")}
    annotated = {os.path.splitext(n)[0] for n in os.listdir(root / "Annotations") if n.endswith(".xml")}
    notes: list[str] = []
    blind = bool(test)
    if not train and not test:
        usual = [("trainval", "test"), ("train", "val"), ("train", "test")]
        train, test = next((pair for pair in usual if there.issuperset(pair)), ("", ""))
        if not train:
            return _drawn(root, images, annotated, fraction, seed)
        notes.append(f"DATA.TRAIN and DATA.TEST are empty: split files {train}.txt and {test}.txt of {folder} taken")
    if not train or not test:
        key, other = ("DATA.TEST", f"DATA.TRAIN is {train!r}") if train else ("DATA.TRAIN", f"DATA.TEST is {test!r}")
        raise ValueError(f"{key}: is empty, but {other}; name both splits, or leave both empty")
    for key, split in (("DATA.TRAIN", train), ("DATA.TEST", test)):
        if split not in there:
            raise ValueError(
                f"{key}: no file {folder / split}.txt; the splits there are {', '.join(sorted(there)) or 'none'}; "
                "name both splits, or leave both empty for the usual or a drawn split"
            )
    ids = [
        _read_split(folder / f"{train}.txt", images, annotated, notes),
        _read_split(folder / f"{test}.txt", images, annotated, notes, may_be_blind=blind),
    ]
    both = set(ids[0]) & set(ids[1])
    if both:
        notes.append(
            f"{len(both)} images are in both {train} and {test} (first: {min(both)}): the test is not a fair one"
        )
    return ids[0], ids[1], notes


def _drawn(
    root: Path, images: Mapping[str, str], annotated: set[str], fraction: float, seed: int
) -> tuple[list[str], list[str], list[str]]:
    usable = sorted(annotated & images.keys())
    train, test = seeded_split(usable, fraction, seed)
    notes = [
        f"no split files in {root / 'ImageSets' / 'Main'}: {len(train)} images to train on and {len(test)} to "
        f"test on drawn by DATA.SPLIT_SEED {seed} and DATA.TEST_FRACTION {fraction}"
    ]
    for what, lonely in (
        ("annotations without image", annotated - images.keys()),
        ("images without annotation", images.keys() - annotated),
    ):
        if lonely:
            notes.append(f"{len(lonely)} {what} left out (first: {min(lonely)})")
    return train, test, notes


def _read_split(
    file: Path, images: Mapping[str, str], annotated: set[str], notes: list[str], *, may_be_blind: bool = False
) -> list[str]:
    lines = [line.strip() for line in read_lines(file)]
    # The devkit's files of one class have a second column; names with spaces have none.
    ids = [line if line in images or line in annotated else line.split()[0] for line in lines if line]
    once = list(dict.fromkeys(ids))
    if len(once) < len(ids):
        notes.append(f"{file.name} names {len(ids) - len(once)} images twice; each is taken once")
    for what, known in (("JPEGImages", images), ("Annotations", annotated)):
        missing = [i for i in once if i not in known]
        if may_be_blind and known is annotated and len(missing) == len(once):
            notes.append(f"{file.name}: none of its images is annotated: results are written, nothing is measured")
        elif missing:
            raise ValueError(
                f"{file}: {len(missing)} of its {len(once)} images are not in {what} (first: {missing[0]!r}); "
                "add the files or take the names out of the split"
            )
    return once
