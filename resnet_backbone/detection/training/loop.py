"""The fine-tuning loop: one step after another, each drawing its random numbers from seed and iteration alone."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine.defaults import create_ddp_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from resnet_backbone.detection.training.batches import Record, seed_of, training_batches
from resnet_backbone.detection.training.checkpoint import LAST, load_state, save_state
from resnet_backbone.detection.training.journal import Journal
from resnet_backbone.engine.interrupt import GracefulStop, Stopped
from resnet_backbone.engine.progress import Progress

logger = logging.getLogger(__name__)

PERIOD = 20
"""Iterations between two lines of metrics."""


class Loop:
    """Trains `model` on `records` by the SOLVER keys of `cfg`.

    Args:
        cfg: frozen; SEED not negative; the schedule already scaled.
        model: a Detectron2 detector, on its device.
        records: as `training_records` gives them.
        output: gets last.pth, metrics.jsonl and TensorBoard's files.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module, records: list[Record], output: Path) -> None:
        self.cfg, self.model, self.records, self.output = cfg, model, records, output
        self.optimizer = make_optimizer(cfg, model)
        self.scheduler = build_lr_scheduler(cfg, self.optimizer)
        amp = cfg.SOLVER.AMP
        self.dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[amp.DTYPE] if amp.ENABLED else None
        device = torch.device(cfg.MODEL.DEVICE).type
        self.scaler = torch.amp.GradScaler(device, enabled=self.dtype is torch.float16)  # type: ignore[attr-defined]
        self.parts = {"model": model, "optimizer": self.optimizer, "scheduler": self.scheduler, "scaler": self.scaler}
        self.iteration = 0

    def resume(self) -> None:
        """Takes up the state that `output` holds, if any.

        Raises:
            ValueError: it belongs to another run.
        """
        path = self.output / LAST
        if path.exists():
            self.iteration = load_state(path, self.parts, self.cfg)
            logger.info("resumed from %s after %d iterations", path, self.iteration)

    def run(self, evaluate: Callable[[], dict[str, float]] | None = None) -> None:
        """All iterations that are left, with checkpoints, metrics and, every TEST.EVAL_PERIOD, an evaluation.

        Raises:
            ValueError: a loss that is no number, or an image that cannot be used.
            Stopped: after a signal, with the state saved.
        """
        total = self.cfg.SOLVER.MAX_ITER
        batches = training_batches(self.cfg, self.records, self.cfg.SEED, self.iteration)
        # Without ids DDP takes the GPU that the model is on: under Slurm it may be number 0 in every process.
        trained = create_ddp_model(self.model, broadcast_buffers=False, device_ids=None)
        trained.train()
        progress = Progress(total, "training", done=self.iteration, show=comm.is_main_process())
        with (
            EventStorage(self.iteration) as storage,
            GracefulStop() as stop,
            Journal(self.output, self.iteration) as journal,
        ):
            for batch in progress.waiting(batches if self.iteration < total else ()):
                began, rate = time.monotonic(), self.optimizer.param_groups[0]["lr"]
                losses = self._step(trained, batch)
                journal.add(losses, rate, time.monotonic() - began)
                self.scheduler.step()
                self.iteration += 1
                progress.step(loss=sum(losses.values()), rate=rate)
                if self.iteration % PERIOD == 0 or self.iteration == total:
                    journal.write(self.iteration, storage.latest(), progress)
                stopping = self._agreed(stop.asked)
                if self._due(self.cfg.SOLVER.CHECKPOINT_PERIOD) or stopping:
                    self.save()
                if stopping:
                    progress.close()
                    where = f"{self.iteration} of {total}; saved in {self.output / LAST}"
                    raise Stopped(f"stopped after iteration {where}; go on with --resume")
                if evaluate is not None and self._due(self.cfg.TEST.EVAL_PERIOD) and self.iteration < total:
                    progress.close()
                    journal.evaluated(self.iteration, evaluate())
                    trained.train()
                storage.step()
                if self.iteration >= total:
                    break
        self.save()

    def save(self) -> None:
        """Writes last.pth, from the first process."""
        if comm.is_main_process():
            save_state(self.output / LAST, self.parts, self.iteration, self.cfg)

    def _agreed(self, asked: bool) -> bool:
        """Whether any process was asked to stop: one that stops alone leaves the others waiting."""
        if comm.get_world_size() == 1:
            return asked
        flag = torch.tensor(int(asked), device=self.cfg.MODEL.DEVICE)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag)

    def _due(self, period: int) -> bool:
        return period > 0 and self.iteration % period == 0

    def _step(self, trained: nn.Module, batch: list[Record]) -> dict[str, float]:
        seed_step(self.cfg.SEED, self.iteration)
        try:
            with self._autocast():
                losses: dict[str, torch.Tensor] = trained(batch)
                total = torch.stack([loss.float() for loss in losses.values()]).sum()
        except FloatingPointError:  # Detectron2's own check of proposals
            raise self._diverged(batch, "the proposals are no numbers") from None
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        if not math.isfinite(sum(values.values())):
            raise self._diverged(batch, f"the loss is {values}")
        self.optimizer.zero_grad()
        self.scaler.scale(total).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return values

    def _diverged(self, batch: list[Record], what: str) -> ValueError:
        files = ", ".join(str(one["file_name"]) for one in batch)
        saved = f"; the last checkpoint is kept: {self.output / LAST}" if (self.output / LAST).exists() else ""
        return ValueError(
            f"{what} at iteration {self.iteration} (rate {self.optimizer.param_groups[0]['lr']:g}, images {files}): "
            f"lower SOLVER.BASE_LR, lengthen SOLVER.WARMUP_ITERS or look at the images{saved}"
        )

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self.cfg.MODEL.DEVICE).type, self.dtype)


def seed_step(seed: int, iteration: int) -> None:
    """Makes what a step draws (regions to train on, dropped paths) depend on these two and the process alone."""
    torch.manual_seed(seed_of(seed, comm.get_rank(), iteration, 1))


def make_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD as Detectron2 builds it, or AdamW with the same groups, weight decays and clipping.

    Raises:
        ValueError: SOLVER.OPTIMIZER or SOLVER.AMP.DTYPE names something else, or fp16 without a GPU.
    """
    solver = cfg.SOLVER
    if solver.AMP.ENABLED and solver.AMP.DTYPE not in ("bf16", "fp16"):
        raise ValueError(f"SOLVER.AMP.DTYPE: {solver.AMP.DTYPE!r} is neither 'bf16' nor 'fp16'")
    if solver.AMP.ENABLED and solver.AMP.DTYPE == "fp16" and not str(cfg.MODEL.DEVICE).startswith("cuda"):
        raise ValueError("SOLVER.AMP.DTYPE: 'fp16' needs a GPU; use 'bf16'")
    if solver.OPTIMIZER == "SGD":
        optimizer: torch.optim.Optimizer = build_optimizer(cfg, model)
        return optimizer
    if solver.OPTIMIZER != "AdamW":
        raise ValueError(f"SOLVER.OPTIMIZER: {solver.OPTIMIZER!r} is neither 'SGD' nor 'AdamW'")
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    kind: Any = maybe_add_gradient_clipping(cfg, torch.optim.AdamW)
    made: torch.optim.Optimizer = kind(groups, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY)
    return made
