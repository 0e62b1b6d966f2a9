"""A small detector that has run, pictures and films for it, and how tests start tools/predict.py."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from resnet_backbone.detection.config import default_config
from resnet_backbone.detection.training.checkpoint import write_final

TOOL = Path(__file__).parents[1] / "tools" / "predict.py"


def write_run(folder: Path) -> Path:
    """A tiny detector with masks and random weights that has run: it finds a lot, all of it nonsense."""
    cfg = default_config()
    cfg.MODEL.BACKBONE.NAME = "build_residual_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.NORM = 18, "BN"
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 30
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.IN_FEATURES = "StandardROIHeads", ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.NUM_FC = "FastRCNNConvFCHead", 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM, cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 32, 7
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV, cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 1, 16
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [120.0, 110.0, 100.0], [58.0, 57.0, 56.0]
    cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = "RGB", 96, 128
    cfg.MODEL.DEVICE = "cpu"
    cfg.TEST.DETECTIONS_PER_IMAGE, cfg.TEST.PICTURE_THRESH = 10, 0.3
    cfg.DATA.CLASSES, cfg.DATA.CATEGORY_IDS = ["ape", "bee", "cow"], [3, 5, 90]
    torch.manual_seed(0)
    model = build_model(cfg)
    write_final(folder / "model_final.pth", model, cfg, None, "tiny.yaml")
    (folder / "config.yaml").write_text(cfg.dump())
    return folder


def write_photos(folder: Path) -> Path:
    """A colour JPEG that its EXIF data turn, a grey PNG, a palette GIF, and one that breaks off."""
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (8, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels).save(folder / "turned.JPG", quality=95, exif=turned)
    Image.fromarray(pixels[:, :, 0]).save(folder / "grey.png")
    Image.fromarray(pixels).convert("P").save(folder / "palette.gif")
    whole = (folder / "turned.JPG").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no image")
    return folder


def film(path, frames=7, size=(64, 48)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, size)
    for number in range(frames):
        writer.write(np.full((size[1], size[0], 3), 30 * number, np.uint8))
    writer.release()
    return path


def contents(folder):
    described = json.loads((folder / "images.json").read_text())
    return described, json.loads((folder / "coco_instances_results.json").read_text())


def tool(monkeypatch, *words):
    """The exit code."""
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOL), run_name="__main__")
    return ended.value.code
