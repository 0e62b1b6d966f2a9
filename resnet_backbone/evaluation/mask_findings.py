"""Whether masks lie where their boxes and images are: what is refused, and what explains masks that meet nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as masks

from resnet_backbone.evaluation.case import LOW, overlaps
from resnet_backbone.evaluation.coco import has_mask
from resnet_backbone.evaluation.json_files import is_side
from resnet_backbone.evaluation.voc import VocDetections


def check_mask_sizes(rows: Sequence[Mapping[str, Any]], where: str, images: Sequence[Mapping[str, Any]]) -> None:
    """pycocotools takes a mask of another size for one that overlaps nothing, and says nothing.

    Args:
        rows: annotations or results; those of unknown images are not looked at.
        where: what one of them is called.
        images: with their `height` and `width`.

    Raises:
        ValueError: run lengths of another size than their image, or polygons on an image of unknown size.
    """
    sizes = {image["id"]: [image.get("height"), image.get("width")] for image in images}
    for number, one in enumerate(rows):
        mask, size = one.get("segmentation"), sizes.get(one["image_id"])
        if size is None or not has_mask(mask):
            continue
        known = all(map(is_side, size))
        if not isinstance(mask, Mapping) and not known:
            raise ValueError(
                f"{where} {number} has polygons on an image whose height is {size[0]!r:.20} and width {size[1]!r:.20}, "
                "which must be whole numbers above 0; correct them, or take --iou-type bbox"
            )
        if isinstance(mask, Mapping) and known and mask["size"] != size:
            swapped = "the two are swapped" if mask["size"] == size[::-1] else "scale masks back to their image"
            raise ValueError(
                f"{where} {number} has a mask of size {mask['size']} on an image of {size} (height, width); {swapped}, "
                "or take --iou-type bbox"
            )


def mask_findings(found: VocDetections, of_boxes: float, of_masks: float) -> list[str]:
    """One line where boxes are right and the masks that belong to them meet nothing.

    Args:
        found: boxes and masks.
        of_boxes, of_masks: AP at 0.5, percent.
    """
    if not (of_boxes >= 2 * LOW and of_masks < of_boxes / 20) or not found.masks:
        return []
    head = f"AP50 of boxes is {of_boxes:.1f} and of masks {of_masks:.1f}"
    extents = np.array([masks.toBbox(mask) for mask in found.masks], np.float64)
    extents[:, 2:] += extents[:, :2]
    empty = int((extents[:, 2:] <= extents[:, :2]).any(axis=1).sum())
    if 2 * empty > len(extents):
        return [f"{head}: {empty} of the {len(extents)} masks are empty; was the threshold of the masks too high?"]
    boxes = np.asarray(found.boxes, np.float64)
    met, turned = (_share(each, boxes) for each in (extents, extents[:, [1, 0, 3, 2]]))
    if turned > max(0.5, 2 * met):
        return [f"{head}: the masks fit their boxes with x and y swapped; write them as height x width, not transposed"]
    if met < 0.5:
        return [
            f"{head}: {100 * met:.0f} % of the masks lie where their boxes are; were they pasted into their image, at "
            "their box?"
        ]
    return [f"{head}, though the masks lie where their boxes are; look at the pictures"]


def _share(extents: Any, boxes: Any) -> float:
    """Of masks' extents that overlap their box by half or more."""
    return float(np.mean([overlaps(e[None], b[None])[0, 0] >= 0.5 for e, b in zip(extents, boxes)]))
