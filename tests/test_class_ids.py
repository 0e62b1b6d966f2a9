"""What category ids of JSON results for VOC's folders mean: our own results' are written beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnet_backbone.evaluation.class_ids import CATEGORIES_FILE
from resnet_backbone.evaluation.from_files import EvaluateOptions, start

RESULTS = "coco_instances_results.json"
BOXES = [(10, 10, 60, 70), (60, 10, 100, 50), (110, 20, 150, 90)]
TRAIN, VAL = [f"{n:04d}" for n in range(3)], [f"{n:04d}" for n in range(3, 9)]


@pytest.fixture
def cars(tmp_path: Path) -> Path:
    """Cars and persons, two of VOC's twenty, in six test images, and a train among those to train on."""
    root = tmp_path / "cars"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for n, image in enumerate(TRAIN + VAL):
        Image.fromarray(np.zeros((100, 200, 3), np.uint8)).save(root / "JPEGImages" / f"{image}.jpg")
        names = ["car", "person", "train" if image in TRAIN else "person"]
        write_annotation(root, image, list(zip(names, BOXES)), n)
    for name, ids in (("train", TRAIN), ("val", VAL)):
        (root / f"ImageSets/Main/{name}.txt").write_text("\n".join(ids))
    return root


def write_annotation(root: Path, image: str, objects: Sequence[tuple[str, Any]], shift: int = 0) -> None:
    text = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{b[0] + shift}</xmin><ymin>{b[1]}</ymin><xmax>{b[2] + shift}</xmax>"
        f"<ymax>{b[3]}</ymax></bndbox></object>"
        for name, b in objects
    )
    size = "<size><width>200</width><height>100</height></size>"
    (root / "Annotations" / f"{image}.xml").write_text(f"<annotation>{size}{text}</annotation>")


def results_of(ids: dict[str, int]) -> list[dict[str, Any]]:
    """Every object of the test images found; the persons with boxes that are too low."""
    return [
        {
            "image_id": image, "category_id": ids[name], "score": 0.9 - 0.01 * n,
            "bbox": [b[0] + n - 1, b[1] - 1 + 8 * third, b[2] - b[0] + 1, b[3] - b[1] + 1],
        }
        for n, image in enumerate(VAL, 3)
        for third, (name, b) in enumerate(zip(("car", "person", "person"), BOXES))
    ]  # fmt: skip


def evaluated(file: Path, root: Path, **options: Any) -> dict[str, Any]:
    out = file.parent / "numbers.json"
    assert start(EvaluateOptions(file, root, "val", json=out, **options)) == 0
    return json.loads(out.read_text())


@pytest.mark.parametrize("classes", [(), ("train", "person", "car"), ("person",)])
def test_our_own_results_give_their_own_numbers(cars: Path, tmp_path: Path, classes: tuple[str, ...]) -> None:
    pytest.importorskip("detectron2")
    from detectron2.data import DatasetCatalog
    from test_datasets import config
    from test_evaluator import instances, run

    from resnet_backbone.detection.data.catalog import register_user_data
    from resnet_backbone.detection.evaluator import DetectionEvaluator

    data = register_user_data(config(format="voc", root=cars, train="train", test="val", classes=list(classes)))
    found = [
        r for r in results_of({"car": 1, "person": 2}) if (("car", "person")[r["category_id"] - 1]) in data.classes
    ]
    index = {1: "car", 2: "person"}
    batches = []
    for record in DatasetCatalog.get(data.test):
        mine = [r for r in found if r["image_id"] == record["image_id"]]
        boxes = [(x, y, x + w, y + h) for x, y, w, h in (r["bbox"] for r in mine)]
        labels = [data.classes.index(index[r["category_id"]]) for r in mine]
        batches.append(([record], [{"instances": instances(record, boxes, [r["score"] for r in mine], labels)}]))
    ours = run(DetectionEvaluator(data.test, tmp_path / "out"), iter(batches))
    numbers = evaluated(tmp_path / "out" / RESULTS, cars)
    assert ours["voc"]["AP50"] > 20
    for task in ("bbox", "voc"):
        assert numbers[task] == pytest.approx({k: None if np.isnan(v) else v for k, v in ours[task].items()})


def test_the_line_that_says_how_ids_were_read(cars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results_of({"car": 7, "person": 15})))
    as_voc = evaluated(file, cars)
    assert "category ids are read as places in the alphabetical order of VOC's" in capsys.readouterr().out
    file.write_text(json.dumps(results_of({"car": 3, "person": 1})))
    named = evaluated(file, cars, classes=("person", "train", "car"))
    assert "category ids are read as --classes says: 1 person, 2 train, 3 car\n" in capsys.readouterr().out
    assert named["voc"]["AP50"] == as_voc["voc"]["AP50"] > 20
    assert named["voc"]["AP50-car"] == as_voc["voc"]["AP50-car"] == 100
    (tmp_path / CATEGORIES_FILE).write_text('[{"id": 3, "name": "car"}, {"id": 1, "name": "person"}]')
    beside = evaluated(file, cars)
    assert f"as {tmp_path / CATEGORIES_FILE} says: 1 person, 3 car\n" in capsys.readouterr().out
    assert beside["bbox"] == {k: v for k, v in named["bbox"].items() if k != "AP-train"}


def test_objects_of_classes_that_are_not_named_are_left_out_and_counted(cars: Path, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps([r for r in results_of({"car": 1, "person": 2}) if r["category_id"] == 1]))
    numbers = evaluated(file, cars, classes=("car",))
    assert numbers["voc"]["AP50"] == 100 and numbers["remarks"] == [
        "12 objects of classes that --classes does not name left out: person"
    ]


def test_the_whole_folder_decides_on_its_classes(cars: Path, tmp_path: Path) -> None:
    """A class of the images to train on alone counts, too, as it does in training."""
    file = tmp_path / "results.json"
    write_annotation(cars, TRAIN[0], [("zebra", BOXES[0])])
    file.write_text(json.dumps(results_of({"car": 1, "person": 2})))
    assert evaluated(file, cars)["voc"]["AP50-car"] == 100


def test_what_is_refused(cars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, coco = tmp_path / "results.json", tmp_path / "coco.json"
    file.write_text("[]")
    coco.write_text('{"images": [], "categories": [], "annotations": []}')
    for truth, classes, said in (
        (coco, ("car",), "coco.json is no folder in VOC's layout; a COCO file says what its ids mean"),
        (cars, ("car", "car"), "--classes car car: a name stands twice"),
    ):
        split = "val" if truth == cars else ""
        assert start(EvaluateOptions(file, truth, split, classes=classes)) == 1
        assert said in capsys.readouterr().err
    for content, said in (
        ('{"a": 1}', "holds no list of categories with id and name; take it away"),
        ('[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]', "an id or a name stands twice; take it away"),
    ):
        (tmp_path / CATEGORIES_FILE).write_text(content)
        assert start(EvaluateOptions(file, cars, "val")) == 1
        assert said in capsys.readouterr().err
    assert start(EvaluateOptions(file, coco)) == 0  # its ids are its own


def test_whole_numbers_for_names_with_zeros(cars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps([{**r, "image_id": int(r["image_id"])} for r in results_of({"car": 7, "person": 15})]))
    assert start(EvaluateOptions(file, cars, "val")) == 1
    assert "the annotations' image ids are texts, as '0003': write them so" in capsys.readouterr().err
