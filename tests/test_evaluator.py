"""Our evaluator beside Detectron2's two, on real ground truth with the same detections."""

from __future__ import annotations

import json
import logging
import math
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances, register_pascal_voc
from detectron2.evaluation import COCOEvaluator, PascalVOCDetectionEvaluator
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances
from detectron2.utils import comm
from made_detections import perturbed_boxes, perturbed_results
from PIL import Image
from pycocotools import mask as masks
from test_datasets import config
from test_evaluation_voc import NAMES as VOC_NAMES

from resnet_backbone.detection.config import default_config
from resnet_backbone.detection.data.catalog import register_user_data
from resnet_backbone.detection.drawables import predicted_objects, record_objects
from resnet_backbone.detection.evaluator import RESULTS_FILE, DetectionEvaluator
from resnet_backbone.detection.training import testing
from resnet_backbone.detection.training.testing import check_test
from resnet_backbone.evaluation.coco import METRICS
from resnet_backbone.evaluation.coco_backends import choose_backend

Batch = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def instances(record: dict[str, Any], boxes: Any, scores: Any, classes: Any, rles: Any = None) -> Instances:
    found = Instances((record["height"], record["width"]))
    found.pred_boxes = Boxes(torch.as_tensor(np.array(boxes, np.float32).reshape(-1, 4)))
    found.scores = torch.as_tensor(np.array(scores, np.float32))
    found.pred_classes = torch.as_tensor(np.array(classes, np.int64))
    if rles is not None:
        shapes = [torch.as_tensor(masks.decode(r)).bool() for r in rles]
        found.pred_masks = torch.stack(shapes) if shapes else torch.zeros(0, *found.image_size, dtype=torch.bool)
    return found


def batches(name: str, file: Path | None = None, *, with_masks: bool = False) -> Iterator[Batch]:
    """Perturbed ground truth of a registered data set, image by image, as a loader and a model would give it."""
    records = DatasetCatalog.get(name)
    if file is not None:
        to_index = MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id
        results = perturbed_results(json.loads(file.read_text()), with_masks=with_masks)
        for record in records:
            mine = [r for r in results if r["image_id"] == record["image_id"]]
            boxes = [BoxMode.convert(r["bbox"], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS) for r in mine]
            rles = [r["segmentation"] for r in mine] if with_masks else None
            classes = [to_index[r["category_id"]] for r in mine]
            yield [record], [{"instances": instances(record, boxes, [r["score"] for r in mine], classes, rles)}]
        return
    truth = [(r["image_id"], a["category_id"], a["bbox"]) for r in records for a in r["annotations"]]
    images, classes, boxes, scores = perturbed_boxes(
        [t[0] for t in truth], np.array([t[1] for t in truth]), np.array([t[2] for t in truth]), len(VOC_NAMES)
    )
    for record in records:
        at = [i for i, image in enumerate(images) if image == record["image_id"]]
        yield [record], [{"instances": instances(record, boxes[at], scores[at], classes[at])}]


def run(evaluator: Any, batches: Iterator[Batch]) -> dict[str, dict[str, float]]:
    evaluator.reset()
    for inputs, outputs in batches:
        evaluator.process(inputs, outputs)
    return evaluator.evaluate()


def same(ours: dict[str, float], theirs: dict[str, float]) -> bool:
    return all(ours[k] == v or (math.isnan(v) and math.isnan(ours[k])) for k, v in theirs.items())


@pytest.fixture
def coco_val(real_data: Path, tmp_path: Path) -> tuple[str, Path]:
    """A third of COCO's images here, as a file of its own."""
    name = f"val_{uuid.uuid4().hex[:8]}"
    content = json.loads((real_data / "coco/annotations/instances_val2017.json").read_text())
    content["images"] = content["images"][::3]
    chosen = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in chosen]
    assert sum(a["iscrowd"] for a in content["annotations"]) > 2
    file = tmp_path / "val.json"
    file.write_text(json.dumps(content))
    register_coco_instances(name, {}, str(file), str(real_data / "coco/val2017"))
    DatasetCatalog.get(name)
    return name, file


def test_equals_detectron2s_coco_evaluator(
    coco_val: tuple[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name, file = coco_val
    ours = run(DetectionEvaluator(name, tmp_path / "ours"), batches(name, file, with_masks=True))
    stock = COCOEvaluator(name, ("bbox", "segm"), False, str(tmp_path / "theirs"), use_fast_impl=False)
    theirs = run(stock, batches(name, file, with_masks=True))
    for task in ("bbox", "segm"):
        assert list(ours[task])[:12] == list(METRICS) and len(ours[task]) == 12 + 80
        assert len(theirs[task]) == 6 + 80 and same(ours[task], theirs[task])
        assert 10 < ours[task]["AP"] < 90
    for backend in sorted({"pycocotools", choose_backend()}):
        with caplog.at_level(logging.INFO, "resnet_backbone"):
            by = run(DetectionEvaluator(name, coco_backend=backend), batches(name, file, with_masks=True))  # type: ignore[arg-type]
        assert str(by) == str(ours) and f"COCO's numbers on {name} are by {backend} " in caplog.text
    written = [json.loads((tmp_path / who / RESULTS_FILE).read_text()) for who in ("ours", "theirs")]
    assert written[0] == written[1] and len(written[0]) > 300


@pytest.mark.parametrize("year", [2007, 2012])
def test_equals_detectron2s_voc_evaluator(real_data: Path, year: int) -> None:
    name = f"voc_{uuid.uuid4().hex[:8]}"
    register_pascal_voc(name, str(real_data / "VOC2012"), "val", year, VOC_NAMES)
    MetadataCatalog.get(name).evaluator_type = "pascal_voc"
    theirs = run(PascalVOCDetectionEvaluator(name), batches(name))
    ours = run(DetectionEvaluator(name, voc_rounding="detectron2"), batches(name))
    key = "AP50-11pt" if year == 2007 else "AP50"
    assert ours["voc"][key] == pytest.approx(theirs["bbox"]["AP50"], rel=1e-14)
    assert list(ours) == ["bbox", "voc"] and {f"AP50-{n}" for n in VOC_NAMES} < set(ours["voc"])
    exact = run(DetectionEvaluator(name), batches(name))
    assert exact["voc"] != ours["voc"] and exact["voc"]["AP50"] == pytest.approx(ours["voc"]["AP50"], abs=1)
    assert exact["bbox"] == ours["bbox"]


def test_user_data_in_voc_layout_equals_the_same_data_by_detectron2s_name(real_data: Path) -> None:
    name = f"voc_{uuid.uuid4().hex[:8]}"
    register_pascal_voc(name, str(real_data / "VOC2012"), "val", 2012, VOC_NAMES)
    MetadataCatalog.get(name).evaluator_type = "pascal_voc"
    user = register_user_data(config(format="voc", root=real_data / "VOC2012", train="val", test="val"))
    assert user.classes == tuple(VOC_NAMES)
    expected = str(run(DetectionEvaluator(name), batches(name)))
    assert str(run(DetectionEvaluator(user.test), batches(name))) == expected
    del MetadataCatalog.get(name).evaluator_type  # as `register_pascal_voc` leaves it
    assert str(run(DetectionEvaluator(name), batches(name))) == expected


def test_user_data_with_ids_from_zero_by_file_and_by_records(real_data: Path) -> None:
    """Balloon's ids start at 0, which pycocotools takes for no match; the file and our records say the same."""
    root = real_data / "balloon"
    keys = dict(format="coco", root=root, train="annotations/train.json", test="annotations/val.json")
    keys |= dict(train_images="train2017", test_images="val2017", masks=True)
    file = root / "annotations/val.json"
    by_file, by_records = (register_user_data(config(**keys, classes=c)) for c in ([], ["balloon"]))
    del MetadataCatalog.get(by_records.test).json_file
    ours = run(DetectionEvaluator(by_file.test), batches(by_file.test, file, with_masks=True))
    theirs = run(DetectionEvaluator(by_records.test), batches(by_file.test, file, with_masks=True))
    assert str(ours) == str(theirs)
    assert list(ours) == ["bbox", "segm", "voc", "voc-segm"]
    assert 0 < ours["voc-segm"]["AP50"] != ours["voc"]["AP50"] and set(ours["voc-segm"]) == set(ours["voc"])
    record = DatasetCatalog.get(by_file.test)[0]
    drawn = record_objects(record)
    perfect = instances(record, drawn.boxes, np.ones(len(drawn.boxes)), drawn.classes)
    numbers = run(DetectionEvaluator(by_file.test), iter([([record], [{"instances": perfect}])]))["bbox"]
    assert numbers["AP"] > 0 and numbers["AP50"] == pytest.approx(numbers["AP75"])


def perfect_batch(record: dict[str, Any], scores: float = 0.9) -> Batch:
    annotations = record["annotations"]
    boxes = [BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    found = instances(record, boxes, [scores] * len(boxes), [a["category_id"] for a in annotations])
    return [record], [{"instances": found}]


@pytest.fixture
def bccd(real_data: Path) -> str:
    return register_user_data(config(format="voc", root=real_data / "bccd")).test


def test_perfect_detections_and_none(bccd: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = DatasetCatalog.get(bccd)
    perfect = run(DetectionEvaluator(bccd), (perfect_batch(r) for r in records))
    assert perfect["bbox"]["AP"] > 99 and perfect["voc"]["AP50"] == pytest.approx(100)
    nothing = (([r], [{"instances": instances(r, [], [], [])}]) for r in records)
    empty = run(DetectionEvaluator(bccd, tmp_path), nothing)
    assert empty["bbox"]["AP"] == empty["bbox"]["AR100"] == empty["voc"]["AP50"] == empty["voc"]["AP50-RBC"] == 0
    assert json.loads((tmp_path / RESULTS_FILE).read_text()) == [] and "segm" not in empty
    unseen = run(DetectionEvaluator(bccd), iter([]))
    assert unseen["bbox"]["AP"] == 0 and "72 of the 72 images" in caplog.text


def test_doubles_of_a_padding_sampler_count_once(bccd: str) -> None:
    records = DatasetCatalog.get(bccd)
    once = run(DetectionEvaluator(bccd), (perfect_batch(r) for r in records))
    assert once == run(DetectionEvaluator(bccd), (perfect_batch(r, 0.9) for r in [*records, *records[:5]]))


def test_what_two_processes_found_is_put_together(bccd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    records = DatasetCatalog.get(bccd)
    whole = run(DetectionEvaluator(bccd), (perfect_batch(r) for r in records))
    parts = [DetectionEvaluator(bccd) for _ in range(2)]
    for part, mine in zip(parts, (records[::2], [*records[1::2], records[0]])):
        for record in mine:
            part.process(*perfect_batch(record))
    sent: list[Any] = []
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    monkeypatch.setattr(comm, "gather", lambda data, dst: sent.append(data) or [])
    assert parts[1].evaluate() == {}
    monkeypatch.setattr(comm, "is_main_process", lambda: True)
    monkeypatch.setattr(comm, "gather", lambda data, dst: [data, *sent])
    assert parts[0].evaluate() == whole


def test_an_image_of_other_data_and_a_class_too_many_are_errors(bccd: str) -> None:
    record = DatasetCatalog.get(bccd)[0]
    evaluator = DetectionEvaluator(bccd)
    with pytest.raises(ValueError, match="image 'other' is not in the data set"):
        evaluator.process(*perfect_batch({**record, "image_id": "other"}))
    evaluator.process([record], [{"instances": instances(record, [[1, 1, 5, 5]], [0.5], [3])}])
    with pytest.raises(ValueError, match="found class 3, but the data set has 3 classes"):
        evaluator.evaluate()


def test_numbers_that_are_none_are_left_out_and_counted(bccd: str, caplog: pytest.LogCaptureFixture) -> None:
    record = DatasetCatalog.get(bccd)[0]
    boxes, scores = [[1, 1, 5, 5], [np.nan, 1, 5, 5], [1, 1, 9, 9]], [np.nan, 0.5, 0.7]
    evaluator = DetectionEvaluator(bccd)
    evaluator.process([record], [{"instances": instances(record, boxes, scores, [0, 0, 0])}])
    assert evaluator.evaluate()["bbox"]["AP"] == 0
    assert "2 detections with a box or score that is no number" in caplog.text


def test_results_are_whole_or_not_there(bccd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resnet_backbone.detection.evaluator._write_json", full)
    with pytest.raises(OSError, match="No space"):
        DetectionEvaluator(bccd, tmp_path).evaluate()
    assert list(tmp_path.iterdir()) == []


class Half(torch.nn.Module):
    """Finds half of an object of 8 x 8 pixels, whatever the image."""

    def forward(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"instances": instances(one, [[0, 0, 8, 4]], [0.9], [0])} for one in inputs]


def test_the_configs_keys_reach_the_evaluator(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An overlap of exactly 0.5 is a hit for VOC's devkit and none for Detectron2."""
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    box = {"bbox": [0, 0, 8, 8], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    record = {"file_name": str(tmp_path / "one.png"), "image_id": 1, "height": 8, "width": 8, "annotations": [box]}
    name = f"one_{uuid.uuid4().hex[:8]}"
    DatasetCatalog.register(name, lambda: [record])
    MetadataCatalog.get(name).thing_classes = ["thing"]
    cfg = default_config()
    cfg.DATASETS.TEST, cfg.DATALOADER.NUM_WORKERS = (name,), 0
    keys = ["TEST.COCO_BACKEND", "pycocotools", "TEST.VOC_ROUNDING", "detectron2"]
    ap = {}
    for given in ([], keys):
        cfg.merge_from_list(given)
        check_test(cfg)
        with caplog.at_level(logging.INFO, "resnet_backbone"):
            ap[len(given)] = testing.test(cfg, Half(), tmp_path, pictures=False)[name]["voc"]["AP50"]
    assert ap == {0: 100, 4: 0} and "are by pycocotools" in caplog.text
    cfg.TEST.VOC_ROUNDING = "coco"
    with pytest.raises(ValueError, match="TEST.VOC_ROUNDING is 'coco', but it must be none or detectron2"):
        check_test(cfg)
    cfg.TEST.COCO_BACKEND = "faster"
    with pytest.raises(ValueError, match="TEST.COCO_BACKEND is 'faster', but it must be one of auto"):
        check_test(cfg)


def test_predictions_to_draw_are_those_above_a_score() -> None:
    record = {"height": 20, "width": 30}
    found = instances(record, [[1, 1, 5, 5], [2, 2, 9, 9]], [0.4, 0.6], [0, 2])
    found.pred_masks = BitMasks(torch.ones(2, 20, 30)).tensor
    objects = predicted_objects(found)
    assert objects.classes.tolist() == [2] and objects.boxes.tolist() == [[2, 2, 9, 9]]
    assert objects.masks.shape == (1, 20, 30) and objects.scores.tolist() == pytest.approx([0.6])
