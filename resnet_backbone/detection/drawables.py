"""Detectron2's records and predictions as what `evaluation.pictures` draws."""

from __future__ import annotations

from typing import Any

import numpy as np
from detectron2.structures import BoxMode
from detectron2.structures.masks import polygons_to_bitmask
from pycocotools import mask as masks

from resnet_backbone.evaluation.coco import to_rle
from resnet_backbone.evaluation.pictures import Objects


def record_objects(record: dict[str, Any], *, with_masks: bool = True) -> Objects:
    """The ground truth of a record of Detectron2's catalog; crowds and difficult objects say what they are."""
    annotations = record.get("annotations", ())
    boxes = [BoxMode.convert([float(v) for v in a["bbox"]], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    size = (record["height"], record["width"])
    shapes = [to_rle(a.get("segmentation"), *size) for a in annotations] if with_masks else []
    decoded = [masks.decode(s).astype(bool) if s else np.zeros(size, bool) for s in shapes]
    return Objects(
        boxes=np.array(boxes).reshape(-1, 4),
        classes=np.array([a["category_id"] for a in annotations], np.int64),
        masks=np.stack(decoded) if any(shapes) else None,
        remarks=["crowd" if a.get("iscrowd") else "difficult" * bool(a.get("difficult")) for a in annotations],
    )


def mapped_objects(instances: Any) -> Objects:
    """The objects of a training image after the mapper: boxes, and masks as polygons or bitmaps."""
    height, width = instances.image_size
    shapes = None
    if instances.has("gt_masks") and len(instances):
        kept = instances.gt_masks
        if hasattr(kept, "polygons"):
            shapes = np.stack([polygons_to_bitmask(p, height, width) for p in kept.polygons])
        else:
            shapes = kept.tensor.numpy()
    return Objects(boxes=instances.gt_boxes.tensor.numpy(), classes=instances.gt_classes.numpy(), masks=shapes)


def predicted_objects(instances: Any, *, threshold: float = 0.5) -> Objects:
    """The predictions of a Detectron2 model for one image, from a score on."""
    instances = instances.to("cpu")
    chosen = instances[instances.scores >= threshold]
    return Objects(
        boxes=chosen.pred_boxes.tensor.detach().numpy(),
        classes=chosen.pred_classes.numpy(),
        scores=chosen.scores.detach().numpy(),
        masks=chosen.pred_masks.numpy() if chosen.has("pred_masks") else None,
    )
