"""tools/evaluate.py: pycocotools' and Detectron2's numbers from files alone, and one sentence for bad files."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_detections import perturbed_results, write_as_detectron2
from test_evaluation_coco import by_pycocotools
from test_evaluation_voc import NAMES, make_detections, read_truth

from resnet_backbone.evaluation.coco import METRICS
from resnet_backbone.evaluation.from_files import EvaluateOptions, start
from resnet_backbone.evaluation.results_files import read_found
from resnet_backbone.evaluation.truth import VOC_CLASSES
from resnet_backbone.evaluation.truth import read_truth as read_any
from resnet_backbone.evaluation.voc import VocDetections, evaluate_voc
from resnet_backbone.evaluation.voc_files import write_class_files

TOOL = Path(__file__).parents[1] / "tools" / "evaluate.py"


def evaluated(results: Path, annotations: Path, **options: Any) -> dict[str, dict[str, Any]]:
    out = results.parent / "numbers.json"
    assert start(EvaluateOptions(results, annotations, json=out, **options)) == 0
    return json.loads(out.read_text())


def test_coco_json_gives_pycocotools_numbers(real_data: Path, tmp_path: Path, capsys: Any) -> None:
    file = real_data / "coco/annotations/instances_val2017.json"
    truth = json.loads(file.read_text())
    results = perturbed_results(truth, with_masks=True)
    (tmp_path / "results.json").write_text(json.dumps(results))
    numbers = evaluated(tmp_path / "results.json", file)
    printed = capsys.readouterr().out
    for kind in ("bbox", "segm"):
        expected = by_pycocotools(file, results, kind).stats
        assert [numbers[kind][m] / 100 for m in METRICS] == pytest.approx(expected, rel=1e-12)
        assert f"{100 * expected[0]:.2f}" in printed and math.isfinite(numbers[kind]["AP-traffic light"])
    assert numbers["bbox"]["AP-zebra"] is None and "zebra" in numbers["remarks"][0]
    one = evaluated(tmp_path / "results.json", file, iou_type="segm")
    assert set(one) == {"segm", "voc-segm", "remarks"} and one["segm"] == numbers["segm"]
    assert one["voc-segm"] == numbers["voc-segm"]
    assert one["voc-segm"]["AP50"] == pytest.approx(one["segm"]["AP50"], abs=3)
    # Masks without boxes, as other programs write them.
    (tmp_path / "masks.json").write_text(json.dumps([{k: v for k, v in r.items() if k != "bbox"} for r in results]))
    assert evaluated(tmp_path / "masks.json", file)["segm"] == numbers["segm"]


def test_voc_files_give_detectron2s_numbers(real_data: Path, tmp_path: Path) -> None:
    voc_eval = pytest.importorskip("detectron2.evaluation.pascal_voc_evaluation").voc_eval
    root = real_data / "VOC2012"
    found = make_detections(read_truth(root))
    classes = np.array([VOC_CLASSES.index(name) for name in NAMES])[found.classes]
    # Without ties, which Detectron2 sorts as they fall.
    scores = (np.random.default_rng(0).permutation(len(classes)) / len(classes)).astype(np.float32)
    found = VocDetections(found.images, classes, found.boxes, scores)
    folder = tmp_path / "results/VOC2012/Main"
    files = write_class_files(folder, "val", found, VOC_CLASSES)
    assert [file.name for file in files[:2]] == ["comp4_det_val_aeroplane.txt", "comp4_det_val_bicycle.txt"]
    truth = read_any(root, "val")
    again = read_found(tmp_path / "results", truth).voc
    assert np.array_equal(again.scores[again.classes == 7], found.scores[classes == 7])  # 32-bit numbers, to the bit
    numbers = evaluated(tmp_path / "results", root, split="val")
    expected = evaluate_voc(truth.as_voc(), found, VOC_CLASSES)
    assert numbers["voc"]["AP50"] == expected.ap and numbers["voc"]["AP50-11pt"] == expected.ap11
    places = (str(root / "Annotations/{}.xml"), str(root / "ImageSets/Main/val.txt"))
    for name in NAMES:
        theirs = voc_eval(str(folder / "comp4_det_val_{}.txt"), *places, name, 0.5, False)[2]
        assert numbers["voc"][f"AP50-{name}"] == pytest.approx(100 * theirs, abs=1e-9)
    alone = evaluated(folder / "comp4_det_val_person.txt", root, split="val")
    assert alone["voc"]["AP50-person"] == numbers["voc"]["AP50-person"] and alone["voc"]["AP50-cat"] == 0


def test_detectron2s_own_text_files_and_rounding(real_data: Path, tmp_path: Path) -> None:
    """Files as Detectron2's evaluator writes them, with 3 and 1 decimals, give its numbers by `--voc-rounding`."""
    voc_eval = pytest.importorskip("detectron2.evaluation.pascal_voc_evaluation").voc_eval
    root = real_data / "VOC2012"
    found = make_detections(read_truth(root), seed=2)
    for index, name in enumerate(NAMES):
        write_as_detectron2(tmp_path / f"comp4_det_val_{name}.txt", found, index)
    numbers = evaluated(tmp_path / "comp4_det_val_person.txt", root, split="val", voc_rounding="detectron2")
    places = (str(root / "Annotations/{}.xml"), str(root / "ImageSets/Main/val.txt"))
    theirs = voc_eval(str(tmp_path / "comp4_det_val_{}.txt"), *places, "person", 0.5, False)[2]
    assert numbers["voc"]["AP50-person"] == 100 * theirs


def test_voc_files_against_a_coco_file_and_json_against_a_folder(real_data: Path, tmp_path: Path) -> None:
    """Image names for image ids, and class names for category ids; ids of a folder count from 1."""
    truth = read_any(real_data / "bccd", "test")
    results = perturbed_results(truth.coco, with_masks=False)
    (tmp_path / "results.json").write_text(json.dumps(results))
    by_json = evaluated(tmp_path / "results.json", real_data / "bccd", split="test")
    numbered = {image["id"]: n for n, image in enumerate(truth.coco["images"], 100)}
    coco = {
        "images": [{**i, "id": numbered[i["id"]]} for i in truth.coco["images"]],
        "annotations": [{**a, "image_id": numbered[a["image_id"]]} for a in truth.coco["annotations"]],
        "categories": [{"id": 10 * c["id"], "name": c["name"]} for c in truth.coco["categories"]],
    }
    for annotation in coco["annotations"]:
        annotation["category_id"] *= 10
    (tmp_path / "truth.json").write_text(json.dumps(coco))
    found = read_found(tmp_path / "results.json", truth).voc
    write_class_files(tmp_path / "files", "test", found, truth.classes)
    by_files = evaluated(tmp_path / "files", tmp_path / "truth.json")
    assert by_files["voc"] == pytest.approx(by_json["voc"]) and by_files["bbox"] == pytest.approx(by_json["bbox"])
    assert by_files["voc"]["AP50"] > 30


def test_runs_without_detectron2(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "balloon/annotations/val.json"
    (tmp_path / "r.json").write_text(json.dumps(perturbed_results(json.loads(file.read_text()), with_masks=True)))
    code = (
        "import runpy, sys\n"
        "for name in ('detectron2', 'fvcore', 'iopath'): sys.modules[name] = None\n"
        f"sys.argv = ['evaluate.py', {str(tmp_path / 'r.json')!r}, {str(file)!r}]\n"
        f"runpy.run_path({str(TOOL)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "COCO segm" in done.stdout and "VOC bbox at 0.5: all points" in done.stdout and "balloon" in done.stdout


TRUTH: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "a.jpg", "height": 40, "width": 60}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [5, 5, 20, 20], "segmentation": [[5, 5, 25, 5, 25, 25]]}
    ],
}
ONE: dict[str, Any] = {"image_id": 7, "category_id": 1, "bbox": [5, 5, 20, 20], "score": 0.5}
MASK = {"size": [60, 40], "counts": [0, 2400]}


@pytest.mark.parametrize(
    ("results", "truth", "said"),
    [
        ("{", TRUTH, "results.json: not readable as JSON"),
        (None, TRUTH, "results.json: No such file"),
        ([ONE], None, "truth.json: No such file"),
        (TRUTH, [ONE], "truth.json: holds a list, as results do, and no annotations; the order is RESULTS.json"),
        (TRUTH, TRUTH, "results.json: holds images and annotations, no results; the order is RESULTS.json"),
        ({"a": 1}, TRUTH, "results.json: holds no list of detections"),
        ([ONE], {"images": []}, "truth.json: has no list of categories with ids"),
        ([3], TRUTH, "detection 0 is 3 and no object in braces"),
        ([ONE, {**ONE, "score": "0.5"}], TRUTH, "detection 1 has the score '0.5' and not a number"),
        ([{**ONE, "score": True}], TRUTH, "the score True and not a number"),
        ([{**ONE, "score": float("nan")}], TRUTH, "the score nan and not a number"),
        ([{**ONE, "bbox": [1, 2, 3]}], TRUTH, "the bbox [1, 2, 3] and not four numbers"),
        ([{k: v for k, v in ONE.items() if k != "score"}], TRUTH, "detection 0 has no score"),
        ([{**ONE, "bbox": []}], TRUTH, "detection 0 has no bbox and no segmentation"),
        ([{**ONE, "image_id": "7"}], TRUTH, "image '7' is not in the annotations; "
         "the annotations' image ids are whole numbers, as 7: write them so"),
        ([{**ONE, "image_id": "007"}], TRUTH, "the annotations' image ids are whole numbers, as 7: write them so"),
        ([{**ONE, "category_id": "5"}], TRUTH, "the annotations' category ids are whole numbers, as 5: write them so"),
        ([{**ONE, "image_id": "a.jpg"}], TRUTH, "these are file names: write the annotations' image ids ('a.jpg'"),
        ([{**ONE, "image_id": 0}], TRUTH, "they look like places in the list of images"),
        ([ONE, {**ONE, "image_id": 9}], TRUTH, "detection 1: image 9 is not in the annotations; "
         "evaluate on the images that the detector saw"),
        ([{**ONE, "image_id": 8}, {**ONE, "image_id": 9}], TRUTH, "image 8 is not in the annotations (nor"),
        ([{**ONE, "image_id": 999999}], TRUTH, "results and annotations are of different data"),
        ([ONE, {**ONE, "category_id": 0}], TRUTH, "they look like classes counted from 0 without gaps: write the "
         "annotations' category ids, which are 1 cat, 5 dog"),
        ([ONE, {**ONE, "category_id": 2}], TRUTH, "they look like classes counted from 1 without gaps"),
        ([{**ONE, "category_id": 90}], TRUTH, "the annotations have 1 cat, 5 dog; are these results of other classes?"),
        ([{**ONE, "segmentation": MASK}], TRUTH, "a mask of size [60, 40] on an image of [40, 60] (height, width); the "
         "two are swapped"),
        ([{**ONE, "segmentation": {"counts": "x"}}], TRUTH, "neither polygons nor run lengths"),
        ([ONE], {**TRUTH, "annotations": [{"image_id": 7, "category_id": 1, "bbox": "x"}]}, "annotation 0 has"),
        ([ONE], {k: v for k, v in TRUTH.items() if k != "annotations"}, "no annotations, as test sets have: nothing to "
         "measure; the 1 detections are readable"),
    ],
)  # fmt: skip
def test_bad_files_end_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], results: Any, truth: Any, said: str
) -> None:
    for name, content in (("results.json", results), ("truth.json", truth)):
        if content is not None:
            (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    assert start(EvaluateOptions(tmp_path / "results.json", tmp_path / "truth.json")) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and error.startswith("error: ")


@pytest.mark.parametrize(
    ("name", "content", "split", "said"),
    [
        ("comp4_det_test_RBC.txt", "BloodImage_00007 0.5 1 2 3", "test", "line 1: 5 columns and not the six of"),
        ("comp4_det_test_RBC.txt", "\nBloodImage_00007 high 1 2 3 4", "test", "line 2: 'BloodImage_00007 high"),
        ("comp4_det_test_RBC.txt", "BloodImage_00007 nan 1 2 3 4", "test", "score or box is not a finite number"),
        ("comp4_det_test_RBC.txt", "Blood 0.5 1 2 3 4", "test", "line 1 (class 'RBC'): image 'Blood' is not among"),
        ("comp4_det_test_RCB.txt", "", "test", "ends in no class of the annotations; did you mean 'RBC'?"),
        ("comp4_det_test_RBC.txt", "", "nope", "--split nope: there is none; the splits there are"),
        ("comp4_det_test_RBC.txt", "", "", "name one with --split; the splits there are"),
    ],
)  # fmt: skip
def test_bad_voc_files_end_in_one_sentence(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, split: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    assert start(EvaluateOptions(tmp_path, real_data / "bccd", split)) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_files_of_two_splits_and_folders_of_two_years_are_not_mixed(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("test", "val"):
        (tmp_path / f"comp4_det_{split}_RBC.txt").write_text("")
        (tmp_path / f"VOC{len(split)}/Annotations").mkdir(parents=True)
    assert start(EvaluateOptions(tmp_path, real_data / "bccd", "test")) == 1
    assert "is of the same class, 'RBC'; give a folder with the files of one split" in capsys.readouterr().err
    assert start(EvaluateOptions(tmp_path, tmp_path, "test")) == 1
    assert "holds VOC3, VOC4; name one of them" in capsys.readouterr().err


def test_what_both_sides_must_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, truth = tmp_path / "results.json", tmp_path / "truth.json"
    truth.write_text(json.dumps(TRUTH))
    results.write_text(json.dumps([ONE]))
    assert start(EvaluateOptions(results, truth, iou_type="segm")) == 1
    assert "--iou-type segm: a detection has no segmentation" in capsys.readouterr().err
    boxes = {**TRUTH, "annotations": [{k: v for k, v in TRUTH["annotations"][0].items() if k != "segmentation"}]}
    truth.write_text(json.dumps(boxes))
    assert start(EvaluateOptions(results, truth, iou_type="segm")) == 1
    assert "the annotations have no masks" in capsys.readouterr().err
    assert start(EvaluateOptions(results, truth, split="val")) == 1
    assert "is no folder in VOC's layout" in capsys.readouterr().err
    assert start(EvaluateOptions(tmp_path, truth)) == 1
    assert "holds no comp4_det_<split>_<class>.txt" in capsys.readouterr().err
    results.write_text("[]")
    assert evaluated(results, truth)["bbox"]["AP"] == 0
    assert "note: AP 0: there are no detections at all" in capsys.readouterr().out


def test_class_and_image_names_with_spaces_slashes_and_underscores(tmp_path: Path) -> None:
    names = ["bed", "sun_bed", "car/truck", "old dog"]
    truth = {
        "images": [{"id": "IMG 1 (2)", "file_name": "IMG 1 (2).jpg", "height": 90, "width": 90}],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names)],
        "annotations": [
            {"id": n, "image_id": "IMG 1 (2)", "category_id": n, "bbox": [20 * n, 5, 15, 15]} for n in range(4)
        ],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    boxes = np.array([[20 * n, 5, 20 * n + 15, 20] for n in range(4)])
    found = VocDetections(["IMG 1 (2)"] * 4, np.arange(4), boxes, np.full(4, 0.5))
    write_class_files(tmp_path / "results", "test", found, names)
    numbers = evaluated(tmp_path / "results", tmp_path / "truth.json")
    assert {numbers["voc"][f"AP50-{name}"] for name in names} == {100}


def test_the_command_line() -> None:
    done = subprocess.run([sys.executable, str(TOOL), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "examples:" in done.stdout and "--voc-rounding" in done.stdout
