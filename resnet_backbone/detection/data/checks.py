"""Looks at data before the first iteration: images that are missing or broken, boxes that are none."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from detectron2.structures import BoxMode
from detectron2.utils import comm

from resnet_backbone.detection.data.faults import DataError, Faults
from resnet_backbone.engine.progress import Progress
from resnet_backbone.images.size import image_size

Record = dict[str, Any]

MANY = 5000
"""Images from which on looking at them takes so long that one wants to see it."""


def missing_files(records: Iterable[Record]) -> list[str]:
    """Images that are not there, by the listings of their folders; addresses (with ://) are not looked at."""
    files = [r["file_name"] for r in records if "://" not in r["file_name"]]
    folders = {os.path.dirname(file) for file in files}
    there = {folder: set(os.listdir(folder or ".")) for folder in folders if os.path.isdir(folder or ".")}
    return [file for file in files if os.path.basename(file) not in there.get(os.path.dirname(file), ())]


def check_there(records: Sequence[Record]) -> None:
    """Every image is there.

    Raises:
        DataError: names the first that is not, and how many there are.
    """
    missing = missing_files(records)
    if missing:
        raise DataError([_absence(missing, len(records))])


def check_images(records: Iterable[Record]) -> None:
    """Every image is there, is readable and has the size that its annotation says; addresses are not looked at.

    Fills in height and width where the annotation does not say.

    Raises:
        DataError: names every image that is not so, of missing ones the first and how many there are.
    """
    records = list(records)
    missing = missing_files(records)
    absent, faults = set(missing), Faults()
    if missing:
        faults.found.append(_absence(missing, len(records)))
    progress = Progress(len(records), "looking at the images", show=len(records) >= MANY and comm.is_main_process())
    for record in records:
        if record["file_name"] not in absent and "://" not in record["file_name"]:
            faults.tried(_check_image, record)
        progress.step()
    progress.close()
    faults.end()


def _absence(missing: Sequence[str], of: int) -> str:
    return (
        f"{missing[0]}: annotated, but there is no such file ({len(missing)} of {of} are missing); add the files, "
        "correct the folder (DATA.ROOT, DATA.TRAIN_IMAGES, DATA.TEST_IMAGES; of registered sets $DETECTRON2_DATASETS) "
        "or the annotation"
    )


def _check_image(record: Record) -> None:
    height, width = image_size(record["file_name"])
    said = (record.get("height") or height, record.get("width") or width)
    if said != (height, width):
        raise ValueError(
            f"{record['file_name']}: the image has {width} x {height} pixels (as its EXIF data turn it), its "
            f"annotation says {said[1]} x {said[0]}; its boxes cannot be trusted: correct one of the two"
        )
    record["height"], record["width"] = height, width


def box_notes(records: Sequence[Record], what: str) -> list[str]:
    """Counts boxes that Detectron2's mapper cuts off or leaves out; evaluation takes them as they are.

    Args:
        records: with `annotations` and sizes.
        what: the split's name in the notes.
    """
    counted: Counter[str] = Counter()
    first: dict[str, str] = {}
    for record in records:
        for annotation in record.get("annotations", ()):
            kind = _kind(annotation, record["height"], record["width"])
            counted[kind] += 1
            first.setdefault(kind, os.path.basename(record["file_name"]))
    tell = {
        "partly outside": "boxes reach out of their image: cut off in training, evaluated as they are",
        "outside": "boxes lie outside their image: not trained on, never found in evaluation",
        "empty": "boxes have no width or height: not trained on, never found in evaluation",
    }
    return [
        f"{what}: {counted[k]} {text} (first: {first[k]}); correct the boxes or take them out"
        for k, text in tell.items()
        if counted[k]
    ]


def _kind(annotation: Record, height: int, width: int) -> str:
    x0, y0, x1, y1 = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS)
    if x1 <= x0 or y1 <= y0:
        return "empty"
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        return "outside"
    # Exporters that round leave boxes a pixel too far out; that is no mistake to tell of.
    far = min(x0, y0) < -1 or x1 > width + 1 or y1 > height + 1
    return "partly outside" if far else "fine"
