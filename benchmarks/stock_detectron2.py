"""Stock Detectron2 on the settings of a run of ours: its model, trainer, optimiser, schedule and hooks.

python -m benchmarks.stock_detectron2 --config configs/faster_rcnn_R50_bccd.yaml --output runs/stock KEY VALUE ...

Shared with ours, so that the two can be compared step by step: the first tensors (ours are copied, names and shapes
are the same), the order of the images with what is drawn for each, the random numbers of every step, and the
evaluator. Everything else is Detectron2's own.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from detectron2.data import DatasetMapper
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.modeling import build_model

from resnet_backbone.detection.evaluator import DetectionEvaluator
from resnet_backbone.detection.training.batches import training_batches, training_records
from resnet_backbone.detection.training.loop import seed_step
from resnet_backbone.detection.training.settle import RunOptions, settle
from resnet_backbone.detection.training.testing import test
from resnet_backbone.engine.jsonlog import JsonLines
from resnet_backbone.weights.load import load_weights

STOCK = {
    "build_residual_backbone": "build_resnet_backbone",
    "build_residual_fpn_backbone": "build_resnet_fpn_backbone",
    "build_residual_retinanet_fpn_backbone": "build_retinanet_resnet_fpn_backbone",
}


class StockTrainer(DefaultTrainer):
    """Detectron2's trainer with our order of data, and every loss written down."""

    @classmethod
    def build_train_loader(cls, cfg: Any) -> Iterator[list[dict[str, Any]]]:
        return training_batches(cfg, training_records(cfg), cfg.SEED, mapper=DatasetMapper(cfg, True))

    @classmethod
    def build_evaluator(cls, cfg: Any, dataset_name: str) -> DetectionEvaluator:
        return DetectionEvaluator(dataset_name)


class SameSteps(HookBase):
    """Seeds every step as our loop does, and writes its losses."""

    def __init__(self, seed: int, output: Path) -> None:
        self._seed = seed
        self._lines = JsonLines(output / "losses.jsonl")

    def before_step(self) -> None:
        seed_step(self._seed, self.trainer.iter)

    def after_step(self) -> None:
        latest = self.trainer.storage.latest()
        self._lines.write(iteration=self.trainer.iter, **{k: v for k, (v, _) in latest.items() if "loss" in k})


def stock_model(cfg: Any) -> torch.nn.Module:
    """Detectron2's own model with the tensors that ours starts from."""
    ours = cfg.clone()
    ours.defrost()
    ours.MODEL.BACKBONE.NAME = {v: k for k, v in STOCK.items()}[cfg.MODEL.BACKBONE.NAME]
    torch.manual_seed(cfg.SEED)
    start = build_model(ours)
    load_weights(start, cfg.MODEL.WEIGHTS, fine_tune=True)
    model = build_model(cfg)
    model.load_state_dict(start.state_dict(), strict=True)
    return model


def main() -> None:
    """Trains and tests; leaves losses.jsonl and evaluation/ in the output folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("options", nargs="*")
    arguments = parser.parse_intermixed_args()
    ready = settle(RunOptions(arguments.config, tuple(arguments.options), arguments.output, overwrite=True))
    cfg = ready.cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.NAME = STOCK[cfg.MODEL.BACKBONE.NAME]
    cfg.freeze()
    StockTrainer.build_model = classmethod(lambda cls, cfg: stock_model(cfg))  # type: ignore[method-assign]
    trainer = StockTrainer(cfg)
    trainer.register_hooks([SameSteps(cfg.SEED, ready.output)])
    logging.getLogger("resnet_backbone").info("stock Detectron2, %d iterations", cfg.SOLVER.MAX_ITER)
    trainer.train()
    test(cfg, trainer.model, ready.output)


if __name__ == "__main__":
    main()
