"""COCO's numbers against pycocotools itself, and what pycocotools stumbles over."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_detections import perturbed_results
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resnet_backbone.evaluation.coco import METRICS, evaluate_coco
from resnet_backbone.evaluation.coco_backends import choose_backend


def by_pycocotools(file: Path, results: list[dict[str, Any]], iou_type: str) -> COCOeval:
    results = copy.deepcopy(results)
    for result in results:
        if iou_type == "segm":
            del result["bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        evaluation = COCOeval(truth, truth.loadRes(results), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_equals_pycocotools_on_real_ground_truth(
    real_data: Path, tmp_path: Path, iou_type: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = real_data / "coco/annotations/instances_val2017.json"
    truth = json.loads(file.read_text())
    assert sum(a["iscrowd"] for a in truth["annotations"])
    results = perturbed_results(truth, with_masks=iou_type == "segm")
    before = copy.deepcopy((truth, results))
    expected = by_pycocotools(file, results, iou_type)
    capsys.readouterr()
    for backend in sorted({"pycocotools", choose_backend()}):
        ours = evaluate_coco(truth, results, iou_type, backend=backend)  # type: ignore[arg-type]
        assert ours.backend == backend and capsys.readouterr().out == ""
        assert (truth, results) == before
        for name in ("precision", "recall", "scores"):
            assert np.array_equal(getattr(ours.arrays, name), expected.eval[name]), (backend, name)
        assert ours.metrics == dict(zip(METRICS, (100 * expected.stats).tolist()))
    assert list(ours.metrics) == list(METRICS)
    results_file = tmp_path / "results.json"
    results_file.write_text(json.dumps(results))
    assert str(ours) == str(evaluate_coco(file, results_file, iou_type)) and gc.isenabled()
    known = [x for x in ours.per_class.values() if not np.isnan(x)]
    assert np.mean(known) == pytest.approx(ours.metrics["AP"]) and 0 < len(known) < 80 == len(ours.per_class)


def tiny(**changes: Any) -> dict[str, Any]:
    """Two images, two categories with a gap, ids from 0, and nothing that is not needed."""
    truth = {
        "images": [{"id": 0, "height": 100, "width": 100}, {"id": "b", "height": 100, "width": 100}],
        "categories": [{"id": 0, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 0, "bbox": [10, 10, 40, 40]},
            {"id": 1, "image_id": 0, "category_id": 7, "bbox": [50, 50, 20, 20]},
        ],
    }
    truth["images"] = truth["images"][:1]
    return {**truth, **changes}


PERFECT = [
    {"image_id": 0, "category_id": 0, "bbox": [10, 10, 40, 40], "score": 0.9},
    {"image_id": 0, "category_id": 7, "bbox": [50, 50, 20, 20], "score": 0.8},
]


def test_ids_from_zero_and_missing_fields() -> None:
    result = evaluate_coco(tiny(), PERFECT)
    assert (result.metrics["AP"], result.metrics["AR100"]) == pytest.approx((100, 100))
    assert result.per_class == pytest.approx({"cat": 100, "dog": 100})


def test_nothing_to_measure_is_nan_and_never_minus_one() -> None:
    result = evaluate_coco(tiny(), PERFECT)
    assert np.isnan(result.metrics["APl"]) and np.isnan(result.metrics["ARl"])
    nothing = evaluate_coco(tiny(annotations=[]), PERFECT)
    assert all(np.isnan(x) for x in (*nothing.metrics.values(), *nothing.per_class.values()))


def test_no_detections_are_zero_where_something_was_asked_for() -> None:
    result = evaluate_coco(tiny(), [])
    assert result.metrics["AP"] == result.metrics["AR100"] == result.metrics["APs"] == 0
    assert np.isnan(result.metrics["APl"])


def test_string_image_ids_and_annotations_of_no_image() -> None:
    images = [{"id": "one", "height": 100, "width": 100}]
    annotations = [{**a, "image_id": "one", "id": 5} for a in tiny()["annotations"]]
    stray = {"id": 9, "image_id": "gone", "category_id": 0, "bbox": [0, 0, 5, 5]}
    truth = tiny(images=images, annotations=[*annotations, stray])
    result = evaluate_coco(truth, [{**d, "image_id": "one"} for d in PERFECT])
    assert result.metrics["AP"] == pytest.approx(100)


def test_two_categories_of_one_name_are_told_apart() -> None:
    truth = tiny(categories=[{"id": 0, "name": "cell"}, {"id": 7, "name": "cell"}])
    assert list(evaluate_coco(truth, PERFECT).per_class) == ["cell (id 0)", "cell (id 7)"]


def test_an_object_without_mask_is_ignored_where_masks_are_asked_for() -> None:
    truth = tiny()
    truth["annotations"][0]["segmentation"] = [[10, 10, 50, 10, 50, 50, 10, 50]]
    truth["annotations"][1]["segmentation"] = []
    masks = [
        {"image_id": 0, "category_id": 0, "score": 0.9, "segmentation": truth["annotations"][0]["segmentation"]},
        {"image_id": 0, "category_id": 7, "score": 0.8, "segmentation": [[50, 50, 70, 50, 70, 70, 50, 70]]},
    ]
    result = evaluate_coco(truth, masks, "segm")
    assert result.per_class["cat"] == pytest.approx(100) and np.isnan(result.per_class["dog"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 99}, "detection 1: image 99 is not in the ground truth"),
        ({"category_id": 3}, "detection 1: category 3 is not in the ground truth, which has 0, 7"),
        ({"score": float("nan")}, "detection 1: score nan of image 0"),
        ({"score": "0.9"}, "detection 1: score 0.9 of image 0 is not a finite number"),
        ({"bbox": None}, "detection 1 has no bbox"),
        ({"image_id": None}, "detection 1 has no image_id"),
        ({"image_id": [0]}, r"detection 1: image \[0\] is not in the ground truth"),
        ({"bbox": [1, 2, 3]}, r"detection 1: bbox \[1, 2, 3\] of image 0 is not 4 finite numbers"),
        ({"bbox": [1, 2, 3, float("inf")]}, "detection 1: bbox .* of image 0 is not 4 finite numbers"),
    ],
)
def test_nonsense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_coco(tiny(), [PERFECT[0], {**PERFECT[1], **change}])


def test_nonsense_in_masks_and_in_the_ground_truth_is_refused() -> None:
    for nothing in (None, [], [[1, 2, 3, 4]]):
        with pytest.raises(ValueError, match="detection 1 has no segmentation"):
            evaluate_coco(
                tiny(),
                [{**d, "segmentation": [[1, 1, 9, 1, 9, 9]] if d is PERFECT[0] else nothing} for d in PERFECT],
                "segm",
            )
    for box, message in (
        ([1, 2], r"annotation 1: bbox \[1, 2\] of image 0 is not 4"),
        (None, "annotation 1 has no bbox"),
    ):
        truth = tiny()
        truth["annotations"][1] = {"id": 1, "image_id": 0, "category_id": 7, "bbox": box, "area": 1}
        for iou_type in ("bbox", "segm"):
            with pytest.raises(ValueError, match=message):
                evaluate_coco(truth, [], iou_type)  # type: ignore[arg-type]
