"""AP 0 or nan explained: real detections broken on purpose, and nothing said about good or merely weak ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_detections import perturbed_results

from resnet_backbone.evaluation.explain import explain
from resnet_backbone.evaluation.results_files import of_results
from resnet_backbone.evaluation.truth import GroundTruth, read_truth
from resnet_backbone.evaluation.voc import VocDetections, evaluate_voc

DETECTIONS = Path(__file__).with_name("bccd_detections.json")
"""Of Faster R-CNN R18-FPN at shorter side 160 after 200 iterations ("trained") and after none, in 18 photographs;
rows are image, class, x0, y0, x1, y1, score."""

Boxes = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def real(bccd: GroundTruth, which: str) -> tuple[GroundTruth, VocDetections]:
    content = json.loads(DETECTIONS.read_text())
    images = [i for i in bccd.coco["images"] if i["id"] in content["images"]]
    rows = np.array(content[which])
    found = VocDetections(
        [content["images"][int(n)] for n in rows[:, 0]], rows[:, 1].astype(int), rows[:, 2:6], rows[:, 6]
    )
    return replace(bccd, coco={**bccd.coco, "images": images}), found


@pytest.fixture
def bccd(real_data: Path) -> GroundTruth:
    return read_truth(real_data / "bccd", "test")


def reshaped(found: VocDetections, change: Callable[[Boxes], Any]) -> VocDetections:
    x0, y0, x1, y1 = np.asarray(found.boxes).T
    return replace(found, boxes=np.stack(np.broadcast_arrays(*change((x0, y0, x1, y1))), axis=1))


def centred(b: Boxes) -> Boxes:
    """(centre x, centre y, width, height) taken for (x, y, width, height)."""
    x, y = (b[0] + b[2]) / 2, (b[1] + b[3]) / 2
    return x, y, x + b[2] - b[0], y + b[3] - b[1]


# BCCD's photographs have 640 x 480 pixels.
BROKEN: dict[str, tuple[Callable[[Boxes], Any], str]] = {
    "corners as sizes": (
        lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]),
        "are (x0, y0, x1, y1), written where (x",
    ),
    "sizes as corners": (
        lambda b: (b[0], b[1], b[2] - b[0], b[3] - b[1]),
        "are (x, y, width, height), written",
    ),
    "centres": (centred, "are (centre x, centre y, width, height), written where (x, y, width"),
    "shares": (
        lambda b: (b[0] / 640, b[1] / 480, b[2] / 640, b[3] / 480),
        "are shares of width and height, from 0",
    ),
    "shares of centres": (
        lambda b: [v / side for v, side in zip(centred(b), (640, 480, 640, 480))],
        "(centre x, centre y, width, height), written where (x, y, width, height) is asked for, and shares of width",
    ),
    "square": (lambda b: (b[0] * 0.5, b[1] * 320 / 480, b[2] * 0.5, b[3] * 320 / 480), "resized to about 3"),
    "half": (lambda b: [v / 2 for v in b], "are about 0.5"),
    "x and y swapped": (lambda b: (b[1], b[0], b[3], b[2]), "are with x and y swapped"),
    "mirrored": (lambda b: (640 - b[2], b[1], 640 - b[0], b[3]), "are those of the image mirrored left to right"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_boxes_in_another_format_or_scale(bccd: GroundTruth, kind: str) -> None:
    truth, found = real(bccd, "trained")
    change, said = BROKEN[kind]
    broken = reshaped(found, change)
    assert evaluate_voc(truth.as_voc(), broken, truth.classes).ap < 10
    (line,) = explain(truth, broken)
    assert line.startswith("the boxes ") and said in line, line
    good = evaluate_voc(truth.as_voc(), found, truth.classes).ap
    claimed = float(line.split("AP50 is ")[1].split()[0])
    assert claimed == pytest.approx(good, abs=0.1 if "about" not in line and "shares" not in line else 12)


def test_a_handful_of_objects_is_no_evidence_of_a_format(bccd: GroundTruth) -> None:
    truth, found = real(bccd, "trained")
    counts = {i["id"]: sum(a["image_id"] == i["id"] for a in truth.coco["annotations"]) for i in truth.coco["images"]}
    image = next(i for i, n in counts.items() if 5 < n < 20)
    change = BROKEN["corners as sizes"][0]
    wrong = reshaped(found, change)
    keep = np.array([i == image for i in wrong.images])
    few = VocDetections([image] * int(keep.sum()), wrong.classes[keep], wrong.boxes[keep], wrong.scores[keep])
    coco = {**truth.coco, "images": [i for i in truth.coco["images"] if i["id"] == image]}
    lines = explain(replace(truth, coco=coco), few)
    assert lines and not any(line.startswith("the boxes are") for line in lines)


def test_good_and_weak_detections_are_told_nothing(bccd: GroundTruth) -> None:
    truth, found = real(bccd, "trained")
    assert evaluate_voc(truth.as_voc(), found, truth.classes).ap > 80
    assert explain(truth, found, model_classes=("other", "names", "indeed")) == []
    rng = np.random.default_rng(0)
    for _ in range(5):
        sides = np.tile(np.asarray(found.boxes)[:, 2:] - np.asarray(found.boxes)[:, :2], 2)
        weak = replace(
            found,
            boxes=found.boxes + rng.normal(0, 0.25, sides.shape) * sides,
            classes=np.where(rng.random(len(sides)) < 0.5, rng.integers(0, 3, len(sides)), found.classes),
        )
        assert evaluate_voc(truth.as_voc(), weak, truth.classes).ap < 20
        assert explain(truth, weak) == []


def test_untrained_heads_are_seen_by_their_even_scores(bccd: GroundTruth) -> None:
    truth, found = real(bccd, "untrained")
    (line,) = explain(truth, found)
    assert "untrained heads: were all trained weights loaded?" in line
    rng = np.random.default_rng(0)
    nonsense = replace(found, scores=rng.random(len(found.scores)))
    (line,) = explain(truth, nonsense)
    assert "untrained" not in line and "look at the pictures" in line


def test_detections_of_the_next_image(bccd: GroundTruth) -> None:
    truth, found = real(bccd, "trained")
    ids = [image["id"] for image in truth.coco["images"]]
    moved = dict(zip(ids, [*ids[1:], ids[0]]))
    (line,) = explain(truth, replace(found, images=[moved[i] for i in found.images]))
    assert "one image off: read as those of the previous image" in line


@pytest.fixture(params=["coco", "voc"])
def many_classes(real_data: Path, request: pytest.FixtureRequest) -> tuple[GroundTruth, VocDetections]:
    coco = real_data / "coco/annotations/instances_val2017.json"
    truth = read_truth(coco) if request.param == "coco" else read_truth(real_data / "VOC2012", "val")
    return truth, of_results(perturbed_results(truth.coco, with_masks=False), truth).voc


def about_classes(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.startswith("AP nan: ")]


@pytest.mark.parametrize("shift", [1, -1])
def test_classes_shifted_by_one(many_classes: tuple[GroundTruth, VocDetections], shift: int) -> None:
    truth, found = many_classes
    classes = found.classes + shift
    kept = (classes >= 0) & (classes < len(truth.classes))
    broken = VocDetections(
        [i for i, k in zip(found.images, kept) if k], classes[kept], found.boxes[kept], found.scores[kept]
    )
    (line,) = about_classes(explain(truth, broken))
    assert f"classes shifted by one: with every class index one {'lower' if shift > 0 else 'higher'}" in line
    names = truth.classes[:2] if shift < 0 else truth.classes[1::-1]
    assert f"what is called {names[0]!r} is {names[1]!r}" in line


def test_classes_in_another_order(many_classes: tuple[GroundTruth, VocDetections]) -> None:
    truth, found = many_classes
    assert about_classes(explain(truth, found)) == []
    order = np.random.default_rng(0).permutation(len(truth.classes))
    (line,) = about_classes(explain(truth, replace(found, classes=order[found.classes])))
    assert "the boxes are right and" in line and "classes in another order" in line
    person = truth.classes.index("person")
    assert f"{truth.classes[order[person]]!r} is 'person'" in line or "more" in line


def test_two_names_exchanged_among_many_that_are_right(real_data: Path) -> None:
    truth = read_truth(real_data / "VOC2012", "val")
    found = of_results(perturbed_results(truth.coco, with_masks=False), truth).voc
    table = np.arange(20)
    cat, person = truth.classes.index("cat"), truth.classes.index("person")
    table[[cat, person]] = person, cat
    (line,) = about_classes(explain(truth, replace(found, classes=table[found.classes])))
    assert "2 classes in another order: what is called 'cat' is 'person', 'person' is 'cat'; read so" in line


def test_classes_at_random(many_classes: tuple[GroundTruth, VocDetections]) -> None:
    truth, found = many_classes
    classes = np.random.default_rng(0).integers(0, len(truth.classes), len(found.classes))
    (line,) = about_classes(explain(truth, replace(found, classes=classes)))
    assert "their classes no better than chance" in line


def test_names_of_the_model_that_are_not_the_datas(bccd: GroundTruth) -> None:
    truth, found = real(bccd, "trained")
    broken = replace(found, classes=(found.classes + 1) % 3)
    lines = explain(truth, broken, model_classes=("WBC", "Platelets", "RBC"))
    assert "the model's classes are WBC, Platelets, RBC, the data's Platelets, RBC, WBC" in lines[0]
    assert any("classes shifted by one" in line or "another order" in line for line in lines[1:])


def test_nothing_found_and_nothing_there(bccd: GroundTruth) -> None:
    truth, found = real(bccd, "trained")
    nothing = VocDetections([], np.zeros(0, int), np.zeros((0, 4)), np.zeros(0))
    (line,) = explain(truth, nothing)
    assert line.startswith("AP 0: there are no detections at all")
    empty = replace(truth, coco={**truth.coco, "annotations": []})
    assert explain(empty, found) == [
        "AP nan: the annotations have no objects, so there is nothing to measure; annotate some"
    ]
    crowds = replace(truth, coco={**truth.coco, "annotations": [{**a, "iscrowd": 1} for a in bccd.coco["annotations"]]})
    (line,) = explain(crowds, found)
    assert line.startswith("AP nan: all 231 objects are crowds")


def test_single_classes_without_objects_and_without_detections(bccd: GroundTruth) -> None:
    truth, found = real(bccd, "trained")
    without = [a for a in truth.coco["annotations"] if a["category_id"] != 1]
    (line,) = explain(replace(truth, coco={**truth.coco, "annotations": without}), found)
    assert line.startswith("AP nan: 1 of the 3 classes have no object to be found here (Platelets)")
    seen = found.classes != 2
    less = VocDetections(
        [i for i, s in zip(found.images, seen) if s], found.classes[seen], found.boxes[seen], found.scores[seen]
    )
    (line,) = explain(truth, less)
    assert line.startswith("AP 0: there are no detections of WBC")


def test_images_without_sizes_and_images_without_objects(bccd: GroundTruth) -> None:
    truth, found = real(bccd, "trained")
    bare = [{"id": image["id"]} for image in truth.coco["images"]]
    half = reshaped(found, lambda b: [v / 2 for v in b])
    (line,) = explain(replace(truth, coco={**truth.coco, "images": bare}), half)
    assert "the boxes are about 0.5" in line and "times as large" in line
    first = found.images[0]
    elsewhere = [a for a in truth.coco["annotations"] if a["image_id"] != first]
    only = np.array([i == first for i in found.images])
    one = VocDetections([first] * only.sum(), found.classes[only], found.boxes[only], found.scores[only])
    lines = explain(replace(truth, coco={**truth.coco, "annotations": elsewhere}), one)
    assert any("is in an image with objects" in line for line in lines)
