"""COCO's annotations as strangers' files have them: the values that training and both metrics go by, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnet_backbone.evaluation.json_files import is_box, is_number
from resnet_backbone.evaluation.rle import check_mask

FLAGS = ("iscrowd", "difficult")


def check_values(one: Mapping[str, Any], where: str) -> None:
    """Of what an annotation has of bbox, segmentation, flags and area, each is what COCO's format says.

    Args:
        where: begins the message: file and place.

    Raises:
        ValueError: names the first that is not, and its value.
    """
    if one.get("segmentation"):
        check_mask(one["segmentation"], where)
    if one.get("bbox") and not is_box(one["bbox"]):
        raise ValueError(f"{where} has the bbox {one['bbox']!r:.60} and not four numbers (x, y, width, height)")
    for key in FLAGS:
        if one.get(key) not in (0, 1, None):  # the text "0" is true in Python
            raise ValueError(f"{where} has the {key} {one[key]!r:.40} and not 0 or 1; correct it")
    if one.get("area") is not None and not is_number(one["area"]):
        raise ValueError(f"{where} has the area {one['area']!r:.40} and not a number")
