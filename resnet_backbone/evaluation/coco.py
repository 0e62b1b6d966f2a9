"""COCO's twelve numbers and the AP of every class, for boxes and masks, by pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

IouType = Literal["bbox", "segm"]
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""In the order of pycocotools' `stats`."""

Annotation = dict[str, Any]


@dataclass(frozen=True)
class CocoResult:
    """Percent; nan where the ground truth has nothing to measure (pycocotools says -1).

    Attributes:
        metrics: the twelve numbers by the names in `METRICS`.
        per_class: AP by class name, in the order of category ids.
    """

    metrics: dict[str, float]
    per_class: dict[str, float]


def evaluate_coco(
    truth: Mapping[str, Any] | str | Path, detections: Sequence[Mapping[str, Any]], iou_type: IouType = "bbox"
) -> CocoResult:
    """Scores detections as COCO does.

    The ground truth may be what pycocotools stumbles over: annotation ids from 0, double or missing, any
    image ids, no `info`, no `area`, no `iscrowd`. No detections at all is AP 0. For masks, an object without
    a mask cannot be asked for: its box becomes an ignored (crowd) region.

    Args:
        truth: COCO's JSON as dict or file; not changed.
        detections: COCO results: image_id, category_id, score, and bbox (XYWH) or segmentation (RLE). Masks
            have their own area whether or not a bbox stands beside them.
        iou_type: overlap of boxes or of masks.

    Raises:
        ValueError: a detection names an image or a category that the ground truth does not have, lacks a
            field or has a score that is no number.
    """
    if not isinstance(truth, Mapping):
        loaded: dict[str, Any] = json.loads(Path(truth).read_text(encoding="utf-8"))
        return evaluate_coco(loaded, detections, iou_type)
    # pycocotools takes a match with the object of id 0 for none, and ties follow the order of image ids.
    image_ids = {image: n for n, image in enumerate(sorted(i["id"] for i in truth["images"]))}
    images = [{**image, "id": image_ids[image["id"]]} for image in truth["images"]]
    sizes = {image["id"]: (image.get("height"), image.get("width")) for image in images}
    categories = sorted(truth["categories"], key=lambda c: c["id"])
    objects = _objects(truth.get("annotations") or [], image_ids, sizes, iou_type)
    found = _found(detections, image_ids, sizes, {c["id"] for c in categories}, iou_type)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_coco(images, categories, objects), _coco(images, categories, found), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    numbers = [100 * float(x) if x >= 0 else float("nan") for x in evaluation.stats]
    return CocoResult(dict(zip(METRICS, numbers)), _per_class(evaluation, categories))


def _objects(
    annotations: Iterable[Mapping[str, Any]],
    image_ids: Mapping[Any, int],
    sizes: Mapping[int, Any],
    iou_type: IouType,
) -> list[Annotation]:
    """The ground truth's annotations, complete, numbered from 1; those of no image are left out."""
    objects: list[Annotation] = []
    for annotation in annotations:
        if annotation["image_id"] not in image_ids:
            continue
        image = image_ids[annotation["image_id"]]
        one: Annotation = {"iscrowd": 0, **annotation, "image_id": image, "id": len(objects) + 1}
        if iou_type == "segm":
            mask = to_rle(annotation.get("segmentation"), *sizes[image])
            if mask is None:
                one["iscrowd"], mask = 1, _box_rle(annotation["bbox"], *sizes[image])
            one["segmentation"] = mask
        if one.get("area") is None:
            one["area"] = _area(annotation, *sizes[image])
        objects.append(one)
    return objects


def _found(
    detections: Iterable[Mapping[str, Any]],
    image_ids: Mapping[Any, int],
    sizes: Mapping[int, Any],
    categories: set[Any],
    iou_type: IouType,
) -> list[Annotation]:
    found: list[Annotation] = []
    field = "bbox" if iou_type == "bbox" else "segmentation"
    for number, detection in enumerate(detections):
        _check(detection, number, field, image_ids, categories)
        image = image_ids[detection["image_id"]]
        one: Annotation = {
            "id": number + 1,
            "image_id": image,
            "category_id": detection["category_id"],
            "score": detection["score"],
            "iscrowd": 0,
        }
        if iou_type == "bbox":
            one["bbox"] = detection["bbox"]
            one["area"] = detection["bbox"][2] * detection["bbox"][3]
        else:
            one["segmentation"] = to_rle(detection["segmentation"], *sizes[image])
            one["area"] = float(masks.area(one["segmentation"]))
        found.append(one)
    return found


def _check(
    detection: Mapping[str, Any], number: int, field: str, image_ids: Mapping[Any, int], categories: set[Any]
) -> None:
    missing = [key for key in ("image_id", "category_id", "score", field) if not _given(detection, key)]
    if missing:
        raise ValueError(f"detection {number} has no {' and no '.join(missing)}")
    if detection["image_id"] not in image_ids:
        raise ValueError(f"detection {number}: image {detection['image_id']!r} is not in the ground truth")
    if detection["category_id"] not in categories:
        raise ValueError(
            f"detection {number}: category {detection['category_id']!r} is not in the ground truth, which has "
            f"{', '.join(str(c) for c in sorted(categories)[:10])}{' ...' if len(categories) > 10 else ''}"
        )
    if not np.isfinite(detection["score"]):
        raise ValueError(f"detection {number}: score {detection['score']} of image {detection['image_id']!r}")


def _given(detection: Mapping[str, Any], key: str) -> bool:
    value = detection.get(key)
    return value is not None and not (isinstance(value, list) and not value)


def to_rle(segmentation: Any, height: int | None, width: int | None) -> dict[str, Any] | None:
    """One compressed run-length mask of COCO's polygons or run lengths; None where there is no mask."""
    if not segmentation:
        return None
    if isinstance(segmentation, Mapping):
        if isinstance(segmentation["counts"], list):
            return masks.frPyObjects(dict(segmentation), *segmentation["size"])
        return dict(segmentation)
    polygons = [polygon for polygon in segmentation if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if not polygons:
        return None
    if not height or not width:
        raise ValueError("the ground truth has a polygon on an image without height and width; add them")
    return masks.merge(masks.frPyObjects(polygons, height, width))


def _box_rle(box: Sequence[float], height: int | None, width: int | None) -> dict[str, Any] | None:
    x, y, w, h = (float(v) for v in box)
    return to_rle([[x, y, x, y + h, x + w, y + h, x + w, y]], height, width)


def _area(annotation: Mapping[str, Any], height: int | None, width: int | None) -> float:
    """Of the mask where there is one, as in COCO's own files."""
    mask = to_rle(annotation.get("segmentation"), height, width) if height and width else None
    return float(masks.area(mask)) if mask else float(annotation["bbox"][2] * annotation["bbox"][3])


def _coco(images: list[Any], categories: list[Any], annotations: list[Annotation]) -> COCO:
    """pycocotools' index; it cannot be made of an empty list of detections by its own `loadRes`."""
    index = COCO()
    index.dataset = {"info": {}, "images": images, "categories": categories, "annotations": annotations}
    index.createIndex()
    return index


def _per_class(evaluation: COCOeval, categories: list[Any]) -> dict[str, float]:
    """Mean precision over overlaps and recalls, all sizes, 100 detections an image."""
    names = [str(c.get("name", c["id"])) for c in categories]
    precision = evaluation.eval["precision"]  # overlap, recall, class, size, detections
    table: dict[str, float] = {}
    for index, (name, category) in enumerate(zip(names, categories)):
        values = precision[:, :, index, 0, -1]
        values = values[values > -1]
        key = name if names.count(name) == 1 else f"{name} (id {category['id']})"
        table[key] = 100 * float(values.mean()) if values.size else float("nan")
    return table
