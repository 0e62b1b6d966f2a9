"""Fine-tuning on real photographs: the first losses are those of stock Detectron2's model, trainer and schedule."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from resnet_backbone.detection.training.batches import training_records
from resnet_backbone.detection.training.loop import Loop
from resnet_backbone.detection.training.settle import RunOptions, settle
from resnet_backbone.engine.jsonlog import read_json_lines
from resnet_backbone.weights.load import load_weights

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


def test_the_first_twenty_losses_are_stock_detectron2s(real_data, tmp_path, monkeypatch):
    from benchmarks.stock_detectron2 import STOCK, SameSteps, StockTrainer, stock_model

    monkeypatch.setenv("DETECTRON2_DATASETS", str(real_data))
    pairs = {
        "MODEL.WEIGHTS": real_data / "weights" / "resnet50_pqf_fp16.pth.xz", "INPUT.MIN_SIZE_TRAIN": 80,
        "SOLVER.MAX_ITER": 20, "SOLVER.WARMUP_ITERS": 5, "SOLVER.STEPS": "(15,)", "DATALOADER.NUM_WORKERS": 0,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64, "MODEL.RPN.POST_NMS_TOPK_TRAIN": 200, "MODEL.DEVICE": "cpu",
        "INPUT.MAPPER_TRAIN": "detectron2",
    }  # fmt: skip
    overrides = [str(part) for pair in pairs.items() for part in pair]
    config = ROOT / "configs" / "faster_rcnn_R50_bccd.yaml"

    ready = settle(RunOptions(config, overrides, tmp_path / "ours"))
    torch.manual_seed(ready.cfg.SEED)
    model = build_model(ready.cfg)
    load_weights(model, ready.cfg.MODEL.WEIGHTS, fine_tune=True)
    loop = Loop(ready.cfg, model, training_records(ready.cfg), ready.output)
    ours = []
    step = loop._step
    monkeypatch.setattr(loop, "_step", lambda *arguments: ours.append(step(*arguments)) or ours[-1])
    loop.run()

    cfg = settle(RunOptions(config, overrides, tmp_path / "stock")).cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.NAME = STOCK[cfg.MODEL.BACKBONE.NAME]
    monkeypatch.setattr(StockTrainer, "build_model", classmethod(lambda cls, cfg: stock_model(cfg)))
    trainer = StockTrainer(cfg)
    trainer.register_hooks([SameSteps(cfg.SEED, tmp_path / "stock")])
    monkeypatch.setattr(trainer, "test", lambda *_: {})
    trainer.train()

    stock = list(read_json_lines(tmp_path / "stock" / "losses.jsonl"))
    assert len(ours) == len(stock) == 20
    for number, (mine, theirs) in enumerate(zip(ours, stock)):
        for name, value in mine.items():
            assert value == pytest.approx(theirs[name], rel=1e-4), (number, name)
