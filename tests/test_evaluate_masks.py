"""Masks in files: measured where both sides have usable ones, in no one's way where boxes are asked for."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as masks
from test_coco_backends import HEIGHT, WIDTH, generated, plainly
from test_evaluate_odd_files import evaluated, refused, without

Made = tuple[dict[str, Any], list[dict[str, Any]]]


@pytest.fixture
def made() -> Made:
    return generated("normal")


def test_no_detections_are_0_for_boxes_and_masks(made: Made, tmp_path: Path) -> None:
    for options in ({}, {"iou_type": "segm"}):
        numbers = evaluated(tmp_path, made[0], [], **options)
        assert numbers["segm"]["AP"] == numbers["voc-segm"]["AP50"] == 0
        assert ("bbox" in numbers) == (options == {})


@pytest.mark.parametrize("unusable", [[[]], [[1, 1, 5, 5]], [[1, 2, 3, 4, 5, 6, 7]]])
def test_polygons_without_three_points_are_no_masks(made: Made, tmp_path: Path, unusable: Any, capsys: Any) -> None:
    truth, results = made
    expected = evaluated(tmp_path, truth, results, iou_type="bbox")
    results[3]["segmentation"] = unusable
    assert evaluated(tmp_path, truth, results, iou_type="bbox") == expected
    said = {"remarks": ["masks are not measured: 1 of the detections have none", *expected["remarks"]]}
    assert evaluated(tmp_path, truth, results) == expected | said
    error = refused(tmp_path, truth, results, capsys, iou_type="segm")
    assert "a detection has no segmentation that is a mask (polygons have three points or more)" in error
    truth["annotations"] = [{**a, "segmentation": unusable} for a in truth["annotations"]]
    assert evaluated(tmp_path, truth, generated("normal")[1]) == expected
    assert "the annotations have no masks; use bbox" in refused(tmp_path, truth, [], capsys, iou_type="segm")


def test_polygons_of_results_need_sizes_only_where_masks_are_measured(made: Made, tmp_path: Path, capsys: Any) -> None:
    truth, results = made
    results = [{**r, "segmentation": [[5, 5, 25, 5, 25, 25]]} for r in results]
    expected = evaluated(tmp_path, truth, results, iou_type="bbox")
    for size in ({}, {"height": -5, "width": "wide"}, {"height": 0, "width": 0}, {"height": 10**400, "width": 1}):
        truth["images"] = [{**i, **size} for i in without(truth["images"], "height", "width")]
        assert evaluated(tmp_path, truth, results, iou_type="bbox") == expected
        error = refused(tmp_path, truth, results, capsys)
        assert "ANNOTATIONS: annotation 0 has polygons on an image whose height is " in error
        assert "which must be whole numbers above 0; correct them, or take --iou-type bbox" in error


def test_masks_of_the_truth_must_be_of_their_images_size(made: Made, tmp_path: Path, capsys: Any) -> None:
    truth, results = made
    expected = evaluated(tmp_path, truth, results, iou_type="bbox")
    for size, said in (([WIDTH, HEIGHT], "the two are swapped"), ([75, 100], "scale masks back to their image")):
        whole = {"size": size, "counts": [0, size[0] * size[1]]}
        truth["annotations"][3]["segmentation"] = whole
        error = refused(tmp_path, truth, results, capsys)
        assert f"annotation 3 has a mask of size {size} on an image of [150, 200] (height, width); {said}" in error
        assert evaluated(tmp_path, truth, results, iou_type="bbox") == expected


def test_boxes_of_the_truth_are_those_of_its_masks_where_it_has_none(made: Made, tmp_path: Path, capsys: Any) -> None:
    truth, results = made
    expected = plainly(truth, results, "segm").stats
    truth["annotations"] = without(truth["annotations"], "bbox")
    numbers = evaluated(tmp_path, truth, results)
    assert numbers["segm"]["AP"] == pytest.approx(100 * expected[0], rel=1e-12)
    boxed = copy.deepcopy(truth)
    for one in boxed["annotations"]:
        one["bbox"] = masks.toBbox(masks.merge(masks.frPyObjects(one["segmentation"], HEIGHT, WIDTH))).tolist()
    assert evaluated(tmp_path, boxed, results) == numbers
    truth["annotations"][3]["segmentation"] = [[1, 1, 5, 5]]
    assert "annotation 3 has the bbox None and not four numbers" in refused(tmp_path, truth, results, capsys)


def square(made: Made, change: Any) -> list[dict[str, Any]]:
    """Detections that are the objects, in square images, with masks that are changed."""
    truth = made[0]
    for image in truth["images"]:
        image["width"] = image["height"] = WIDTH
    found = []
    for n, one in enumerate(truth["annotations"]):
        mask = masks.decode(masks.merge(masks.frPyObjects(one["segmentation"], WIDTH, WIDTH)))
        rle = masks.encode(np.asfortranarray(change(mask)))
        rle["counts"] = rle["counts"].decode()
        keys = {key: one[key] for key in ("image_id", "category_id", "bbox")}
        found.append({**keys, "score": 0.9 - n / 1000, "segmentation": rle})
    return found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (np.transpose, "the masks fit their boxes with x and y swapped; write them as height x width, not transposed"),
        (np.zeros_like, " masks are empty; was the threshold of the masks too high?"),
        (lambda m: np.roll(m, 90, axis=(0, 1)), "% of the masks lie where their boxes are; were they pasted"),
    ],
)
def test_right_boxes_with_masks_elsewhere_are_explained(made: Made, tmp_path: Path, change: Any, said: str) -> None:
    numbers = evaluated(tmp_path, made[0], square(made, change))
    assert numbers["voc"]["AP50"] == 100 and numbers["voc-segm"]["AP50"] < 5
    (remark,) = numbers["remarks"]
    assert said in remark and remark.startswith("AP50 of boxes is 100.0 and of masks ")


def test_right_masks_and_weak_ones_are_told_nothing(made: Made, tmp_path: Path) -> None:
    assert evaluated(tmp_path, made[0], square(made, lambda m: m))["remarks"] == []
    weak = evaluated(tmp_path, made[0], square(made, lambda m: np.roll(m, 6, axis=0)))
    assert weak["voc-segm"]["AP50"] < 100 and weak["remarks"] == []
