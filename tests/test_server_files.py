"""Results for the evaluation servers, read back by pycocotools, by Detectron2's VOC code and by our own reader."""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances, register_pascal_voc
from detectron2.evaluation.pascal_voc_evaluation import voc_eval
from made_data import write_config
from test_datasets import config
from test_evaluation_coco import by_pycocotools
from test_evaluator import batches, run

from resnet_backbone.detection.build import build_detector
from resnet_backbone.detection.data.catalog import register_user_data
from resnet_backbone.detection.data.unannotated import VOC_2012_TEST
from resnet_backbone.detection.evaluator import RESULTS_FILE, DetectionEvaluator
from resnet_backbone.detection.training.config import read_config
from resnet_backbone.detection.training.sets import use_data
from resnet_backbone.detection.training.testing import test as run_tests
from resnet_backbone.detection.training.testing import trained_classes
from resnet_backbone.evaluation.coco import METRICS
from resnet_backbone.evaluation.from_files import evaluate_files
from resnet_backbone.evaluation.results_files import read_found
from resnet_backbone.evaluation.truth import VOC_CLASSES, read_truth


def registered(root: Path, split: str) -> str:
    name = f"voc_{uuid.uuid4().hex[:8]}"
    register_pascal_voc(name, str(root), split, 2012)
    MetadataCatalog.get(name).evaluator_type = "pascal_voc"
    return name


def test_voc_files_give_the_numbers_from_memory(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "VOC2012"
    name = registered(root, "val")
    ours = run(DetectionEvaluator(name, tmp_path), batches(name))
    main = tmp_path / "results/VOC2012/Main"
    assert {f.name for f in main.iterdir()} == {f"comp4_det_val_{c}.txt" for c in VOC_CLASSES}
    truth = read_truth(root, "val")
    numbers = evaluate_files(truth, read_found(tmp_path / "results", truth)).numbers()
    assert str(numbers["voc"]) == str(ours["voc"]) and ours["voc"]["AP50"] > 30
    by_json = evaluate_files(truth, read_found(tmp_path / RESULTS_FILE, truth)).numbers()
    assert str(by_json["bbox"]) == str(ours["bbox"])
    places = (str(root / "Annotations/{}.xml"), str(root / "ImageSets/Main/val.txt"))
    for label in ("cat", "aeroplane", "bus"):
        recall, _, ap = voc_eval(str(main / "comp4_det_val_{}.txt"), *places, label, 0.5, False)
        assert len(recall) == len((main / f"comp4_det_val_{label}.txt").read_text().splitlines())
        if label == "cat":
            assert 100 * ap == pytest.approx(ours["voc"]["AP50-cat"], abs=1)  # ties are sorted as they fall


def test_the_users_own_voc_data_have_files_named_by_folder_and_split(real_data: Path, tmp_path: Path) -> None:
    for keys, split in (
        ({}, "test"),
        ({"train": "trainval", "test": "test"}, "test"),
        ({"train": "test", "test": "val"}, "val"),
    ):
        data = register_user_data(config(format="voc", root=real_data / "bccd", **keys))
        DetectionEvaluator(data.test, tmp_path / split).evaluate()
        files = sorted((tmp_path / split / "results/bccd/Main").iterdir())
        assert [f.name for f in files] == [f"comp4_det_{split}_{c}.txt" for c in ("Platelets", "RBC", "WBC")]


def test_coco_results_of_a_split_without_annotations(real_data: Path, tmp_path: Path) -> None:
    file, images = real_data / "coco/annotations/instances_val2017.json", str(real_data / "coco/val2017")
    content = json.loads(file.read_text())
    (tmp_path / "test.json").write_text(json.dumps({k: content[k] for k in ("images", "categories")}))
    known, blind = (f"coco_{uuid.uuid4().hex[:8]}" for _ in range(2))
    register_coco_instances(known, {}, str(file), images)
    register_coco_instances(blind, {}, str(tmp_path / "test.json"), images)
    ours = run(DetectionEvaluator(known, tmp_path / "known"), batches(known, file, with_masks=True))
    records = {r["image_id"]: r for r in DatasetCatalog.get(known)}
    MetadataCatalog.get(blind).set(
        thing_classes=MetadataCatalog.get(known).thing_classes,
        thing_dataset_id_to_contiguous_id=MetadataCatalog.get(known).thing_dataset_id_to_contiguous_id,
    )
    assert len(records) == 60
    evaluator = DetectionEvaluator(blind, tmp_path / "blind")
    assert run(evaluator, batches(known, file, with_masks=True)) == {}
    written = [(tmp_path / w / RESULTS_FILE).read_text() for w in ("known", "blind")]
    assert written[0] == written[1] and not (tmp_path / "blind/results").exists()
    results = json.loads(written[1])
    assert all(type(r["image_id"]) is int for r in results)
    for kind in ("bbox", "segm"):
        stats = by_pycocotools(file, results, kind).stats  # by its loadRes
        assert [ours[kind][m] / 100 for m in METRICS] == pytest.approx(stats, rel=1e-14)


@pytest.fixture
def blind_voc(real_data: Path, tmp_path: Path) -> Path:
    """Twelve photographs of VOC's: "train" has annotations, "test" has none."""
    source, root = real_data / "VOC2012", tmp_path / "datasets/VOC2012"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    ids = (source / "ImageSets/Main/val.txt").read_text().split()[:12]
    for n, image in enumerate(ids):
        shutil.copy(source / f"JPEGImages/{image}.jpg", root / "JPEGImages")
        if n < 6:
            shutil.copy(source / f"Annotations/{image}.xml", root / "Annotations")
    (root / "ImageSets/Main/train.txt").write_text("\n".join(ids[:6]))
    (root / "ImageSets/Main/test.txt").write_text("\n".join(ids[6:]) + "\n")
    return root


def test_a_registered_voc_split_without_annotations(
    real_data: Path, blind_voc: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, blind = registered(real_data / "VOC2012", "val"), registered(blind_voc, "test")
    asked = {i.strip() for i in (blind_voc / "ImageSets/Main/test.txt").read_text().split()}
    evaluator = DetectionEvaluator(blind, tmp_path / "out")
    caplog.set_level(logging.INFO)
    assert run(evaluator, (b for b in batches(whole) if b[0][0]["image_id"] in asked)) == {}
    assert "has no annotations: nothing to measure" in caplog.text
    assert [sorted(r) for r in DatasetCatalog.get(blind)] == [["file_name", "height", "image_id", "width"]] * 6
    # The files hold what would be found where the annotations are.
    for image in asked:
        shutil.copy(real_data / f"VOC2012/Annotations/{image}.xml", blind_voc / "Annotations")
    truth = read_truth(blind_voc, "test")
    known = registered(blind_voc, "test")
    ours = run(DetectionEvaluator(known), (b for b in batches(whole) if b[0][0]["image_id"] in asked))
    numbers = evaluate_files(truth, read_found(tmp_path / "out/results", truth)).numbers()
    assert str(numbers["voc"]) == str(ours["voc"]) and ours["voc"]["AP50"] > 0


def test_a_split_with_some_annotations_missing_is_a_mistake_unless_most_are(blind_voc: Path) -> None:
    (blind_voc / "ImageSets/Main/both.txt").write_text("\n".join(f.stem for f in (blind_voc / "JPEGImages").iterdir()))
    next((blind_voc / "Annotations").iterdir()).unlink()
    assert DetectionEvaluator(registered(blind_voc, "both")).evaluate() == {}
    with pytest.raises(ValueError, match="1 of the 6 images of voc_"):
        DetectionEvaluator(registered(blind_voc, "train"))
    with pytest.raises(ValueError, match="have no file in Annotations"):
        read_truth(blind_voc, "train")


@pytest.fixture
def voc_2012_test() -> Iterator[str]:
    """Not registered before, by whichever test, nor behind it."""
    _forget(VOC_2012_TEST)
    yield VOC_2012_TEST
    _forget(VOC_2012_TEST)


def _forget(name: str) -> None:
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@torch.no_grad()
def test_a_detector_is_run_over_vocs_test_split(
    blind_voc: Path, voc_2012_test: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(blind_voc.parent))
    train = registered(blind_voc, "train")
    cfg = read_config(
        write_config(tmp_path), ["DATASETS.TRAIN", f"('{train}',)", "DATASETS.TEST", f"('{voc_2012_test}',)"]
    ).cfg
    notes = use_data(cfg, ())
    assert any("voc_2012_test: 6 of 6 images have no annotation: results are written" in note for note in notes)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    assert run_tests(cfg, build_detector(cfg), tmp_path / "run") == {voc_2012_test: {}}
    folder = tmp_path / "run/evaluation" / voc_2012_test
    assert json.loads((folder / RESULTS_FILE).read_text())
    files = list((folder / "results/VOC2012/Main").iterdir())
    assert len(files) == 20 and any(f.stat().st_size for f in files)
    assert len(list((tmp_path / "run/pictures" / voc_2012_test).iterdir())) == 2


def test_the_users_own_test_split_without_annotations(blind_voc: Path, tmp_path: Path) -> None:
    data = register_user_data(config(format="voc", root=blind_voc, train="train", test="test"))
    assert any("test.txt: none of its images is annotated" in m for m in data.messages)
    assert all("annotations" not in r and r["height"] for r in DatasetCatalog.get(data.test))
    assert DetectionEvaluator(data.test, tmp_path).evaluate() == {}
    assert list((tmp_path / "results/VOC2012/Main").glob("comp4_det_test_*.txt"))
    with pytest.raises(ValueError, match="6 of its 6 images are not in Annotations"):
        register_user_data(config(format="voc", root=blind_voc, train="test", test="train"))


def test_an_ap_of_0_is_explained_in_the_log(real_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = registered(real_data / "VOC2012", "val")
    shifted: list[Any] = []
    for inputs, outputs in batches(name):
        found = outputs[0]["instances"]
        found = found[found.pred_classes < 14]
        found.pred_classes = found.pred_classes + 1
        shifted.append((inputs, [{"instances": found}]))
    (tmp_path / "config.yaml").write_text("DATA: {CLASSES: [cat, dog]}")
    classes = trained_classes(str(tmp_path / "model_final.pth"))
    assert trained_classes(str(tmp_path / "other/model.pth")) == trained_classes("detectron2://x/y.pkl") == ()
    run(DetectionEvaluator(name, model_classes=classes), iter(shifted))
    assert "the boxes are right and the classes shifted by one" in caplog.text
    assert "the model's classes are cat, dog, the data's aeroplane" in caplog.text
