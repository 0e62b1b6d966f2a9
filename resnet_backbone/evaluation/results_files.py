"""Detections out of results files: COCO's results JSON, or VOC's text files of one class each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as masks

from resnet_backbone.evaluation.coco import has_mask, to_rle
from resnet_backbone.evaluation.ids import category_remedy, image_remedy
from resnet_backbone.evaluation.json_files import is_box, is_number, read_json
from resnet_backbone.evaluation.rle import check_mask
from resnet_backbone.evaluation.truth import GroundTruth
from resnet_backbone.evaluation.voc import VocDetections
from resnet_backbone.evaluation.voc_results import read_class_files

Result = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """Detections in the forms that COCO's and VOC's metrics read, and as what they can be measured.

    Attributes:
        results: COCO results.
        voc: the same without masks; the box of a mask that stands without one is the mask's.
        has_boxes, has_masks: whether all of them have one; both True where there are none.
        notes: what was taken for what in reading them, where that is not sure; one line each.
    """

    results: list[Result]
    voc: VocDetections
    has_boxes: bool
    has_masks: bool
    notes: tuple[str, ...] = ()


def read_found(path: Path, truth: GroundTruth, split: str = "") -> Found:
    """Detections of a JSON file, a VOC text file, or a folder of such text files.

    Args:
        path: the file or the folder.
        truth: whose images and classes they are of.
        split: of text files, where it is known: in their names it stands before the class.

    Raises:
        ValueError: one sentence with file, value and remedy for whatever cannot be read, or is not of this truth.
    """
    if path.is_dir():
        files = sorted(path.rglob("*_det_*.txt"))
        if not files:
            raise ValueError(f"{path}: holds no comp4_det_<split>_<class>.txt; name a JSON file or the folder of those")
        return _of_class_files(files, truth, split)
    if path.suffix == ".txt":
        return _of_class_files([path], truth, split)
    return of_results(read_results(path, truth), truth)


def read_results(file: Path, truth: GroundTruth) -> list[Result]:
    """COCO results, each with what it needs, of images and categories that the truth has.

    Raises:
        ValueError: as `read_found`.
    """
    results = read_json(file)
    if isinstance(results, Mapping) and _is_scored(results.get("annotations")):
        raise ValueError(f"{file}: holds its detections under 'annotations'; export that list alone")
    if isinstance(results, Mapping) and "images" in results:
        raise ValueError(f"{file}: holds images and annotations, no results; the order is RESULTS.json ANNOTATIONS")
    if not isinstance(results, list):
        raise ValueError(f"{file}: holds no list of detections, as COCO's results have it; export it again")
    for number, one in enumerate(results):
        _check_result(one, f"{file}: detection {number}")
    _check_ids(file, results, truth)
    return results


def _is_scored(annotations: Any) -> bool:
    first = annotations[0] if isinstance(annotations, list) and annotations else None
    return isinstance(first, Mapping) and "score" in first


def _check_result(one: Any, where: str) -> None:
    if not isinstance(one, dict):
        raise ValueError(f"{where} is {one!r:.60} and no object in braces")
    lacking = [key for key in ("image_id", "category_id", "score") if one.get(key) is None]
    if lacking or not (one.get("bbox") or one.get("segmentation")):
        raise ValueError(f"{where} has no {' and no '.join(lacking) or 'bbox and no segmentation'}: {one!r:.80}")
    for key in ("image_id", "category_id"):
        if isinstance(one[key], float) and one[key].is_integer():
            one[key] = int(one[key])  # as pandas writes them
        if type(one[key]) not in (int, str):
            raise ValueError(f"{where} has the {key} {one[key]!r:.40}, which is neither whole number nor text")
    if not is_number(one["score"]):
        raise ValueError(f"{where} has the score {one['score']!r:.40} and not a number")
    if one.get("bbox") and not is_box(one["bbox"]):
        raise ValueError(f"{where} has the bbox {one['bbox']!r:.60} and not four numbers (x, y, width, height)")
    if one.get("segmentation"):
        check_mask(one["segmentation"], where)


def _check_ids(file: Path, results: Sequence[Result], truth: GroundTruth) -> None:
    for key, known, remedy in (
        ("image", {image["id"] for image in truth.coco["images"]}, image_remedy),
        ("category", set(truth.category_ids), category_remedy),
    ):
        ids = dict.fromkeys(one[f"{key}_id"] for one in results)
        unknown = [i for i in ids if i not in known]
        if unknown:
            at = next(n for n, one in enumerate(results) if one[f"{key}_id"] == unknown[0])
            more = f" (nor are {len(unknown) - 1} others of {len(ids)})" if len(unknown) > 1 else ""
            raise ValueError(
                f"{file}: detection {at}: {key} {unknown[0]!r} is not in the annotations{more}; "
                f"{remedy(list(ids), truth)}"
            )


def of_results(results: list[Result], truth: GroundTruth) -> Found:
    """Checked COCO results for both metrics."""
    indices = {category: index for index, category in enumerate(truth.category_ids)}
    has_boxes = all(one.get("bbox") for one in results)
    has_masks = all(has_mask(one.get("segmentation")) for one in results)
    sizes = {image["id"]: (image.get("height"), image.get("width")) for image in truth.coco["images"]}
    boxes = np.array([_box(one, sizes[one["image_id"]]) for one in results], np.float64).reshape(-1, 4)
    voc = VocDetections(
        [one["image_id"] for one in results],
        np.array([indices[one["category_id"]] for one in results], np.int64),
        np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        np.array([one["score"] for one in results], np.float64),
    )
    return Found(results, voc, has_boxes, has_masks)


def _box(one: Result, size: tuple[Any, Any]) -> list[float]:
    if one.get("bbox"):
        return list(one["bbox"])
    mask = to_rle(one["segmentation"], *size)
    return [float(v) for v in masks.toBbox(mask)] if mask else [0.0] * 4


def _of_class_files(files: Sequence[Path], truth: GroundTruth, split: str) -> Found:
    voc, notes = read_class_files(files, truth, split)
    return Found(_results_of(voc, truth), voc, has_boxes=True, has_masks=not len(voc.scores), notes=tuple(notes))


def _results_of(voc: VocDetections, truth: GroundTruth) -> list[Result]:
    boxes = np.asarray(voc.boxes, np.float64).copy()
    boxes[:, 2:] -= boxes[:, :2]
    return [
        {"image_id": image, "category_id": truth.category_ids[label], "bbox": box, "score": score}
        for image, label, box, score in zip(voc.images, voc.classes.tolist(), boxes.tolist(), voc.scores.tolist())
    ]
