"""PASCAL VOC's average precision as its devkit defines it: 11 points (2007) and all points (since 2010).

VOC matches a detection to the object it overlaps most, whether or not that one is taken, so the matching
depends on no threshold and is done once, with arrays (Everingham et al., 2010, section 4.2). The same matching by
the overlap of masks gives the AP^r of Hariharan et al. (2014), which VOC's own devkit does not have.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_masks

from resnet_backbone.evaluation.coco_backends import IouType

Rounding = Literal["none", "detectron2"]
ROUNDINGS = ("none", "detectron2")
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class VocTruth:
    """The objects that are there.

    Attributes:
        images: N image ids.
        classes: N class indices.
        boxes: N,4 XYXY with x from 0 to the width: VOC's own (xmin - 1, ymin - 1, xmax, ymax).
        difficult: N flags; a difficult object is neither asked for nor held against who finds it.
        masks: N of COCO's compressed run-length masks, where masks are to be compared.
    """

    images: Sequence[Hashable]
    classes: NDArray[Any]
    boxes: NDArray[Any]
    difficult: NDArray[Any]
    masks: Sequence[Any] | None = None


@dataclass(frozen=True)
class VocDetections:
    """What was found: N image ids, class indices, XYXY boxes like the truth's, scores, and perhaps masks."""

    images: Sequence[Hashable]
    classes: NDArray[Any]
    boxes: NDArray[Any]
    scores: NDArray[Any]
    masks: Sequence[Any] | None = None


@dataclass(frozen=True)
class VocClass:
    """One class: AP in percent (nan where nothing is asked for), and what was counted.

    Attributes:
        ap: area under the precision-recall curve, all points.
        ap11: mean precision at recall 0, 0.1, ..., 1.
        objects: objects asked for, difficult ones not counted.
        detections: detections of the class.
    """

    ap: float
    ap11: float
    objects: int
    detections: int


@dataclass(frozen=True)
class VocResult:
    """Every class by name, at one overlap."""

    iou: float
    classes: dict[str, VocClass]

    @property
    def ap(self) -> float:
        """Mean of the classes that have objects, all points, percent."""
        return _mean([c.ap for c in self.classes.values()])

    @property
    def ap11(self) -> float:
        """Mean of the classes that have objects, 11 points, percent."""
        return _mean([c.ap11 for c in self.classes.values()])


def evaluate_voc(
    truth: VocTruth,
    detections: VocDetections,
    names: Sequence[str],
    *,
    iou: float = 0.5,
    rounding: Rounding = "none",
    iou_type: IouType = "bbox",
) -> VocResult:
    """AP of each class at one overlap.

    Args:
        truth: all objects of the evaluated images.
        detections: all detections in them, in the order in which ties shall stand.
        names: class names by index.
        iou: a detection counts from this overlap on.
        rounding: "none" takes scores and boxes as they are, ties in the given order, and an overlap equal to
            `iou` as a hit, as the devkit does. "detectron2" gives the numbers of Detectron2's `voc_eval`
            to the bit: scores with 3 decimals, boxes with 1, an unstable sort, hits only above `iou`.
        iou_type: "segm" takes the overlap of masks, which both tables must have then.

    Raises:
        ValueError: arrays of different lengths, a class without a name, a score that is no number, no masks.
    """
    return sweep_voc(truth, detections, names, ious=[iou], rounding=rounding, iou_type=iou_type)[0]


def sweep_voc(
    truth: VocTruth,
    detections: VocDetections,
    names: Sequence[str],
    *,
    ious: Sequence[float],
    rounding: Rounding = "none",
    iou_type: IouType = "bbox",
) -> list[VocResult]:
    """`evaluate_voc` at many overlaps, for little more than the price of one."""
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding is {rounding!r}, but it must be {' or '.join(ROUNDINGS)}")
    _check(truth, detections, len(names), iou_type)
    codes: dict[Hashable, int] = {}
    truth_images = np.array([codes.setdefault(i, len(codes)) for i in truth.images], np.int64)
    found_images = np.array([codes.get(i, -1) for i in detections.images], np.int64)
    boxes, scores = _rounded(detections, rounding)
    objects = _inclusive(np.asarray(truth.boxes, np.float64).reshape(-1, 4))
    difficult = np.asarray(truth.difficult, bool)
    tables: list[dict[str, VocClass]] = [{} for _ in ious]
    for index, name in enumerate(names):
        mine = np.flatnonzero(np.asarray(truth.classes) == index)
        mine = mine[np.argsort(truth_images[mine], kind="stable")]
        found = np.flatnonzero(np.asarray(detections.classes) == index)
        order = np.argsort(-scores[found], kind="stable" if rounding == "none" else None)
        found = found[order]
        images = truth_images[mine], found_images[found]
        if iou_type == "bbox":
            overlap, best = _match(objects[mine], images[0], boxes[found], images[1])
        else:
            overlap, best = _match_masks(
                _chosen(truth.masks, mine), images[0], _chosen(detections.masks, found), images[1]
            )
        for iou, table in zip(ious, tables):
            hit = overlap >= iou if rounding == "none" else overlap > iou
            table[name] = _one_class(hit, best, difficult[mine])
    return [VocResult(float(iou), table) for iou, table in zip(ious, tables)]


def _check(truth: VocTruth, detections: VocDetections, classes: int, iou_type: IouType) -> None:
    for what, table, last in (("truth", truth, truth.difficult), ("detections", detections, detections.scores)):
        lengths = [len(table.images), len(table.classes), len(table.boxes), len(last)]
        if iou_type == "segm":
            if table.masks is None:
                raise ValueError(f"{what}: no masks; add them, or compare boxes")
            lengths.append(len(table.masks))
        if len(set(lengths)) > 1:
            raise ValueError(f"{what}: images, classes, boxes, flags or scores, or masks differ in length: {lengths}")
        indices = np.asarray(table.classes)
        if len(indices) and not 0 <= indices.min() <= indices.max() < classes:
            raise ValueError(f"{what}: class indices {indices.min()}..{indices.max()}, but {classes} class names")
    if not np.isfinite(np.asarray(detections.scores, np.float64)).all():
        raise ValueError("detections: a score is not a finite number")


def _inclusive(boxes: Floats) -> Floats:
    """VOC's own pixel indices: from 1, both ends inside."""
    return boxes + np.array([1.0, 1.0, 0.0, 0.0])


def _rounded(detections: VocDetections, rounding: Rounding) -> tuple[Floats, Floats]:
    """Boxes in VOC's pixel indices, and scores; rounded as Detectron2's text files round if asked for."""
    if rounding == "none":
        boxes = np.asarray(detections.boxes, np.float64).reshape(-1, 4)
        return _inclusive(boxes), np.asarray(detections.scores, np.float64)
    single = np.array(detections.boxes, np.float32).reshape(-1, 4)
    single[:, :2] += 1
    scores = np.asarray(detections.scores, np.float32).astype(np.float64)
    # A float32 times 1000 is exact in float64, so this rounds exactly as "%.3f" does.
    return np.rint(single.astype(np.float64) * 10) / 10, np.rint(scores * 1000) / 1000


def _match(objects: Floats, object_images: Ints, boxes: Floats, box_images: Ints) -> tuple[Floats, Ints]:
    """For every box the largest overlap with an object of its image (-inf: none), and that object's index.

    Args:
        objects: G,4 sorted by image; the first of equals wins.
        object_images: G, ascending.
        boxes: D,4.
        box_images: D.
    """
    first = np.searchsorted(object_images, box_images, side="left")
    count = np.searchsorted(object_images, box_images, side="right") - first
    overlap = np.full(len(boxes), -np.inf)
    best = np.zeros(len(boxes), np.int64)
    if not count.sum():
        return overlap, best
    ends = np.cumsum(count)
    rows = np.repeat(np.arange(len(boxes)), count)
    columns = np.arange(ends[-1]) - np.repeat(ends - count - first, count)
    pairs = _overlaps(objects[columns], boxes[rows])
    some = np.flatnonzero(count)
    overlap[some] = np.maximum.reduceat(pairs, (ends - count)[some])
    winners = np.flatnonzero(pairs == overlap[rows])
    with_winner, at = np.unique(rows[winners], return_index=True)
    best[with_winner] = columns[winners[at]]
    return overlap, best


def _match_masks(
    objects: Sequence[Any], object_images: Ints, found: Sequence[Any], found_images: Ints
) -> tuple[Floats, Ints]:
    """`_match` by the overlap of masks, an image at a time."""
    overlap = np.full(len(found), -np.inf)
    best = np.zeros(len(found), np.int64)
    order = np.argsort(found_images, kind="stable")
    for image in np.intersect1d(object_images, found_images):
        low, high = np.searchsorted(object_images, [image, image + 1])
        mine = order[slice(*np.searchsorted(found_images[order], [image, image + 1]))]
        table = coco_masks.iou([found[n] for n in mine], list(objects[low:high]), [0] * int(high - low))
        overlap[mine], best[mine] = table.max(axis=1), low + table.argmax(axis=1)
    return overlap, best


def _chosen(masks: Sequence[Any] | None, places: Ints) -> list[Any]:
    return [masks[n] for n in places.tolist()] if masks is not None else []


def _overlaps(objects: Floats, boxes: Floats) -> Floats:
    """Intersection over union, pair by pair, in pixels with both ends inside."""
    low = np.maximum(objects[:, :2], boxes[:, :2])
    high = np.minimum(objects[:, 2:], boxes[:, 2:])
    sides = np.maximum(high - low + 1.0, 0.0)
    shared = sides[:, 0] * sides[:, 1]
    union = _area(boxes) + _area(objects) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _area(boxes: Floats) -> Floats:
    return (boxes[:, 2] - boxes[:, 0] + 1.0) * (boxes[:, 3] - boxes[:, 1] + 1.0)


def _one_class(hit: Bools, best: Ints, difficult: Bools) -> VocClass:
    """AP of detections sorted by falling score, each with the object it overlaps most."""
    objects = int((~difficult).sum())
    if not objects:
        return VocClass(np.nan, np.nan, 0, len(hit))
    ignored = np.zeros(len(hit), bool)
    ignored[hit] = difficult[best[hit]]
    claims = np.flatnonzero(hit & ~ignored)
    first = np.full(len(difficult), -1)
    first[best[claims[::-1]]] = claims[::-1]  # of several claims the last one written stays: that of the highest score
    true = np.zeros(len(hit), bool)
    true[first[first >= 0]] = True
    right = np.cumsum(true, dtype=np.float64)
    wrong = np.cumsum(~true & ~ignored, dtype=np.float64)
    recall = right / objects
    # The first detections may all be ignored ones: 0 / 0 counts as 0.
    precision = right / np.maximum(right + wrong, np.finfo(np.float64).eps)
    ap, ap11 = _all_points(recall, precision), _eleven_points(recall, precision)
    return VocClass(100 * ap, 100 * ap11, objects, len(hit))


def _all_points(recall: Floats, precision: Floats) -> float:
    recall = np.concatenate(([0.0], recall, [1.0]))
    envelope = np.maximum.accumulate(np.concatenate(([0.0], precision, [0.0]))[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    return float(np.sum((recall[steps + 1] - recall[steps]) * envelope[steps + 1]))


def _eleven_points(recall: Floats, precision: Floats) -> float:
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    at = np.searchsorted(recall, np.arange(0.0, 1.1, 0.1), side="left")
    # Summed one by one: np.sum adds in another order, and the last bit would differ from the usual code's.
    return float(sum(p / 11.0 for p in envelope[at]))


def _mean(values: list[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")
