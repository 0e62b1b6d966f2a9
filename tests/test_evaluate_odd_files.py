"""Files of other programs: what is lacking or oddly written is read where its meaning is sure, else one sentence."""

from __future__ import annotations

import copy
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


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("image_id", str, "are left out, since the file has no image of their image_id (first: '100'); the ids of its "
         "images are whole numbers, as 100"),
        ("image_id", lambda i: i + 1000, "has no image of their image_id (first: 1100)"),
        ("category_id", str, "since the file has no category of their category_id (first: '"),
        ("category_id", lambda c: 5, "since the file has no category of their category_id (first: 5)"),
    ],
)  # fmt: skip
def test_annotations_of_nothing_are_counted(made: Any, tmp_path: Path, key: str, change: Any, said: str) -> None:
    truth, results = made
    some, count = copy.deepcopy(truth), len(truth["annotations"])
    for one in some["annotations"][::2]:
        one[key] = change(one[key])
    numbers = evaluated(tmp_path, some, results)
    assert numbers["remarks"][0].startswith(f"{(count + 1) // 2} of {count} annotations are left out")
    assert said in numbers["remarks"][0]
    kept = {**truth, "annotations": truth["annotations"][1::2]}
    expected = plainly(kept, results, "bbox").stats
    assert numbers["bbox"]["AP"] == pytest.approx(100 * expected[0], rel=1e-12)
    for one in some["annotations"]:
        one[key] = change(one[key])
    remarks = evaluated(tmp_path, some, results)["remarks"]
    assert remarks[1:] == ["AP nan: no annotation is of an image and of a category that the annotations have"]


@pytest.mark.parametrize("key", ["iscrowd", "difficult"])
def test_flags_are_0_or_1(made: Any, tmp_path: Path, key: str, capsys: Any) -> None:
    truth, results = made
    expected = evaluated(tmp_path, truth, results)
    for value in (0, False, None, 0.0):
        truth["annotations"] = [{**a, key: value} for a in truth["annotations"]]
        assert evaluated(tmp_path, truth, results) == expected
    for value in ("0", "false", [0], 2):
        truth["annotations"][3][key] = value
        error = refused(tmp_path, truth, results, capsys)
        assert f"truth.json: annotation 3 has the {key} {value!r} and not 0 or 1; correct it" in error


def test_whole_ids_written_with_a_point_are_whole(made: Any, tmp_path: Path, capsys: Any) -> None:
    truth, results = made
    expected = evaluated(tmp_path, truth, results)
    for one in results:
        one["image_id"], one["category_id"] = float(one["image_id"]), float(one["category_id"])
    assert evaluated(tmp_path, truth, results) == expected
    results[2]["image_id"] = 10.5
    assert "detection 2 has the image_id 10.5, which is neither whole number nor text" in refused(
        tmp_path, truth, results, capsys
    )


def test_numbers_beyond_floats_are_refused(made: Any, tmp_path: Path, capsys: Any) -> None:
    truth, results = made
    for key, value in (("score", 10**400), ("bbox", [10**400, 1, 1, 1])):
        broken = [*results[:3], {**results[3], key: value}]
        assert f"detection 3 has the {key} " in refused(tmp_path, truth, broken, capsys)
    truth["annotations"][1]["area"] = -(10**400)
    assert "annotation 1 has the area -1000" in refused(tmp_path, truth, results, capsys)


def test_detections_wrapped_as_annotations(made: Any, tmp_path: Path, capsys: Any) -> None:
    truth, results = made
    for wrapped in ({"images": truth["images"], "annotations": results}, {"annotations": results}):
        error = refused(tmp_path, truth, wrapped, capsys)
        assert "results.json: holds its detections under 'annotations'; export that list alone" in error


def test_a_folder_to_write_to_is_refused_before_anything(made: Any, tmp_path: Path, capsys: Any) -> None:
    error = refused(tmp_path, *made, capsys, json=tmp_path)
    assert f"--json {tmp_path}: is a folder; name a file" in error
    assert capsys.readouterr().out == ""


def test_difficult_objects_are_vocs_alone(made: Any, tmp_path: Path) -> None:
    """pycocotools does not look at `difficult`, so that its AP is not nan."""
    truth, results = made
    expected = 100 * plainly(truth, results, "bbox").stats[0]
    truth["annotations"] = [{**a, "difficult": 1} for a in truth["annotations"]]
    numbers = evaluated(tmp_path, truth, results)
    count = len(truth["annotations"])
    assert numbers["voc"]["AP50"] is None and numbers["bbox"]["AP"] == pytest.approx(expected, rel=1e-12)
    assert numbers["remarks"] == [f"VOC's AP nan: all {count} objects are difficult ones or crowds, which it ignores"]
    truth["annotations"] = [{**a, "difficult": int(a["category_id"] == 3)} for a in truth["annotations"]]
    numbers = evaluated(tmp_path, truth, results)
    assert numbers["voc"]["AP50-class 3"] is None and numbers["bbox"]["AP-class 3"] > 0
    assert numbers["remarks"] == [
        "VOC's AP nan: 1 of the 3 classes have none but difficult objects, which it ignores (class 3); they are no "
        "part of any mean"
    ]
    truth["annotations"] = [{**a, "iscrowd": 1} for a in truth["annotations"]]
    assert evaluated(tmp_path, truth, results)["remarks"] == [
        f"AP nan: all {count} objects are crowds, which are not asked for"
    ]


def test_nothing_found_by_another_program(made: Any, tmp_path: Path) -> None:
    """Keys of Detectron2's configs are no help there."""
    (remark,) = evaluated(tmp_path, made[0], [])["remarks"]
    assert remark.startswith("AP 0: there are no detections at all") and "MODEL." not in remark


@pytest.mark.parametrize("key", ["images", "categories"])
def test_annotations_without_any_image_or_category(made: Any, tmp_path: Path, key: str) -> None:
    truth = {**made[0], key: []}
    numbers, count = evaluated(tmp_path, truth, []), len(truth["annotations"])
    assert numbers["bbox"]["AP"] is None
    assert numbers["remarks"][0].startswith(f"{count} of {count} annotations are left out, since the file has no ")
