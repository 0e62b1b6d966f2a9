"""--smoke: every config shrinks to a valid one, and whole runs on generated and on real data."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog
from made_data import TINY, write_config, write_rectangles
from pycocotools.coco import COCO

from resnet_backbone.detection.training.config import leaves, read_config, value_of
from resnet_backbone.detection.training.run import run
from resnet_backbone.detection.training.settle import RunOptions, settle
from resnet_backbone.detection.training.smoke import SHRUNK, write_data
from resnet_backbone.weights.files import read_weights
from resnet_backbone.weights.sources import on_disk

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
# What --smoke may change beside its table: batch, weights, data, and what follows from them.
FOLLOWS = ("DATA.", "DATASETS.", "SOLVER.IMS_PER_BATCH", "MODEL.WEIGHTS", "MODEL.RESNETS.NORM", "SEED", "OUTPUT_DIR",
           "MODEL.BACKBONE.FREEZE_AT", "NUM_CLASSES", "TEST.EVAL_PERIOD", "MODEL.DEVICE",
           "INPUT.MASK_FORMAT")  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """Neither data nor weights are there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "none"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_shrinks_to_a_valid_one(path):
    ready = settle(RunOptions(path, smoke=True))
    cfg, solver = ready.cfg, ready.cfg.SOLVER
    assert 0 < solver.WARMUP_ITERS < min(solver.STEPS) <= max(solver.STEPS) < solver.MAX_ITER <= 10
    assert solver.IMS_PER_BATCH == 2 and 0 < solver.CHECKPOINT_PERIOD <= solver.MAX_ITER
    assert cfg.TEST.EVAL_PERIOD < solver.MAX_ITER
    assert max(cfg.INPUT.MIN_SIZE_TRAIN) <= 96 and cfg.INPUT.MAX_SIZE_TEST <= 160
    assert ready.output == Path("runs") / f"{path.stem}-smoke"
    assert len(DatasetCatalog.get(cfg.DATASETS.TEST[0])) == 4
    before = read_config(path).cfg
    changed = {key for key, value in leaves(cfg) if value != value_of(before, key)} - set(SHRUNK)
    assert [key for key in changed if not any(part in key for part in FOLLOWS)] == []


def test_the_keys_of_the_command_line_win():
    ready = settle(RunOptions(CONFIGS[0], ("SOLVER.MAX_ITER", "9", "INPUT.MIN_SIZE_TEST", "128"), smoke=True))
    assert ready.cfg.SOLVER.MAX_ITER == 9 and ready.cfg.INPUT.MIN_SIZE_TEST == 128


def test_weights_of_the_command_line_have_to_be_there():
    with pytest.raises(ValueError, match="missing.pth"):
        settle(RunOptions(CONFIGS[0], ("MODEL.WEIGHTS", "missing.pth"), smoke=True))


@pytest.mark.parametrize("flag", ["resume", "eval_only"])
def test_it_neither_resumes_nor_only_evaluates(flag):
    with pytest.raises(ValueError, match="leave out"):
        settle(RunOptions(CONFIGS[0], smoke=True, **{flag: True}))


def test_only_its_own_folder_is_overwritten_unasked(tmp_path):
    for folder in (tmp_path / "real", Path("runs") / f"{CONFIGS[0].stem}-smoke"):
        folder.mkdir(parents=True)
        (folder / "model_final.pth").touch()
    settle(RunOptions(CONFIGS[0], smoke=True))
    with pytest.raises(ValueError, match="holds a run"):
        settle(RunOptions(CONFIGS[0], output=tmp_path / "real", smoke=True))


def test_weights_are_on_disk_where_the_cache_has_them(tmp_path, monkeypatch):
    monkeypatch.setenv("RESNET_BACKBONE_CACHE", str(tmp_path))
    names = {
        "torchvision://ResNet18_Weights.IMAGENET1K_V1": "resnet18-f37072fd.pth",
        "timm://resnet50.a1_in1k": "timm-resnet50.a1_in1k.safetensors",
        "detectron2://ImageNetPretrained/MSRA/R-50.pkl": "ImageNetPretrained-MSRA-R-50.pkl",
        "https://example.org/a/b.pth": "b-e0e4cdfcb0bb.pth",  # the beginning of the address's sha256
    }
    for source, name in names.items():
        assert not on_disk(source)
        (tmp_path / name).touch()
        assert on_disk(source), source


def test_generated_data_are_what_pycocotools_reads(tmp_path):
    write_data(tmp_path, ["a", "b"])
    coco = COCO(str(tmp_path / "train.json"))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == ["a", "b"]
    for one in coco.anns.values():
        mask = coco.annToMask(one)
        ys, xs = mask.nonzero()
        x, y, w, h = one["bbox"]
        assert abs(xs.min() - x) <= 1 and abs(xs.max() - x - w) <= 1
        assert abs(ys.min() - y) <= 1 and abs(ys.max() - y - h) <= 1
        assert mask.sum() == pytest.approx(one["area"], rel=0.15)


@pytest.mark.parametrize("name", ["faster_rcnn_R18_coco", "mask_rcnn_R50_balloon"])
def test_a_whole_run_on_generated_data(name, caplog):
    path = next(p for p in CONFIGS if p.stem == name)
    with caplog.at_level(logging.INFO, "resnet_backbone"):
        (results,) = run(RunOptions(path, smoke=True)).values()
    output = Path("runs") / f"{name}-smoke"
    for file in ("model_final.pth", "config.yaml", "metrics.jsonl"):
        assert (output / file).is_file()
    assert len(list(output.glob("pictures/*/*.jpg"))) == 4
    assert json.loads(next(output.glob("evaluation/*/coco_instances_results.json")).read_text())
    assert {"bbox", "voc"} <= set(results) and ("segm" in results) == name.startswith("mask")
    assert read_weights(output / "model_final.pth")


def test_data_that_are_there_are_used(tmp_path):
    data = write_rectangles(tmp_path / "rectangles", images=30)
    ready = settle(RunOptions(write_config(tmp_path, TINY), ("DATA.ROOT", str(data)), smoke=True))
    files = {r["file_name"] for r in DatasetCatalog.get(ready.cfg.DATASETS.TRAIN[0])}
    assert len(files) == 8 and all(f.startswith(str(data)) for f in files)
    assert ready.cfg.DATA.CLASSES == ["wide", "tall"]
