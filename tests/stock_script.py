"""A user's own Detectron2 script with one line of ours: the import, and another MODEL.BACKBONE.NAME."""

import sys

import numpy as np
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultTrainer
from detectron2.structures import BoxMode
from detectron2.utils.env import seed_all_rng
from PIL import Image

import resnet_backbone  # noqa: F401

folder, weights, name = sys.argv[1:]


def shapes():
    rng, records = np.random.default_rng(0), []
    for i in range(4):
        path = f"{folder}/{i}.png"
        Image.fromarray(rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)).save(path)
        box = {"bbox": [10, 10, 40, 40], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
        records.append({"file_name": path, "image_id": i, "height": 64, "width": 80, "annotations": [box]})
    return records


DatasetCatalog.register("shapes", shapes)
MetadataCatalog.get("shapes").thing_classes = ["box"]
cfg = get_cfg()
cfg.MODEL.BACKBONE.NAME = name
cfg.MODEL.WEIGHTS = weights
cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
cfg.MODEL.DEVICE = "cpu"
cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("shapes",), ()
cfg.INPUT.MIN_SIZE_TRAIN, cfg.DATALOADER.NUM_WORKERS = (64,), 0
cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR = 1, 2, 1e-4
cfg.OUTPUT_DIR = f"{folder}/output"
seed_all_rng(0)
trainer = DefaultTrainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()
print("trained", type(trainer.model.backbone).__name__, float(trainer.model.backbone.stem.conv1.weight.sum()))
