"""Files of other programs: what is lacking or oddly written is read where its meaning is sure, else one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_coco_backends import BACKENDS, assert_bit_equal, generated, plainly

from resnet_backbone.evaluation.coco import evaluate_coco
from resnet_backbone.evaluation.from_files import EvaluateOptions, start

RESULTS, TRUTH = "results.json", "truth.json"


@pytest.fixture
def made() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A truth with boxes and masks of 12 images, image ids from 67 to 100, and detections with both."""
    truth, results = generated("normal")
    return {**truth, "images": [{**i, "file_name": f"img{i['id']:03d}.jpg"} for i in truth["images"]]}, results


def evaluated(folder: Path, truth: Any, results: Any, **options: Any) -> dict[str, Any]:
    (folder / TRUTH).write_text(json.dumps(truth))
    (folder / RESULTS).write_text(json.dumps(results))
    out = folder / "numbers.json"
    assert start(EvaluateOptions(folder / RESULTS, folder / TRUTH, json=out, **options)) == 0
    return json.loads(out.read_text())


def refused(folder: Path, truth: Any, results: Any, capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    (folder / TRUTH).write_text(json.dumps(truth))
    (folder / RESULTS).write_text(json.dumps(results))
    capsys.readouterr()
    assert start(EvaluateOptions(folder / RESULTS, folder / TRUTH, **options)) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ")
    return error


def without(rows: list[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in keys} for row in rows]


SIZES = [{}, {"height": None, "width": None}, {"height": "150", "width": "200"}, {"height": 150.5, "width": -1}]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", SIZES)
def test_boxes_need_no_sizes_of_images(made: Any, size: dict[str, Any], backend: Any) -> None:
    truth, results = made
    expected = plainly(truth, results, "bbox")
    truth["images"] = [{**i, **size} for i in without(truth["images"], "height", "width")]
    assert_bit_equal(evaluate_coco(truth, results, "bbox", backend=backend), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_masks_in_run_lengths_need_none_either(made: Any, backend: Any) -> None:
    truth, results = made
    for one, found in zip(truth["annotations"], results):
        one["segmentation"] = found["segmentation"]
    truth["annotations"] = truth["annotations"][: len(results)]
    expected = plainly(truth, results, "segm")
    truth["images"] = without(truth["images"], "height", "width")
    assert_bit_equal(evaluate_coco(truth, results, "segm", backend=backend), expected)


@pytest.mark.parametrize("size", SIZES)
def test_files_without_sizes_of_images(made: Any, tmp_path: Path, size: dict[str, Any], capsys: Any) -> None:
    truth, results = made
    expected = evaluated(tmp_path, truth, results)
    truth["images"] = [{**i, **size} for i in without(truth["images"], "height", "width")]
    boxes = {**truth, "annotations": without(truth["annotations"], "segmentation")}
    assert evaluated(tmp_path, boxes, without(results, "segmentation"))["bbox"] == expected["bbox"]
