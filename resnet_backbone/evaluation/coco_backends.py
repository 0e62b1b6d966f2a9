"""COCO's precision and recall by pycocotools, or by hotcoco: the same arrays to the bit, some sixty times as fast.

Both get the same columns, with ids of ours: the traps of either (an annotation of id 0, an empty list of
detections, ids that are no integers) are behind them then. hotcoco is called by its own names and never put in
pycocotools' place: Detectron2 subclasses pycocotools' classes, which hotcoco's cannot be.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

IouType = Literal["bbox", "segm"]
Backend = Literal["auto", "pycocotools", "hotcoco"]
BACKENDS = ("auto", "pycocotools", "hotcoco")
# Bit-equal to pycocotools from here on; earlier ones deviated without a word.
HOTCOCO = ((1, 3), (2, 0))

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rle = dict[str, Any]


@dataclass(frozen=True)
class Objects:
    """The ground truth, a column each.

    Attributes:
        images: N, from 0, in the order of the sorted image ids.
        categories: N, from 0, in the order of the sorted category ids.
        boxes: N,4 XYWH.
        areas: N, by which an object is small, medium or large.
        crowd: N flags; a crowd is neither asked for nor held against who finds it.
        masks: N run-length masks, where overlaps are those of masks.
    """

    images: Ints
    categories: Ints
    boxes: Floats
    areas: Floats
    crowd: NDArray[np.bool_]
    masks: list[Rle] | None = None


@dataclass(frozen=True)
class Detections:
    """What was found; as `Objects`, with N finite scores."""

    images: Ints
    categories: Ints
    boxes: Floats
    areas: Floats
    scores: Floats
    masks: list[Rle] | None = None


@dataclass(frozen=True)
class CocoArrays:
    """pycocotools' `eval`, float64; -1 where there is nothing to measure.

    Attributes:
        precision: 10 overlaps (0.5 to 0.95), 101 recalls, K categories, 4 sizes (all, small, medium, large), 3
            limits of detections an image (1, 10, 100).
        recall: the same without recalls.
        scores: as `precision`: the score from which on the recall is reached.
    """

    precision: Floats
    recall: Floats
    scores: Floats


def choose_backend(asked: str = "auto", *, key: str = "backend") -> Literal["pycocotools", "hotcoco"]:
    """ "auto" is hotcoco where it is installed.

    Args:
        asked: one of `BACKENDS`.
        key: what to call it in a message, as the config's key.

    Raises:
        ValueError: another name, or hotcoco where it is not installed.
    """
    if asked not in BACKENDS:
        raise ValueError(f"{key} is {asked!r}, but it must be one of {', '.join(BACKENDS)}")
    if asked == "pycocotools":
        return "pycocotools"
    found = _hotcoco_version()
    (first, last), text = HOTCOCO, "not installed" if found is None else found
    if found is not None and first <= tuple(int(n) for n in found.split(".")[:2]) < last:
        return "hotcoco"
    if asked == "hotcoco":
        raise ValueError(
            f"{key} is 'hotcoco', which is {text}; install it (pip install 'hotcoco>=1.3,<2', or this package's "
            "extra [eval]) or take 'pycocotools', which gives the same numbers"
        )
    return "pycocotools"


def with_version(backend: str) -> str:
    """For logs: "hotcoco 1.3.0"."""
    try:
        return f"{backend} {importlib.metadata.version(backend)}"
    except importlib.metadata.PackageNotFoundError:
        return backend


def _hotcoco_version() -> str | None:
    try:
        return str(importlib.import_module("hotcoco").__version__)
    except ImportError:
        return None


def coco_arrays(
    images: int,
    categories: int,
    objects: Objects,
    found: Detections,
    iou_type: IouType,
    backend: Literal["pycocotools", "hotcoco"],
) -> CocoArrays:
    """Matches and accumulates, at COCO's own overlaps, recalls, sizes and limits.

    Args:
        images, categories: how many there are.
    """
    # Images and categories count from 1: what counts from 0 was always somebody's special case.
    image_table = [{"id": n} for n in range(1, images + 1)]
    category_table = [{"id": n, "name": str(n)} for n in range(1, categories + 1)]
    by: Callable[..., dict[str, Any]] = _by_hotcoco if backend == "hotcoco" else _by_pycocotools
    evaluated = by(image_table, category_table, objects, found, iou_type)
    return CocoArrays(*(np.asarray(evaluated[key]) for key in ("precision", "recall", "scores")))


def _by_hotcoco(
    images: list[Any], categories: list[Any], objects: Objects, found: Detections, iou_type: IouType
) -> dict[str, Any]:
    hotcoco = importlib.import_module("hotcoco")
    truth = hotcoco.COCO.from_arrays(
        images, categories, objects.images + 1, objects.categories + 1, objects.boxes,
        area=objects.areas, iscrowd=objects.crowd, segmentation=objects.masks,
    )  # fmt: skip
    table = np.column_stack([found.images + 1, found.boxes, found.scores, found.categories + 1])
    results = truth.load_res(table, segmentation=found.masks)
    # It takes the boxes' areas, which those of masks are not.
    results.update_anns(ids=np.arange(1, len(table) + 1), area=found.areas)
    evaluation = hotcoco.COCOeval(truth, results, iou_type)
    evaluation.evaluate()
    evaluation.accumulate()
    return dict(evaluation.eval)


def _by_pycocotools(
    images: list[Any], categories: list[Any], objects: Objects, found: Detections, iou_type: IouType
) -> dict[str, Any]:
    # It asks for sizes, which it needs for polygons alone.
    images = [{**image, "height": None, "width": None} for image in images]
    truth = _annotations(objects, "iscrowd", objects.crowd.astype(int))
    results = _annotations(found, "score", found.scores)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_index(images, categories, truth), _index(images, categories, results), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
    return dict(evaluation.eval)


def _annotations(columns: Objects | Detections, key: str, values: NDArray[Any]) -> list[dict[str, Any]]:
    """pycocotools' dicts; it takes a match with the object of id 0 for none, so that they count from 1."""
    rows = zip(
        columns.images.tolist(), columns.categories.tolist(), columns.boxes.tolist(), columns.areas.tolist(),
        values.tolist(),
    )  # fmt: skip
    annotations: list[dict[str, Any]] = [
        {"id": n, "image_id": image + 1, "category_id": category + 1, "bbox": box, "area": area, key: value}
        for n, (image, category, box, area, value) in enumerate(rows, start=1)
    ]
    for one, mask in zip(annotations, columns.masks or ()):
        one["segmentation"] = mask
    return annotations


def _index(images: list[Any], categories: list[Any], annotations: list[dict[str, Any]]) -> COCO:
    """pycocotools' index; it cannot be made of an empty list of detections by its own `loadRes`."""
    index = COCO()
    index.dataset = {"info": {}, "images": images, "categories": categories, "annotations": annotations}
    index.createIndex()
    return index
