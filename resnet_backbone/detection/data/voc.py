"""Reads data in PASCAL VOC's layout: the folders Annotations and JPEGImages, and perhaps ImageSets/Main."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from detectron2.structures import BoxMode

from resnet_backbone.detection.data.splits import seeded_split

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif")
"""In the order of preference where two images have one name."""

Record = dict[str, Any]


@dataclass(frozen=True)
class VocObject:
    """One object; the box is XYXY from 0, which is (xmin - 1, ymin - 1, xmax, ymax)."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True)
class VocAnnotation:
    """One file; size is (height, width), None where the file does not say."""

    size: tuple[int, int] | None
    objects: tuple[VocObject, ...]


def read_annotation(file: Path) -> VocAnnotation:
    """Reads one annotation file; `difficult`, `pose`, `truncated` and `size` may be missing.

    Raises:
        ValueError: broken XML, entities, an object without name or box, a coordinate that is no number.
        OSError: the file cannot be read.
    """
    root = _parse(file)
    return VocAnnotation(_size(root), tuple(_object(one, file) for one in root.findall("object")))


def _parse(file: Path) -> Element:
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = _refuse_entity  # entities that multiply, or that name other files
    try:
        parser.Parse(file.read_bytes(), True)
        root = builder.close()
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise ValueError(f"{file}: not readable as XML ({error}); restore the file or take it away") from error
    if root.tag != "annotation":
        raise ValueError(f"{file}: starts with <{root.tag}> and not with VOC's <annotation>; not an annotation file")
    return root


def _refuse_entity(name: str, *_: Any) -> NoReturn:
    raise ValueError(f"it declares the entity {name!r}, which annotations do not need")


def _size(root: Element) -> tuple[int, int] | None:
    try:
        height, width = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
    except (ValueError, OverflowError):
        return None
    return (height, width) if height > 0 and width > 0 else None


def _object(element: Element, file: Path) -> VocObject:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise ValueError(f"{file}: an <object> has no <name>; name its class or take it away")
    box = element.find("bndbox")
    if box is None:
        raise ValueError(f"{file}: an object of class {name!r} has no <bndbox>; add its box or take it away")
    x0, y0, x1, y1 = (_coordinate(box, side, name, file) for side in ("xmin", "ymin", "xmax", "ymax"))
    difficult = (element.findtext("difficult") or "").strip().lower() in ("1", "true")
    return VocObject(name, (x0 - 1, y0 - 1, x1, y1), difficult)


def _coordinate(box: Element, side: str, name: str, file: Path) -> float:
    text = box.findtext(side) or ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"{file}: {side} of an object of class {name!r} is {text.strip()!r} and not a number; correct it"
        )
    return value


def load_voc(root: Path, image_ids: Sequence[str], images: Mapping[str, str]) -> list[Record]:
    """Detectron2's records, as its `load_voc_instances` makes them, but for three things.

    `category_id` is still the class's name; every annotation has a flag `difficult`; height and width are
    None where the annotation does not say.

    Args:
        root: the folder that holds Annotations and JPEGImages.
        image_ids: file names without ending, in the order of the records.
        images: file name of every image by its name without ending.
    """
    return [_record(root, image_id, images[image_id]) for image_id in image_ids]


def _record(root: Path, image_id: str, image: str) -> Record:
    annotation = read_annotation(root / "Annotations" / f"{image_id}.xml")
    height, width = annotation.size or (None, None)
    return {
        "file_name": os.path.join(root, "JPEGImages", image),
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

    Named splits are files in ImageSets/Main and must be complete. Where nothing is named the usual files
    are taken if they are there, else a share of the annotated images is drawn by `seed`.

    Raises:
        ValueError: a split that is not there, or that names an image without file or annotation.
    """
    folder = root / "ImageSets" / "Main"
    there = {file.stem for file in folder.glob("*.txt")}
    annotated = {os.path.splitext(n)[0] for n in os.listdir(root / "Annotations") if n.endswith(".xml")}
    notes: list[str] = []
    if not train and not test:
        usual = [("trainval", "test"), ("train", "val"), ("train", "test")]
        train, test = next((pair for pair in usual if there.issuperset(pair)), ("", ""))
        if not train:
            return _drawn(root, images, annotated, fraction, seed)
        notes.append(f"DATA.TRAIN and DATA.TEST are empty: split files {train}.txt and {test}.txt of {folder} taken")
    for key, split in (("DATA.TRAIN", train), ("DATA.TEST", test)):
        if split not in there:
            raise ValueError(
                f"{key}: no file {folder / split}.txt; the splits there are {', '.join(sorted(there)) or 'none'}; "
                "name both splits, or leave both empty for the usual or a drawn split"
            )
    ids = [_read_split(folder / f"{split}.txt", images, annotated, notes) for split in (train, test)]
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


def _read_split(file: Path, images: Mapping[str, str], annotated: set[str], notes: list[str]) -> list[str]:
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    # The devkit's files of one class have a second column; names with spaces have none.
    ids = [line if line in images or line in annotated else line.split()[0] for line in lines if line]
    once = list(dict.fromkeys(ids))
    if len(once) < len(ids):
        notes.append(f"{file.name} names {len(ids) - len(once)} images twice; each is taken once")
    for what, known in (("JPEGImages", images), ("Annotations", annotated)):
        missing = [i for i in once if i not in known]
        if missing:
            raise ValueError(
                f"{file}: {len(missing)} of its {len(once)} images are not in {what} (first: {missing[0]!r}); "
                "add the files or take the names out of the split"
            )
    return once
