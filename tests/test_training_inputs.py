"""Keys that Detectron2 would refuse within a run are one sentence before it; those that it takes pass."""

from __future__ import annotations

import numpy as np
import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from made_data import TINY, write_config, write_rectangles

from resnet_backbone.detection.build import build_detector
from resnet_backbone.detection.config import default_config
from resnet_backbone.detection.preflight.check import check
from resnet_backbone.detection.training import inputs
from resnet_backbone.detection.training.config import read_config
from resnet_backbone.detection.training.inputs import check_crop_of_masks, check_inputs
from resnet_backbone.detection.training.run import run
from resnet_backbone.detection.training.settle import RunOptions
from resnet_backbone.engine.step import TrainStep


def settings(**keys: object) -> CfgNode:
    cfg = default_config()
    cfg.merge_from_list([part for key, value in keys.items() for part in (key.replace("__", "."), value)])
    return cfg


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"MIN_SIZE_TRAIN": ()}, r"INPUT.MIN_SIZE_TRAIN: \(\): give sizes in pixels"),
        ({"MIN_SIZE_TRAIN": (-5,)}, r"INPUT.MIN_SIZE_TRAIN: \(-5,\): give sizes in pixels"),
        ({"MIN_SIZE_TRAIN_SAMPLING": "foo"}, "INPUT.MIN_SIZE_TRAIN_SAMPLING: 'foo': use one of choice, range"),
        ({"MIN_SIZE_TRAIN_SAMPLING": "range"}, "range draws between two sizes"),
        ({"MIN_SIZE_TRAIN_SAMPLING": "range", "MIN_SIZE_TRAIN": (90, 60)}, "give the smaller and the larger"),
        ({"MAX_SIZE_TRAIN": -1}, "INPUT.MAX_SIZE_TRAIN: -1: give at least 1"),
        ({"RANDOM_FLIP": "both"}, "INPUT.RANDOM_FLIP: 'both': use one of horizontal, vertical, none"),
        ({"CROP__TYPE": "relativ"}, "INPUT.CROP.TYPE: 'relativ': use one of relative"),
        ({"CROP__ENABLED": True, "CROP__SIZE": [300, 300]}, "TYPE relative_range needs two shares"),
        ({"CROP__ENABLED": True, "CROP__TYPE": "absolute"}, "TYPE absolute needs two whole numbers of pixels"),
        ({"CROP__ENABLED": True, "CROP__TYPE": "absolute_range", "CROP__SIZE": [9, 3]}, "the smaller size first"),
    ],
)
def test_what_cannot_be_is_one_sentence(keys: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_inputs(settings(**{f"INPUT__{key}": value for key, value in keys.items()}))


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"MIN_SIZE_TRAIN": (0,)},
        {"MIN_SIZE_TRAIN": (50, 60), "MIN_SIZE_TRAIN_SAMPLING": "range", "RANDOM_FLIP": "none"},
        {"CROP__ENABLED": True, "CROP__TYPE": "relative", "CROP__SIZE": [1.0, 0.5]},
        {"CROP__ENABLED": True, "CROP__TYPE": "absolute", "CROP__SIZE": [300, 20]},
        {"CROP__ENABLED": True, "CROP__TYPE": "absolute_range", "CROP__SIZE": [20, 30]},
    ],
)
def test_what_detectron2s_mapper_takes_passes(keys: dict[str, object]) -> None:
    cfg = settings(**{f"INPUT__{key}": value for key, value in keys.items()})
    check_inputs(cfg)
    for augmentation in DatasetMapper(cfg, True).augmentations.augs:
        augmentation.get_transform(np.zeros((40, 60, 3), np.uint8))


def test_cropped_polygons_need_shapely(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(inputs, "find_spec", lambda name: None)
    root = write_rectangles(tmp_path / "rectangles")
    pairs = ("DATA.ROOT", str(root), "INPUT.CROP.ENABLED", "True", "MODEL.MASK_ON", "True")
    with pytest.raises(ValueError, match="to crop polygons needs shapely: pip install shapely"):
        run(RunOptions(write_config(tmp_path, TINY), pairs, tmp_path / "run"))
    check_crop_of_masks(settings(INPUT__CROP__ENABLED=True, MODEL__MASK_ON=True, INPUT__MASK_FORMAT="bitmask"))
    check_crop_of_masks(settings(INPUT__CROP__ENABLED=True))


def test_a_detector_that_cannot_be_built_is_one_sentence() -> None:
    cfg = settings(MODEL__DEVICE="cpu", MODEL__ROI_HEADS__NAME="StandardROIHeads", MODEL__ROI_BOX_HEAD__NUM_FC=1)
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = "FastRCNNConvFCHead", -1
    with pytest.raises(ValueError, match="the detector cannot be built: RuntimeError .* negative dimension -1"):
        build_detector(cfg)


@pytest.mark.parametrize("key", ["RESNETS", "FPN"])
def test_an_unknown_norm_is_named(tmp_path, key: str) -> None:
    cfg = read_config(write_config(tmp_path, TINY), (f"MODEL.{key}.NORM", "BatchNorm")).cfg
    with pytest.raises(ValueError, match=rf"MODEL.{key}.NORM: 'BatchNorm' is no norm; use FrozenBN, BN, SyncBN, GN or"):
        build_detector(cfg)


@pytest.mark.parametrize("kind", [AssertionError, TypeError, RuntimeError, ImportError, ModuleNotFoundError])
def test_whatever_breaks_off_a_step_is_a_finding(tmp_path, monkeypatch, kind) -> None:
    def fail(*_: object) -> None:
        raise kind("sizes differ\nmore lines")

    monkeypatch.setattr(TrainStep, "__call__", fail)
    root, lines = write_rectangles(tmp_path / "rectangles"), []
    given = RunOptions(write_config(tmp_path, TINY), ("DATA.ROOT", str(root)), tmp_path / "run", check=True)
    assert check(given, lines.append) == 1
    assert f"  error    {kind.__name__}: sizes differ; a run would break off there" in lines
