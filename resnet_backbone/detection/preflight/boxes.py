"""The sizes of a data set's objects: beside the anchors that have to find them, and as its annotations state them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.structures import BoxMode
from numpy.typing import NDArray
from pycocotools import mask as masks

from resnet_backbone.engine.preflight import Finding
from resnet_backbone.evaluation.coco import to_rle

Record = dict[str, Any]
FAR = 2.0
"""Times that an object may be smaller or larger than all anchors: with equal shapes an IoU of 1/4."""
MANY = 0.2
"""Share of objects beyond that, from which on it is worth a warning."""
STATED = (0.5, 2.0)
"""Median of stated areas over the masks' own that is within rounding and ways of counting pixels."""
LOOKED_AT = 500


def anchor_finding(cfg: CfgNode, records: Sequence[Record]) -> Finding | None:
    """Sizes of objects at the training size beside those of the anchors; None where there is neither.

    Args:
        cfg: settled; of several training sizes the median is taken.
        records: that are trained on.
    """
    if cfg.MODEL.META_ARCHITECTURE not in ("GeneralizedRCNN", "RetinaNet", "PanopticFPN", "ProposalNetwork"):
        return None
    sides = _sides(records, float(np.median(cfg.INPUT.MIN_SIZE_TRAIN)), cfg.INPUT.MAX_SIZE_TRAIN)
    if not len(sides):
        return None
    anchors = [size for level in cfg.MODEL.ANCHOR_GENERATOR.SIZES for size in np.atleast_1d(level).tolist()]
    low, high = np.percentile(sides, (5, 95))
    text = f"objects are {low:.0f} to {high:.0f} pixels large as trained on (root of the area, 5 % to 95 %)"
    text += f", anchors {min(anchors):.0f} to {max(anchors):.0f}"
    small, large = np.mean(sides < min(anchors) / FAR), np.mean(sides > max(anchors) * FAR)
    if small > MANY:
        remedy = "raise INPUT.MIN_SIZE_TRAIN and MIN_SIZE_TEST, or give MODEL.ANCHOR_GENERATOR.SIZES smaller ones"
        return Finding("warning", f"{text}: {100 * small:.0f} % are too small for any, and hardly found; {remedy}")
    if large > MANY:
        remedy = "lower INPUT.MIN_SIZE_TRAIN and MIN_SIZE_TEST, or give MODEL.ANCHOR_GENERATOR.SIZES larger ones"
        return Finding("warning", f"{text}: {100 * large:.0f} % are too large for any; {remedy}")
    return Finding("ok", text)


def area_finding(records: Sequence[Record]) -> Finding | None:
    """Whether the areas that annotations state are those of their masks; None where they are, or nothing is stated.

    COCO's APs, APm and APl go by the stated areas, as pycocotools does.

    Args:
        records: that are tested on.
    """
    found: list[tuple[float, str]] = []
    for record in records:
        for annotation in record.get("annotations", ()):
            if "area" in annotation and annotation.get("segmentation") and not annotation.get("iscrowd"):
                mask = to_rle(annotation["segmentation"], record["height"], record["width"])
                own = float(masks.area(mask)) if mask else 0.0
                if own:
                    found.append((annotation["area"] / own, record["file_name"]))
        if len(found) >= LOOKED_AT:
            break
    if not found:
        return None
    median = float(np.median([ratio for ratio, _ in found]))
    if STATED[0] <= median <= STATED[1]:
        return None
    first = os.path.basename(next(name for ratio, name in found if not STATED[0] <= ratio <= STATED[1]))
    return Finding(
        "warning",
        f"test annotations state areas of {median:.2g} times their masks' (median of {len(found)}, first: {first}): "
        "APs, APm and APl take the stated ones; write the masks' areas into `area`, or take the field out",
    )


def _sides(records: Sequence[Record], shorter: float, longest: float) -> NDArray[np.float64]:
    """Roots of the objects' areas in images that are resized so that their shorter side is `shorter`."""
    sides = []
    for record in records:
        sides_of_image = record["height"], record["width"]
        # 0 leaves images as large as they are.
        scale = min(shorter / min(sides_of_image), longest / max(sides_of_image)) if shorter else 1.0
        for one in record.get("annotations", ()):
            if not one.get("iscrowd"):
                x0, y0, x1, y1 = BoxMode.convert(list(one["bbox"]), one["bbox_mode"], BoxMode.XYXY_ABS)
                sides.append(scale * float(np.sqrt(max(x1 - x0, 0) * max(y1 - y0, 0))))
    return np.array(sides)
