"""Sizes of objects beside anchors, and areas as stated beside those of masks; numbers worked out by hand."""

from __future__ import annotations

import pytest
from detectron2.config import get_cfg
from detectron2.structures import BoxMode

from resnet_backbone.detection.preflight.boxes import anchor_finding, area_finding

SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]  # of 400 pixels


def record(*sides, **more):
    boxes = [{"bbox": [5, 5, side, side], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, **more} for side in sides]
    return {"file_name": "photos/1.jpg", "height": 400, "width": 1000, "annotations": boxes}


def config(*sizes, shorter=(800,), longest=1333):
    cfg = get_cfg()
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [list(sizes)]
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = shorter, longest
    return cfg


def test_objects_beside_anchors():
    # 400 x 1000 pixels are enlarged 1.333 times: its longer side is the limit.
    fine = anchor_finding(config(32, 512), [record(13, 30, 300)])
    assert fine.level == "ok" and "objects are 20 to 364 pixels large" in fine.text and "anchors 32 to 512" in fine.text
    # 11 pixels become 14.7, less than half of 32: of four objects one, and of six.
    small = anchor_finding(config(32, 512), [record(11, 30, 30, 30)])
    assert small.level == "warning" and "25 % are too small for any" in small.text
    assert anchor_finding(config(32, 512), [record(11, 30, 30, 30, 30, 30)]).level == "ok"
    # At the median of the sizes it is enlarged twice and fits.
    assert anchor_finding(config(32, 512, shorter=(400, 800, 900), longest=9999), [record(11, 30)]).level == "ok"
    large = anchor_finding(config(32, 64), [record(100, 30)])
    assert large.level == "warning" and "50 % are too large for any; lower INPUT.MIN_SIZE_TRAIN" in large.text


def test_nothing_to_compare():
    assert anchor_finding(config(32), [record()]) is None
    assert anchor_finding(config(32), [record(2, iscrowd=1)]) is None
    cfg = config(32)
    cfg.MODEL.META_ARCHITECTURE = "FCOS"
    assert anchor_finding(cfg, [record(2)]) is None


@pytest.mark.parametrize("mask", [SQUARE, {"size": [400, 1000], "counts": [0, 400, 399600]}])
def test_stated_areas(mask):
    right = [record(20, 20, segmentation=mask, area=420)]
    assert area_finding(right) is None
    wrong = [*right, record(20, 20, 20, segmentation=mask, area=20)]
    found = area_finding(wrong)
    assert found.level == "warning" and "0.05 times their masks' (median of 5, first: 1.jpg)" in found.text
    assert area_finding([record(20, area=20)]) is None and area_finding([record(20, segmentation=mask)]) is None
    assert area_finding([record(20, segmentation=mask, area=20, iscrowd=1)]) is None
