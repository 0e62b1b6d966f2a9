"""VOC's AP against Detectron2's code to the bit, against a slow plain version, and by hand."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from made_detections import perturbed_boxes, perturbed_results, write_as_detectron2
from pycocotools import mask as masks

from resnet_backbone.detection.data.truth import GroundTruth
from resnet_backbone.evaluation.voc import VocDetections, VocResult, VocTruth, evaluate_voc, sweep_voc

# fmt: off
NAMES = [
    "bicycle", "bird", "bottle", "car", "cat", "chair", "cow", "diningtable", "dog", "horse", "person",
    "pottedplant", "sheep", "sofa", "tvmonitor",
]  # those that the 400 validation photographs hold
# fmt: on


def read_truth(root: Path) -> VocTruth:
    images, classes, boxes, difficult = [], [], [], []
    for image in (root / "ImageSets/Main/val.txt").read_text().split():
        for one in ElementTree.parse(root / f"Annotations/{image}.xml").iter("object"):
            x0, y0, x1, y1 = (float(one.findtext(f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax"))
            images.append(image)
            classes.append(NAMES.index(one.findtext("name")))
            boxes.append((x0 - 1, y0 - 1, x1, y1))
            difficult.append(one.findtext("difficult") == "1")
    return VocTruth(images, np.array(classes), np.array(boxes), np.array(difficult))


def make_detections(truth: VocTruth, seed: int = 0) -> VocDetections:
    return VocDetections(*perturbed_boxes(list(truth.images), truth.classes, truth.boxes, len(NAMES), seed))


def box_overlap(box: Any, other: Any) -> float:
    """As VOCevaldet.m has it, -inf where they do not touch."""
    width = min(box[2], other[2]) - max(box[0] + 1, other[0] + 1) + 1
    height = min(box[3], other[3]) - max(box[1] + 1, other[1] + 1) + 1
    if width <= 0 or height <= 0:
        return -np.inf
    union = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return width * height / (union - width * height)


def mask_overlap(mask: Any, other: Any) -> float:
    return (mask & other).sum() / max((mask | other).sum(), 1)


def by_the_devkit(
    truth: VocTruth, found: VocDetections, index: int, iou: float, shapes: Any = None, overlap_of: Any = box_overlap
) -> tuple[float, float]:
    """VOCevaldet.m and VOCap.m line by line: (all points, 11 points), 0..1; `shapes` are compared, by default boxes."""
    of_truth, of_found = shapes or (truth.boxes.astype(float), found.boxes.astype(float))
    objects: dict[Any, list[list[Any]]] = defaultdict(list)
    asked = 0
    for image, label, shape, difficult in zip(truth.images, truth.classes, of_truth, truth.difficult):
        if label == index:
            objects[image].append([shape, difficult, False])
            asked += not difficult
    mine = [d for d in range(len(found.scores)) if found.classes[d] == index]
    tp, fp = [], []
    for d in sorted(mine, key=lambda d: -float(found.scores[d])):  # Python's sort is stable
        best, at = -np.inf, None
        for one in objects[found.images[d]]:
            overlap = overlap_of(of_found[d], one[0])
            if overlap > best:
                best, at = overlap, one
        hit = best >= iou
        tp.append(bool(hit and not at[1] and not at[2]))
        fp.append(bool(not hit or (not at[1] and at[2])))
        if tp[-1]:
            at[2] = True
    recall = np.cumsum(tp) / asked
    precision = np.cumsum(tp) / np.maximum(np.cumsum(tp) + np.cumsum(fp), 1e-300)
    ap11 = np.mean([max(precision[recall >= t], default=0.0) for t in np.arange(0, 1.1, 0.1)])
    ap = sum((r - q) * max(precision[recall >= r]) for q, r in zip([0.0, *recall], recall) if r > q)
    return float(ap), float(ap11)


def test_equals_the_devkit_written_plainly(real_data: Path) -> None:
    truth = read_truth(real_data / "VOC2012")
    found = make_detections(truth)
    assert truth.difficult.sum() > 50 and len(np.unique(found.scores)) < 0.8 * len(found.scores)
    for iou, result in zip((0.5, 0.75), sweep_voc(truth, found, NAMES, ious=(0.5, 0.75))):
        for index, name in enumerate(NAMES):
            expected = by_the_devkit(truth, found, index, iou)
            assert (result.classes[name].ap / 100, result.classes[name].ap11 / 100) == pytest.approx(
                expected, abs=1e-12
            )


def test_masks_equal_the_devkit_written_plainly(real_data: Path) -> None:
    """COCO's photographs: polygons, crowds that nobody is asked for, and two objects whose masks are missing."""
    coco = json.loads((real_data / "coco/annotations/instances_val2017.json").read_text())
    crowded = {a["image_id"] for a in coco["annotations"] if a["iscrowd"]}
    coco["images"] = sorted(coco["images"], key=lambda i: i["id"] not in crowded)[:25]
    chosen = {image["id"] for image in coco["images"]}
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] in chosen]
    results = perturbed_results(coco, with_masks=True)
    coco["annotations"][0]["segmentation"] = []
    ids = [c["id"] for c in coco["categories"]]
    names = [c["name"] for c in coco["categories"]]
    truth = GroundTruth(coco, tuple(names), tuple(ids), True).as_voc("segm")
    assert truth.difficult[0] and sum(truth.difficult) > 2
    found = VocDetections(
        [r["image_id"] for r in results], np.array([ids.index(r["category_id"]) for r in results]),
        np.zeros((len(results), 4)), np.array([r["score"] for r in results]), [r["segmentation"] for r in results],
    )  # fmt: skip
    decoded = [[masks.decode(m).astype(bool) for m in table.masks or ()] for table in (truth, found)]
    ours = sweep_voc(truth, found, names, ious=(0.5, 0.75), iou_type="segm")
    measured = 0
    for iou, result in zip((0.5, 0.75), ours):
        for index, name in enumerate(names):
            if result.classes[name].objects:
                expected = by_the_devkit(truth, found, index, iou, decoded, mask_overlap)
                assert (result.classes[name].ap / 100, result.classes[name].ap11 / 100) == pytest.approx(
                    expected, abs=1e-12
                )
                measured += 0.01 < expected[0] < 0.99
    assert measured > 20


def test_masks_worked_by_hand() -> None:
    """A box twice as large as its mask: as boxes both are found, as masks the second is not."""
    shapes = np.zeros((3, 20, 20), np.uint8)
    shapes[0, :10, :10], shapes[1, 10:, 10:], shapes[2, 10:, 10:14] = 1, 1, 1
    first, second, thin = (masks.encode(np.asfortranarray(shape)) for shape in shapes)
    boxes = np.array([[0, 0, 10, 10], [10, 10, 20, 20]])
    truth = VocTruth(["a", "a"], np.zeros(2), boxes, np.zeros(2), [first, second])
    found = VocDetections(["a", "a"], np.zeros(2), boxes, np.array([0.8, 0.9]), [first, thin])
    assert evaluate_voc(truth, found, ["thing"]).ap == 100
    assert evaluate_voc(truth, found, ["thing"], iou_type="segm").ap == 25  # 0 of 1, then 1 of 2
    assert evaluate_voc(truth, found, ["thing"], iou_type="segm", iou=0.4).ap == 100
    without = VocDetections(["a", "a"], np.zeros(2), boxes, np.array([0.8, 0.9]))
    with pytest.raises(ValueError, match="detections: no masks"):
        evaluate_voc(truth, without, ["thing"], iou_type="segm")
    with pytest.raises(ValueError, match="differ in length"):
        evaluate_voc(replace(truth, masks=[first]), found, ["thing"], iou_type="segm")


@pytest.mark.parametrize("iou", [0.5, 0.8])
def test_equals_detectron2_to_the_bit(real_data: Path, tmp_path: Path, iou: float) -> None:
    voc_eval = pytest.importorskip("detectron2.evaluation.pascal_voc_evaluation").voc_eval
    root = real_data / "VOC2012"
    truth = read_truth(root)
    found = make_detections(truth, seed=1)
    ours = evaluate_voc(truth, found, NAMES, iou=iou, rounding="detectron2")
    for index, name in enumerate(NAMES):
        write_as_detectron2(tmp_path / f"{name}.txt", found, index)
        files = (str(tmp_path / "{}.txt"), str(root / "Annotations/{}.xml"), str(root / "ImageSets/Main/val.txt"))
        assert ours.classes[name].ap == 100 * voc_eval(*files, name, iou, False)[2]
        assert ours.classes[name].ap11 == 100 * voc_eval(*files, name, iou, True)[2]


def small(scores: list[float], boxes: list[list[float]], difficult: tuple[bool, ...] = (False, False)) -> VocResult:
    truth = VocTruth(["a", "a"], np.zeros(2), np.array([[0, 0, 10, 10], [20, 20, 30, 30]]), np.array(difficult))
    found = VocDetections(["a"] * len(scores), np.zeros(len(scores)), np.array(boxes), np.array(scores))
    return evaluate_voc(truth, found, ["thing"])


FIRST, SECOND, NOWHERE = [0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]


@pytest.mark.parametrize(
    ("found", "ap", "ap11"),
    [
        ([], 0, 0),
        ([FIRST, SECOND], 100, 100),
        ([FIRST], 50, 100 * 6 / 11),
        ([FIRST, NOWHERE, SECOND], 100 * (0.5 + 0.5 * 2 / 3), 100 * (6 + 5 * 2 / 3) / 11),
        ([NOWHERE, FIRST], 25, 100 * 6 * 0.5 / 11),
        ([FIRST, FIRST, SECOND], 100 * (0.5 + 0.5 * 2 / 3), 100 * (6 + 5 * 2 / 3) / 11),  # found twice: once wrong
    ],
)
def test_worked_by_hand(found: list[list[float]], ap: float, ap11: float) -> None:
    result = small([0.9 - 0.1 * n for n in range(len(found))], found)
    assert (result.ap, result.ap11) == pytest.approx((ap, ap11))


def test_difficult_objects_count_for_nobody() -> None:
    result = small([0.9, 0.8, 0.7], [SECOND, SECOND, FIRST], difficult=(False, True))
    assert result.classes["thing"].objects == 1
    assert result.ap == 100


def test_nothing_asked_for_is_nan_and_not_part_of_the_mean() -> None:
    truth = VocTruth([7, 7], np.array([0, 1]), np.array([FIRST, SECOND]), np.array([False, True]))
    found = VocDetections([7], np.array([0]), np.array([FIRST]), np.array([1.0]))
    result = evaluate_voc(truth, found, ["there", "only difficult", "absent"])
    assert np.isnan(result.classes["only difficult"].ap) and np.isnan(result.classes["absent"].ap11)
    assert (result.ap, result.ap11) == pytest.approx((100, 100))


def test_an_overlap_of_exactly_the_threshold_is_a_hit_as_in_the_devkit() -> None:
    half = [[0, 0, 10, 5]]
    assert small([1.0], half).ap == 50
    truth = VocTruth(["a"], np.zeros(1), np.array([FIRST]), np.zeros(1))
    found = VocDetections(["a"], np.zeros(1), np.array(half), np.ones(1))
    assert evaluate_voc(truth, found, ["thing"], rounding="detectron2").ap == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": np.array([3])}, "3..3, but 1 class names"),
        ({"scores": np.array([np.nan])}, "not a finite number"),
        ({"images": ["a", "b"]}, "differ in length"),
    ],
)
def test_nonsense_is_refused(change: dict[str, Any], message: str) -> None:
    truth = VocTruth(["a"], np.zeros(1), np.array([FIRST]), np.zeros(1))
    parts: dict[str, Any] = {
        "images": ["a"],
        "classes": np.zeros(1),
        "boxes": np.array([FIRST]),
        "scores": np.ones(1),
    }
    with pytest.raises(ValueError, match=message):
        evaluate_voc(truth, VocDetections(**{**parts, **change}), ["thing"])


def test_an_unknown_rounding_is_refused() -> None:
    truth, found = VocTruth([], np.zeros(0), np.zeros((0, 4)), np.zeros(0)), VocDetections([], *[np.zeros(0)] * 3)
    with pytest.raises(ValueError, match="rounding is 'coco', but it must be none or detectron2"):
        evaluate_voc(truth, found, ["thing"], rounding="coco")  # type: ignore[arg-type]
