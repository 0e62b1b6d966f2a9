"""The fine-tuning loop: one step after another, each drawing its random numbers from seed and iteration alone."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine.defaults import create_ddp_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils.events import EventStorage
from torch import nn

from resnet_backbone.detection.training.batches import Record, Records, training_batches
from resnet_backbone.detection.training.checkpoint import missing_parts, read_run, save_state
from resnet_backbone.detection.training.dense import NormalizerState, same_at_every_call
from resnet_backbone.detection.training.optimizer import autocast_type, enter_schedule, make_optimizer
from resnet_backbone.detection.training.precise_bn import check_norms, precise_norms
from resnet_backbone.engine import group, loop
from resnet_backbone.engine.best import Best
from resnet_backbone.engine.checkpoint import fill
from resnet_backbone.engine.ema import make_ema
from resnet_backbone.engine.loop import LAST, Keep
from resnet_backbone.engine.recent import Files
from resnet_backbone.engine.seeds import seed_of
from resnet_backbone.engine.step import TrainStep

logger = logging.getLogger(__name__)


class Loop(loop.Loop):
    """Trains `model` on `records` by the SOLVER keys of `cfg`.

    Args:
        cfg: frozen; SEED not negative; the schedule already scaled.
        model: a Detectron2 detector, on its device.
        records: as `training_records` gives them.
        output: gets last.pth, metrics.jsonl and TensorBoard's files.
        keep: writes the weights of a model that is the best so far by TEST.BEST_METRIC.
    """

    diverged_remedy = "lower SOLVER.BASE_LR, lengthen SOLVER.WARMUP_ITERS or look at the images"

    def __init__(
        self, cfg: CfgNode, model: nn.Module, records: Records, output: Path, keep: Keep | None = None
    ) -> None:
        self.cfg, self.records = cfg, records
        check_norms(cfg, model)
        optimizer = make_optimizer(cfg, model)
        self._device = torch.device(cfg.MODEL.DEVICE).type
        step = TrainStep(
            optimizer,
            parts=cfg.SOLVER.ACCUMULATE,
            dtype=autocast_type(cfg),
            device=self._device,
            seed=lambda iteration, part: seed_step(cfg.SEED, iteration, part),
        )
        super().__init__(
            model,
            optimizer,
            build_lr_scheduler(cfg, optimizer),
            step,
            output,
            total=cfg.SOLVER.MAX_ITER,
            save_every=cfg.SOLVER.CHECKPOINT_PERIOD,
            test_every=cfg.TEST.EVAL_PERIOD,
            device=cfg.MODEL.DEVICE,
            best=Best(cfg.TEST.BEST_METRIC, "TEST.BEST_METRIC"),
            ema=make_ema(model, cfg.SOLVER.EMA.DECAY) if cfg.SOLVER.EMA.ENABLED else None,
            keep=keep,
            parts={"normalizer": NormalizerState(model)},
        )
        self._storage: EventStorage | None = None

    def resume(self, *, new_schedule: bool = False) -> None:
        """Takes up the state that `output` holds, if any.

        Args:
            new_schedule: the rate follows the schedule of `cfg` from here on, whatever it was before.

        Raises:
            ValueError: the state belongs to another run.
        """
        path = self.output / LAST
        if not path.exists():
            return
        state, changed = read_run(path, self.cfg, new_schedule=new_schedule)
        self.iteration, self._tested = state["iteration"], int(state.get("tested", 0))
        without = missing_parts(state) | ({"scheduler"} if changed else set())
        fill({name: part for name, part in self.parts.items() if name not in without}, state)
        logger.info("resumed from %s after %d iterations", path, self.iteration)
        if changed:
            enter_schedule(self.optimizer, self.scheduler, self.iteration)
            for key, (old, new) in changed.items():
                logger.info("from here on %s %s instead of %s", key, new, old)
            self.save()

    def batches(self) -> Iterator[list[Record]]:
        """Of Detectron2's model inputs."""
        return training_batches(self.cfg, self.records, self.cfg.SEED, self.iteration)

    def files_of(self, batch: list[Record]) -> Files:
        """As the records name them."""
        names = [str(one["file_name"]) for one in batch]
        return lambda: names

    def write_state(self, path: Path) -> None:
        """With the config."""
        save_state(path, self.parts, self.iteration, self.cfg, self._tested)

    def wrapped(self) -> nn.Module:
        """In `DistributedDataParallel` where there are several processes."""
        # Without ids DDP takes the GPU that the model is on: under Slurm it may be number 0 in every process.
        made: nn.Module = create_ddp_model(self.model, broadcast_buffers=False, device_ids=None)
        return made

    def entered(self) -> contextlib.AbstractContextManager[Any]:
        """Detectron2's models need an event storage."""
        self._storage = EventStorage(self.iteration)
        return self._storage

    def statistics(self, model: nn.Module) -> contextlib.AbstractContextManager[Any]:
        """TEST.PRECISE_BN."""
        return precise_norms(self.cfg, model, self.records, self.iteration)

    def forward(self) -> contextlib.AbstractContextManager[Any]:
        """See `same_at_every_call`."""
        return same_at_every_call(self._device)

    def measured(self) -> dict[str, float]:
        """What the model put into its event storage."""
        latest = self._storage.latest() if self._storage is not None else {}
        return {name: value for name, (value, _) in latest.items() if "/" in name}

    def advance(self) -> None:
        """The event storage counts too."""
        super().advance()
        if self._storage is not None:
            self._storage.step()


def seed_step(seed: int, iteration: int, part: int = 0) -> None:
    """Makes what a step draws (regions to train on, dropped paths) depend on these and the process alone.

    Args:
        part: which micro-batch of the iteration.
    """
    torch.manual_seed(seed_of(seed, group.rank(), iteration, 1 + part))
