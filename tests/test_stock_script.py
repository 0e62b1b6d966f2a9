"""Inside a user's own script and with Detectron2's own checkpointer: what loads, and what is refused."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone, build_model
from test_weights_load import caffe2_file, saved

import resnet_backbone as rb
from resnet_backbone.detection.config import default_config
from resnet_backbone.weights import sources
from resnet_backbone.weights.files import write_weights
from resnet_backbone.weights.record import WeightRecord


def run_script(folder, weights, name):
    command = [sys.executable, str(Path(__file__).with_name("stock_script.py")), str(folder), str(weights), name]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_stock_script_trains_with_another_name_alone(tmp_path):
    weights = caffe2_file(tmp_path / "R-50.pkl")
    done = run_script(tmp_path, weights, "build_residual_backbone")
    assert done.returncode == 0, done.stderr
    assert "trained ResidualBackbone" in done.stdout
    assert "affine only" in done.stdout + done.stderr


def test_stock_script_refuses_what_the_stock_checkpointer_only_warns_of(tmp_path):
    weights = saved(torchvision.models.resnet50(), tmp_path / "w.pth")
    done = run_script(tmp_path, weights, "build_residual_backbone")
    assert done.returncode != 0
    assert "WeightsError" in done.stderr and "resnet_backbone.prepare(cfg)" in done.stderr
    (tmp_path / "R-34.pth").write_bytes(saved(torchvision.models.resnet34(), tmp_path / "v.pth").read_bytes())
    stock = run_script(tmp_path, tmp_path / "R-34.pth", "build_resnet_backbone")
    assert stock.returncode == 0 and "trained ResNet" in stock.stdout  # what this project is against


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torchvision's ResNet-50 as if downloaded."""
    path = saved(torchvision.models.resnet50(), tmp_path / "hub.pth")
    monkeypatch.setattr(sources, "fetch", lambda *_, **__: path)
    return torch.load(path, weights_only=True)


def fpn_config(weights):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_residual_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_BOX_HEAD.NAME = "StandardROIHeads", "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", str(weights)
    return cfg


def test_torchvision_scheme_through_the_stock_checkpointer(hub):
    cfg = fpn_config("torchvision://ResNet50_Weights.IMAGENET1K_V2")
    record = rb.prepare(cfg)
    assert cfg.INPUT.FORMAT == "RGB" and cfg.MODEL.RESNETS.STRIDE_IN_1X1 is False
    assert pytest.approx([123.675, 116.28, 103.53]) == cfg.MODEL.PIXEL_MEAN
    assert pytest.approx([58.395, 57.12, 57.375]) == cfg.MODEL.PIXEL_STD and record.top1 == pytest.approx(80.858)
    model = build_model(cfg)
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    bottom_up = model.backbone.bottom_up
    assert torch.equal(bottom_up.stem.conv1.weight, hub["conv1.weight"])
    assert torch.equal(bottom_up.res5[2].conv3.norm.running_var, hub["layer4.2.bn3.running_var"])


def test_our_loader_fills_a_detector_and_says_what_stays_fresh(hub, tmp_path):
    cfg = fpn_config("torchvision://ResNet50_Weights.IMAGENET1K_V2")
    rb.prepare(cfg)
    model = build_model(cfg)
    with pytest.raises(rb.WeightsError, match="heads would stay random"):
        rb.load_weights(model, cfg.MODEL.WEIGHTS)
    report = rb.load_weights(model, cfg.MODEL.WEIGHTS, fine_tune=True)
    assert "265 of 265 backbone tensors" in str(report) and "tensors of neck and heads" in str(report)
    path = write_weights(tmp_path / "detector.safetensors", model.state_dict(), WeightRecord("detectron2", "a run"))
    other = build_model(cfg)
    assert rb.load_weights(other, path).matched == 265
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    with pytest.raises(rb.WeightsError, match="misshapen"):
        rb.load_weights(build_model(cfg), path)
    assert "another number of classes" in str(rb.load_weights(build_model(cfg), path, fine_tune=True))


def test_c4_head_is_filled_from_a_classifier(hub):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.ROI_HEADS.NAME = "build_residual_backbone", "ResidualRes5ROIHeads"
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", "torchvision://ResNet50_Weights.IMAGENET1K_V1"
    rb.prepare(cfg)
    model = build_model(cfg)
    rb.load_weights(model, cfg.MODEL.WEIGHTS, fine_tune=True)
    assert torch.equal(model.roi_heads.res5[1].conv2.weight, hub["layer4.1.conv2.weight"])


def test_prepare_refuses_contradictions_and_names_both(hub):
    cfg = fpn_config("torchvision://ResNet50_Weights.IMAGENET1K_V2")
    cfg.MODEL.PIXEL_STD = [57.0, 57.0, 57.0]
    with pytest.raises(rb.WeightsError, match=r"MODEL.PIXEL_STD is \[57.0, 57.0, 57.0\].*58.39"):
        rb.prepare(cfg)
    cfg = fpn_config("torchvision://ResNet50_Weights.IMAGENET1K_V2")
    with pytest.raises(rb.WeightsError, match="INPUT.FORMAT is BGR.*RGB"):
        rb.prepare(cfg, explicit=["INPUT.FORMAT"])
    cfg = fpn_config("")
    with pytest.raises(rb.WeightsError, match="FrozenBN"):
        rb.prepare(cfg)


def test_prepare_leaves_msra_defaults_and_frozen_configs_as_they_are():
    cfg = fpn_config("detectron2://ImageNetPretrained/MSRA/R-50.pkl")
    cfg.freeze()
    before = cfg.dump()
    rb.prepare(cfg)
    assert cfg.dump() == before and cfg.is_frozen()


def test_builder_refuses_a_stock_config_with_other_weights(hub):
    with pytest.raises(rb.WeightsError, match="prepare"):
        build_backbone(fpn_config("torchvision://ResNet50_Weights.IMAGENET1K_V2"))


def test_record_of_a_file_reaches_the_config(tmp_path):
    net = rb.build("resnet18", num_classes=3)
    record = WeightRecord("resnet_backbone", "x", "resnet18", None, "RGB", (10.0, 20.0, 30.0), (2.0, 3.0, 4.0))
    path = write_weights(tmp_path / "net.safetensors", net.state_dict(), record)
    cfg = fpn_config(path)
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    assert dataclasses.replace(rb.prepare(cfg), sha256=None) == record
    assert cfg.MODEL.PIXEL_MEAN == [10.0, 20.0, 30.0]
    build_model(cfg)


@pytest.mark.parametrize("stock", [True, False], ids=["get_cfg", "default_config"])
def test_epsilon_and_shortcut_of_a_record_reach_the_network(tmp_path, stock):
    net = rb.build("resnet18", num_classes=3, shortcut="A", norm_eps=1e-3)
    record = WeightRecord("resnet_backbone", "x", "resnet18", None, shortcut="A", eps=1e-3)
    path = write_weights(tmp_path / "net.safetensors", net.state_dict(), record)
    cfg = fpn_config(path) if stock else default_config()
    if not stock:
        cfg.merge_from_other_cfg(fpn_config(path))
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    assert ("RESIDUAL" in cfg.MODEL) is not stock
    rb.prepare(cfg)
    model = build_model(cfg)
    assert model.backbone.bottom_up.config.shortcut == "A" and model.backbone.bottom_up.stem.conv1.norm.eps == 1e-3
    assert "102" not in str(rb.load_weights(model, path, fine_tune=True))  # option A has no projections
    if not stock:
        cfg.MODEL.RESIDUAL.NORM_EPS = 0.5
        with pytest.raises(rb.WeightsError, match="MODEL.RESIDUAL.NORM_EPS is 0.5, but the weights .* expect 0.001"):
            rb.prepare(cfg)
