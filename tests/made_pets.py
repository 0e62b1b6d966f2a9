"""Small data sets of cats in both formats, to be spoiled, and how they are registered."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog
from PIL import Image

from resnet_backbone.detection.data.catalog import UserData, register_user_data

RLE = {"size": [40, 60], "counts": [0, 40, 2360]}
"""Run lengths of a mask that fits the images of `write_coco`."""


def config(masks: bool = False, **keys: Any) -> CfgNode:
    cfg = get_cfg()
    cfg.DATA = CfgNode(
        {
            **dict(FORMAT="", NAME=f"data_{uuid.uuid4().hex[:8]}", ROOT="", TRAIN="", TEST="", TRAIN_IMAGES=""),
            **dict(TEST_IMAGES="", CLASSES=[], SPLIT_SEED=0, TEST_FRACTION=0.2),
            **{key.upper(): str(value) if isinstance(value, Path) else value for key, value in keys.items()},
        }
    )
    cfg.MODEL.MASK_ON = masks
    return cfg


def plain(records: list[dict[str, Any]], *extra: str) -> list[dict[str, Any]]:
    """Without the keys that Detectron2's records do not have."""
    return [
        {**r, "annotations": [{k: v for k, v in a.items() if k not in extra} for a in r["annotations"]]}
        for r in records
    ]


def write_image(file: Path, size: tuple[int, int] = (60, 40), **how: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(file, **how)


def one_object(name: str = "cat", box: tuple[Any, ...] = (10, 10, 30, 30), more: str = "") -> str:
    sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return f"<object><name>{name}</name>{more}<bndbox>{sides}</bndbox></object>"


def xml(*objects: str, size: tuple[int, int] | None = (60, 40)) -> str:
    said = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation>{said}{''.join(objects)}</annotation>"


def write_voc(root: Path) -> Path:
    """Ten images of a cat each, no split files."""
    for n in range(10):
        write_image(root / f"JPEGImages/pet {n}.jpg")
        (root / "Annotations").mkdir(exist_ok=True)
        (root / f"Annotations/pet {n}.xml").write_text(xml(one_object()))
    return root


def write_coco(root: Path, **changes: Any) -> Path:
    """A COCO data set of four images with a cat each, changed as asked for; returns its folder."""
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 60, "height": 40} for n in range(4)]
    square = [[10, 10, 30, 10, 30, 30, 10, 30]]
    annotations = [
        {
            "id": n,
            "image_id": n,
            "category_id": 5,
            "bbox": [10, 10, 20, 20],
            "segmentation": square,
            "iscrowd": 0,
            "area": 400,
        }
        for n in range(4)
    ]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 5, "name": "cat"}, {"id": 9, "name": "dog"}],
    }
    for key, change in changes.items():
        content[key] = change(content[key]) if callable(change) else change
    for n in range(4):
        write_image(root / f"images/{n}.jpg")
    (root / "all.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return root


def first_changed(**change: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda entries: [{**entries[0], **change}, *entries[1:]]


def register(root: Path, **keys: Any) -> UserData:
    if (root / "all.json").is_file():
        keys = {"format": "coco", "train": "all.json", "test": "all.json", "train_images": "images", **keys}
    return register_user_data(config(**{"format": "voc", **keys, "root": root}))


def records(root: Path, **keys: Any) -> list[dict[str, Any]]:
    data = register(root, **keys)
    return sorted(DatasetCatalog.get(data.train) + DatasetCatalog.get(data.test), key=lambda r: str(r["image_id"]))
