"""Registered VOC splits whose annotations are not public: their images can be tested on, and nothing is measured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_pascal_voc
from detectron2.utils.file_io import PathManager

from resnet_backbone.evaluation.voc_files import read_lines
from resnet_backbone.images.size import image_size

Record = dict[str, Any]

VOC_2012_TEST = "voc_2012_test"
"""Of the evaluation server; Detectron2 itself does not register it."""


def register_voc_2012_test() -> None:
    """Adds VOC 2012's test split, under $DETECTRON2_DATASETS, to the catalog, if it is not there."""
    if VOC_2012_TEST not in DatasetCatalog.list():
        root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
        register_pascal_voc(VOC_2012_TEST, os.path.join(root, "VOC2012"), "test", 2012)
        MetadataCatalog.get(VOC_2012_TEST).evaluator_type = "pascal_voc"


def is_voc(metadata: Any) -> bool:
    """Whether a registered set is in VOC's layout; `register_pascal_voc` sets a year, its caller the evaluator."""
    return metadata.get("evaluator_type") == "pascal_voc" or metadata.get("year") is not None


def allow_unannotated(name: str) -> str | None:
    """Lets a registered VOC split be read though its annotations are not there; Detectron2's reader breaks off.

    The records are then without `annotations`. The real 2012 test split has some annotations, of another task:
    so a split counts as unannotated where half of them or more are missing. Any other set is left as it is.

    Returns:
        What to tell the user, where the split is unannotated.

    Raises:
        ValueError: the split has annotations, but not for every image.
    """
    metadata = MetadataCatalog.get(name)
    if metadata.get("year") is None:  # which only Detectron2's `register_pascal_voc` sets
        return None
    root = Path(PathManager.get_local_path(metadata.dirname))
    lines = read_lines(root / "ImageSets" / "Main" / f"{metadata.split}.txt")
    ids = list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))
    folder = root / "Annotations"
    there = set(os.listdir(folder)) if folder.is_dir() else set()
    missing = [i for i in ids if f"{i}.xml" not in there]
    if not missing:
        return None
    if 2 * len(missing) < len(ids):
        raise ValueError(
            f"{folder}: {len(missing)} of the {len(ids)} images of {name} have no annotation (first: {missing[0]}); "
            f"add the files or take the names out of ImageSets/Main/{metadata.split}.txt"
        )
    DatasetCatalog.remove(name)
    DatasetCatalog.register(name, lambda: _records(root, ids))
    return f"{name}: {len(missing)} of {len(ids)} images have no annotation: results are written, nothing is measured"


def _records(root: Path, ids: list[str]) -> list[Record]:
    records: list[Record] = []
    for image_id in ids:
        file = os.path.join(root, "JPEGImages", f"{image_id}.jpg")
        height, width = image_size(file)
        records.append({"file_name": file, "image_id": image_id, "height": height, "width": width})
    return records
