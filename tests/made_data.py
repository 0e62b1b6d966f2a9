"""Small data sets of drawn rectangles, and a small detector's config, for tests that train."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

SMALL = """
MODEL:
  BACKBONE: {NAME: build_residual_fpn_backbone, FREEZE_AT: 0}
  RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64, OUT_FEATURES: [res2, res3, res4, res5], NORM: BN}
  FPN: {IN_FEATURES: [res2, res3, res4, res5], OUT_CHANNELS: 16}
  ANCHOR_GENERATOR: {SIZES: [[8], [16], [32], [64], [128]]}
  RPN: {IN_FEATURES: [p2, p3, p4, p5, p6], POST_NMS_TOPK_TRAIN: 50, POST_NMS_TOPK_TEST: 20}
  ROI_HEADS: {NAME: StandardROIHeads, IN_FEATURES: [p2, p3, p4, p5], BATCH_SIZE_PER_IMAGE: 16}
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_FC: 1, FC_DIM: 16, POOLER_RESOLUTION: 3}
  DEVICE: cpu
DATA: {FORMAT: coco, TRAIN: train.json, TEST: test.json, TRAIN_IMAGES: images}
INPUT: {MIN_SIZE_TRAIN: [64], MIN_SIZE_TEST: 64}
DATALOADER: {NUM_WORKERS: 0}
SOLVER: {IMS_PER_BATCH: 2, BASE_LR: 0.01, MAX_ITER: 4, WARMUP_ITERS: 2, STEPS: [], CHECKPOINT_PERIOD: 2}
TEST: {PICTURES: 2}
SEED: 5
"""

TINY = SMALL.replace("RES2_OUT_CHANNELS: 64", "STEM_OUT_CHANNELS: 8, RES2_OUT_CHANNELS: 8")
"""Where the network's width does not matter: a third of the time."""


def write_rectangles(root: Path, images: int = 6, seed: int = 0) -> Path:
    """`root`/images and two COCO files of two classes, "wide" and "tall"; every image has both."""
    rng = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    entries, annotations = [], []
    for number in range(1, images + 1):
        height, width = (64, 80) if number % 3 else (80, 64)
        image = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
        for category, (w, h) in ((1, (30, 12)), (2, (10, 32))):
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            image[y : y + h, x : x + w] = rng.integers(120, 255, 3)
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": category, "bbox": [x, y, w, h],
                 "area": w * h, "iscrowd": 0, "segmentation": [polygon]}
            )  # fmt: skip
        cv2.imwrite(str(root / "images" / f"{number}.png"), image)
        entries.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
    categories = [{"id": 1, "name": "wide"}, {"id": 2, "name": "tall"}]
    for name, chosen in (("train", entries[: images - 2]), ("test", entries[images - 2 :])):
        ids = {e["id"] for e in chosen}
        content = {"images": chosen, "categories": categories}
        content["annotations"] = [a for a in annotations if a["image_id"] in ids]
        (root / f"{name}.json").write_text(json.dumps(content))
    return root


def write_config(folder: Path, text: str = SMALL) -> Path:
    """`folder`/small.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.yaml").write_text(text)
    return folder / "small.yaml"
