"""The data of a run as its model will see them: counts, doubles between the sets, and a sheet of samples."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from resnet_backbone.detection.data.checks import box_notes, check_images
from resnet_backbone.detection.data.faults import Faults
from resnet_backbone.detection.data.mapper import training_mapper
from resnet_backbone.detection.drawables import mapped_objects
from resnet_backbone.detection.preflight.boxes import anchor_finding, area_finding
from resnet_backbone.engine.preflight import Finding
from resnet_backbone.engine.text import some
from resnet_backbone.evaluation.pictures import contact_sheet, draw, save
from resnet_backbone.evaluation.rle import check_mask

Record = dict[str, Any]
FEW = 10
"""Objects of a class below which its AP is chance."""
SHOWN = 30
SAMPLES = 16


def data_findings(cfg: CfgNode, records: Sequence[Record]) -> list[Finding]:
    """Objects a class, images without any, images that are in both sets, and sizes of objects.

    Args:
        records: that are trained on.

    Raises:
        DataError: names every image of registered sets that is not usable.
    """
    records = list(records)  # made once: they are gone through several times
    names = list(MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes") or [])
    test = [record for name in cfg.DATASETS.TEST for record in DatasetCatalog.get(name)]
    notes = [] if cfg.DATA.ROOT else registered_notes(records, test)  # the user's own were looked at when read
    trained, tested = _objects(records), _objects(test)
    lines = [f"{name} {trained[i]} / {tested[i]}" for i, name in enumerate(names)]
    found = [
        Finding("ok", f"{len(records)} images to train on, {len(test)} to test on"),
        Finding("ok", f"objects to train on / to find: {some(lines, SHOWN)}"),
    ]
    found += [Finding("note", note) for note in notes]
    few = [name for i, name in enumerate(names) if trained[i] < FEW]
    if few:
        text = f"fewer than {FEW} objects to train on: {some(few)}; annotate more, or leave the class out"
        found.append(Finding("note" if len(names) > SHOWN else "warning", text))
    empty = sum(1 for r in records if not _countable(r))
    if empty:
        found.append(Finding("note", f"{empty} training images have no object: they teach what is background"))
    twice = doubles([r["file_name"] for r in records], [r["file_name"] for r in test])
    if twice:
        text = f"{len(twice)} test images are training images too (first: {twice[0]}): the AP would flatter; take "
        found.append(Finding("warning", text + "them out of one set"))
    return found + [one for one in (anchor_finding(cfg, records), area_finding(test)) if one]


def registered_notes(train: Sequence[Record], test: Sequence[Record]) -> list[str]:
    """Looks at the images and boxes of sets that the catalog gave, as the readers of DATA.* do for theirs.

    Args:
        train, test: own copies; sizes that are not said are filled in.

    Raises:
        DataError: names every image that is missing, not readable or of another size than its annotation says.
    """
    faults = Faults()
    for records in (train, test):
        faults.tried(check_images, records)
        for record in records:
            faults.tried(_check_run_lengths, record)
    faults.end()
    return [*box_notes(train, "training"), *box_notes(test, "test")]


def _check_run_lengths(record: Record) -> None:
    """Damaged ones hang pycocotools, or end a run in the middle."""
    for number, annotation in enumerate(record.get("annotations", ())):
        mask = annotation.get("segmentation")
        if isinstance(mask, dict) and isinstance(mask.get("counts"), str):
            check_mask(mask, f"{record['file_name']}: annotation {number}")


def doubles(train: Sequence[str], test: Sequence[str]) -> list[str]:
    """Those of `test` whose file has the content of one in `train`; only files of equal length are read."""
    lengths = {os.path.getsize(file) for file in train}
    alike = [file for file in test if os.path.getsize(file) in lengths]
    wanted = {os.path.getsize(file) for file in alike}
    contents = {_digest(file) for file in train if os.path.getsize(file) in wanted}
    return [file for file in alike if _digest(file) in contents]


def sample_sheet(cfg: CfgNode, records: Sequence[Record], path: Path) -> Finding:
    """Draws training images as the model gets them: resized, flipped, with boxes and masks after the mapper."""
    mapper = training_mapper(cfg)
    names = list(MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes") or [])
    pictures = []
    for number, place in enumerate(np.linspace(0, len(records) - 1, min(SAMPLES, len(records))).round().astype(int)):
        np.random.seed(number)
        seen = mapper(records[place])
        image = seen["image"].permute(1, 2, 0).numpy()
        image = image if cfg.INPUT.FORMAT == "RGB" else image[:, :, ::-1]
        pictures.append(draw(np.ascontiguousarray(image), mapped_objects(seen["instances"]), names))
    save(path, contact_sheet(pictures))
    return Finding("ok", f"{len(pictures)} training images with their objects, as the model sees them: {path}")


def _objects(records: Sequence[Record]) -> Counter[int]:
    return Counter(a["category_id"] for r in records for a in _countable(r))


def _countable(record: Record) -> list[Record]:
    return [a for a in record.get("annotations", ()) if not a.get("iscrowd")]


def _digest(file: str) -> bytes:
    return hashlib.sha256(Path(file).read_bytes()).digest()
