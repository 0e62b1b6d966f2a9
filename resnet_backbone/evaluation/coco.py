"""COCO's twelve numbers and the AP of every class, for boxes and masks, by pycocotools or hotcoco."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as masks

from resnet_backbone.evaluation.coco_backends import (
    Backend,
    CocoArrays,
    Detections,
    Floats,
    Ints,
    IouType,
    Objects,
    Rle,
    choose_backend,
    coco_arrays,
)  # fmt: skip
from resnet_backbone.evaluation.json_files import is_side, read_json

_ALL = slice(None)
# Array, overlap (of 0.5, 0.55, ...), size (all, small, medium, large), limit (1, 10, 100 detections an image).
_SUMMARY: dict[str, tuple[str, int | slice, int, int]] = {
    "AP": ("precision", _ALL, 0, 2), "AP50": ("precision", 0, 0, 2), "AP75": ("precision", 5, 0, 2),
    "APs": ("precision", _ALL, 1, 2), "APm": ("precision", _ALL, 2, 2), "APl": ("precision", _ALL, 3, 2),
    "AR1": ("recall", _ALL, 0, 0), "AR10": ("recall", _ALL, 0, 1), "AR100": ("recall", _ALL, 0, 2),
    "ARs": ("recall", _ALL, 1, 2), "ARm": ("recall", _ALL, 2, 2), "ARl": ("recall", _ALL, 3, 2),
}  # fmt: skip
METRICS = tuple(_SUMMARY)
"""In the order of pycocotools' `stats`."""


@dataclass(frozen=True)
class CocoResult:
    """Percent; nan where the ground truth has nothing to measure (pycocotools says -1).

    Attributes:
        metrics: the twelve numbers by the names in `METRICS`.
        per_class: AP by class name, in the order of category ids.
        arrays: what they are means of.
        backend: "pycocotools" or "hotcoco", whichever did it.
    """

    metrics: dict[str, float]
    per_class: dict[str, float]
    arrays: CocoArrays = field(repr=False, compare=False)
    backend: str = field(repr=False, compare=False)


@dataclass(frozen=True)
class _Ids:
    """Ranks of image and category ids, and (height, width) by the image's rank."""

    images: dict[Any, int]
    categories: dict[Any, int]
    sizes: list[tuple[Any, Any]]


def evaluate_coco(
    truth: Mapping[str, Any] | str | Path,
    detections: Sequence[Mapping[str, Any]] | str | Path,
    iou_type: IouType = "bbox",
    *,
    backend: Backend = "auto",
) -> CocoResult:
    """Scores detections as COCO does.

    The ground truth may be what pycocotools stumbles over: annotation ids from 0, double or missing, any
    image ids, no `info`, no `area`, no `iscrowd`. No detections at all is AP 0. For masks, an object without
    a mask cannot be asked for: its box becomes an ignored (crowd) region. `ignore` is not looked at, as
    pycocotools does not.

    Args:
        truth: COCO's JSON as dict or file; not changed.
        detections: COCO results as list or file: image_id, category_id, score, and bbox (XYWH) or segmentation
            (RLE). Masks have their own area whether or not a bbox stands beside them.
        iou_type: overlap of boxes or of masks.
        backend: what matches and accumulates; "auto" is hotcoco where it is installed, else pycocotools. The
            numbers are the same to the bit.

    Raises:
        ValueError: a detection names an image or a category that the ground truth does not have, lacks a
            field or has a score or box that is not of finite numbers; a backend that is not there.
    """
    used = choose_backend(backend)
    truth = truth if isinstance(truth, Mapping) else read_json(Path(truth))
    detections = read_json(Path(detections)) if isinstance(detections, (str, Path)) else detections
    categories = sorted({c["id"]: c for c in truth["categories"]}.values(), key=lambda c: c["id"])
    images = sorted({i["id"]: i for i in truth["images"]}.values(), key=lambda i: i["id"])
    # Ties follow the order of image ids.
    ids = _Ids(
        {image["id"]: n for n, image in enumerate(images)},
        {category["id"]: n for n, category in enumerate(categories)},
        [(image.get("height"), image.get("width")) for image in images],
    )
    objects = _objects(truth.get("annotations") or [], ids, iou_type)
    arrays = coco_arrays(len(images), len(categories), objects, _found(detections, ids, iou_type), iou_type, used)
    return CocoResult(_summary(arrays), _per_class(arrays.precision, categories), arrays, used)


def _objects(annotations: Iterable[Mapping[str, Any]], ids: _Ids, iou_type: IouType) -> Objects:
    """The ground truth's annotations, complete; those of no image or no category are left out."""
    kept = [a for a in annotations if a.get("image_id") in ids.images and a.get("category_id") in ids.categories]
    images = _ranks(kept, "image_id", ids.images)
    crowd = np.array([bool(a.get("iscrowd")) for a in kept], bool)
    sizes = [ids.sizes[n] for n in images.tolist()]
    boxes, shapes = np.zeros((len(kept), 4)), None
    if iou_type == "bbox":
        boxes = _numbers(kept, "bbox", 4, "annotation")
    else:
        shapes, stand_ins = object_masks(kept, sizes)
        crowd |= stand_ins
    areas = [_area(a, *size) if a.get("area") is None else a["area"] for a, size in zip(kept, sizes)]
    return Objects(images, _ranks(kept, "category_id", ids.categories), boxes, np.array(areas, float), crowd, shapes)


def _found(detections: Sequence[Mapping[str, Any]], ids: _Ids, iou_type: IouType) -> Detections:
    images = _ranks(detections, "image_id", ids.images)
    categories = _ranks(detections, "category_id", ids.categories)
    scores = _numbers(detections, "score", None, "detection")
    if iou_type == "bbox":
        boxes = _numbers(detections, "bbox", 4, "detection")
        return Detections(images, categories, boxes, boxes[:, 2] * boxes[:, 3], scores)
    shapes = [to_rle(d.get("segmentation"), *ids.sizes[n]) for d, n in zip(detections, images.tolist())]
    whole = [shape for shape in shapes if shape is not None]
    if len(whole) < len(shapes):
        raise ValueError(f"detection {shapes.index(None)} has no segmentation; evaluate boxes, or add the mask")
    # One by one: pycocotools' area of a list of more than 255 masks is an OverflowError with numpy 2.
    areas = np.array([masks.area(mask) for mask in whole], np.float64)
    return Detections(images, categories, np.zeros((len(whole), 4)), areas, scores, whole)


def _ranks(rows: Sequence[Mapping[str, Any]], key: str, ranks: Mapping[Any, int]) -> Ints:
    """Of the ids under `key`; looked at one by one only where one of them is unknown."""
    try:
        return np.array([ranks[row[key]] for row in rows], np.int64)
    except (KeyError, TypeError):
        for number, row in enumerate(rows):
            if row.get(key) is None:
                raise ValueError(f"detection {number} has no {key}") from None
            if not isinstance(row[key], Hashable) or row[key] not in ranks:
                known = f"{', '.join(map(str, list(ranks)[:10]))}{' ...' if len(ranks) > 10 else ''}"
                what = f"{key.removesuffix('_id')} {row[key]!r}"
                raise ValueError(f"detection {number}: {what} is not in the ground truth, which has {known}") from None
        raise


def _numbers(rows: Sequence[Mapping[str, Any]], key: str, width: int | None, what: str) -> Floats:
    """The values under `key`, N or N,`width` of them; looked at one by one only where one is no finite number."""
    if not rows:
        return np.zeros((0, width) if width else 0)
    try:
        return _finite([row[key] for row in rows], width)
    except (KeyError, ValueError):
        for number, row in enumerate(rows):
            where = f"{what} {number if what == 'detection' else row.get('id', number)}"
            if not _given(row, key):
                raise ValueError(f"{where} has no {key}") from None
            try:
                _finite([row[key]], width)
            except ValueError:
                kind = f"{width} finite numbers" if width else "a finite number"
                raise ValueError(
                    f"{where}: {key} {row[key]!s:.80} of image {row['image_id']!r} is not {kind}"
                ) from None
        raise


def _finite(values: list[Any], width: int | None) -> Floats:
    array: NDArray[Any] = np.asarray(values)
    if array.dtype.kind not in "iuf" or array.shape[1:] != ((width,) if width else ()) or not np.isfinite(array).all():
        raise ValueError("not finite numbers")
    return array.astype(np.float64)


def _given(detection: Mapping[str, Any], key: str) -> bool:
    value = detection.get(key)
    return value is not None and not (isinstance(value, list) and not value)


def has_mask(segmentation: Any) -> bool:
    """Whether COCO's polygons or run lengths are a mask: a polygon of less than three points is none."""
    return bool(segmentation) and (isinstance(segmentation, Mapping) or any(map(_is_polygon, segmentation)))


def _is_polygon(polygon: Sequence[float]) -> bool:
    return len(polygon) >= 6 and len(polygon) % 2 == 0


def to_rle(segmentation: Any, height: Any, width: Any) -> Rle | None:
    """One compressed run-length mask of COCO's polygons or run lengths; None where there is no mask.

    Raises:
        ValueError: polygons on an image whose height and width are not known.
    """
    if not segmentation:
        return None
    if isinstance(segmentation, Mapping):
        if isinstance(segmentation["counts"], list):
            return masks.frPyObjects(dict(segmentation), *segmentation["size"])
        return dict(segmentation)
    polygons = [polygon for polygon in segmentation if _is_polygon(polygon)]
    if not polygons:
        return None
    if height is None or width is None:
        raise ValueError("a polygon is on an image without height and width in the ground truth; add them")
    if not is_side(height) or not is_side(width):
        raise ValueError(
            f"a polygon is on an image of height {height!r:.20} and width {width!r:.20} in the ground truth, which "
            "must be whole numbers above 0; correct them"
        )
    return masks.merge(masks.frPyObjects(polygons, int(height), int(width)))


def object_masks(
    annotations: Sequence[Mapping[str, Any]], sizes: Sequence[tuple[Any, Any]]
) -> tuple[list[Rle], NDArray[np.bool_]]:
    """A mask for each object, and which of them are but its box, since it has none: nobody can be asked for it.

    Args:
        sizes: (height, width) of each object's image.
    """
    own = [to_rle(a.get("segmentation"), *size) for a, size in zip(annotations, sizes)]
    boxed = np.array([mask is None for mask in own], bool)
    boxes = _numbers([a for a, without in zip(annotations, boxed) if without], "bbox", 4, "annotation").tolist()
    return [mask or _box_rle(boxes.pop(0), *size) for mask, size in zip(own, sizes)], boxed


def _box_rle(box: Sequence[float], height: Any, width: Any) -> Rle:
    x, y, w, h = box
    mask = to_rle([[x, y, x, y + h, x + w, y + h, x + w, y]], height, width)
    assert mask is not None
    return mask


def _area(annotation: Mapping[str, Any], height: Any, width: Any) -> float:
    """Of the mask where there is one, as in COCO's own files."""
    mask = to_rle(annotation.get("segmentation"), height, width) if is_side(height) and is_side(width) else None
    return float(masks.area(mask)) if mask else float(annotation["bbox"][2] * annotation["bbox"][3])


def _summary(arrays: CocoArrays) -> dict[str, float]:
    """pycocotools' means over all that is not -1."""
    numbers = {}
    for name, (array, overlap, size, limit) in _SUMMARY.items():
        values: Floats = getattr(arrays, array)[overlap, ..., size, limit]
        numbers[name] = _percent(values)
    return numbers


def _percent(values: Floats) -> float:
    measured = values[values > -1]
    return 100 * float(np.mean(measured)) if measured.size else float("nan")


def _per_class(precision: Floats, categories: list[Any]) -> dict[str, float]:
    """Mean precision over overlaps and recalls, all sizes, 100 detections an image."""
    names = [str(c.get("name", c["id"])) for c in categories]
    table: dict[str, float] = {}
    for index, (name, category) in enumerate(zip(names, categories)):
        key = name if names.count(name) == 1 else f"{name} (id {category['id']})"
        table[key] = _percent(precision[:, :, index, 0, -1])
    return table
