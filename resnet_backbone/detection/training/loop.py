"""The fine-tuning loop: one step after another, each drawing its random numbers from seed and iteration alone."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.engine.defaults import create_ddp_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from resnet_backbone.detection.training.batches import Record, Records, seed_of, training_batches
from resnet_backbone.detection.training.checkpoint import LAST, missing_parts, read_run, save_state
from resnet_backbone.detection.training.dense import NormalizerState, same_at_every_call
from resnet_backbone.detection.training.optimizer import autocast_type, enter_schedule, make_optimizer
from resnet_backbone.detection.training.precise_bn import check_norms, precise_norms
from resnet_backbone.engine.best import Best
from resnet_backbone.engine.checkpoint import Part, fill
from resnet_backbone.engine.ema import make_ema
from resnet_backbone.engine.interrupt import GracefulStop, Stopped
from resnet_backbone.engine.journal import Journal
from resnet_backbone.engine.progress import Progress
from resnet_backbone.engine.step import Diverged, DivergedTogether, TrainStep, not_finite
from resnet_backbone.engine.text import some

logger = logging.getLogger(__name__)

PERIOD = 20
"""Iterations between two lines of metrics."""

Evaluate = Callable[[nn.Module], Mapping[str, float]]
Keep = Callable[[nn.Module, Best], None]


class Loop:
    """Trains `model` on `records` by the SOLVER keys of `cfg`.

    Args:
        cfg: frozen; SEED not negative; the schedule already scaled.
        model: a Detectron2 detector, on its device.
        records: as `training_records` gives them.
        output: gets last.pth, metrics.jsonl and TensorBoard's files.
        keep: writes the weights of a model that is the best so far by TEST.BEST_METRIC.
    """

    def __init__(
        self, cfg: CfgNode, model: nn.Module, records: Records, output: Path, keep: Keep | None = None
    ) -> None:
        self.cfg, self.model, self.records, self.output, self._keep = cfg, model, records, output, keep
        check_norms(cfg, model)
        self.optimizer = make_optimizer(cfg, model)
        self.scheduler = build_lr_scheduler(cfg, self.optimizer)
        self._device = torch.device(cfg.MODEL.DEVICE).type
        self.step = TrainStep(
            self.optimizer,
            parts=cfg.SOLVER.ACCUMULATE,
            dtype=autocast_type(cfg),
            device=self._device,
            seed=lambda iteration, part: seed_step(cfg.SEED, iteration, part),
        )
        self.ema = make_ema(model, cfg.SOLVER.EMA.DECAY) if cfg.SOLVER.EMA.ENABLED else None
        self.best = Best(cfg.TEST.BEST_METRIC, "TEST.BEST_METRIC")
        self.parts: dict[str, Part] = {
            "model": model, "optimizer": self.optimizer, "scheduler": self.scheduler, "scaler": self.step.scaler,
            "normalizer": NormalizerState(model), "best": self.best,
        }  # fmt: skip
        if self.ema is not None:
            self.parts["ema"] = self.ema
        self.iteration = 0
        self._tested = 0
        self._latest: tuple[list[Record], float] = ([], 0.0)

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

    def run(self, evaluate: Evaluate | None = None) -> None:
        """All iterations that are left, with checkpoints, metrics and, every TEST.EVAL_PERIOD, an evaluation.

        Args:
            evaluate: gets the model as it is to be tested; gives the numbers in the first process.

        Raises:
            Diverged: a loss, gradient or weight that is no number; the last good checkpoint is kept.
            ValueError: an image that cannot be used.
            Stopped: after a signal, with the state saved.
        """
        total = self.cfg.SOLVER.MAX_ITER
        batches = training_batches(self.cfg, self.records, self.cfg.SEED, self.iteration)
        # Without ids DDP takes the GPU that the model is on: under Slurm it may be number 0 in every process.
        trained = create_ddp_model(self.model, broadcast_buffers=False, device_ids=None)
        progress = Progress(total, "training", done=self.iteration, show=comm.is_main_process())
        with (
            EventStorage(self.iteration) as storage,
            GracefulStop() as stop,
            Journal(self.output, self.iteration, self.cfg.MODEL.DEVICE) as journal,
        ):
            self._evaluate_if_due(evaluate, journal, stop)  # a run that ended between checkpoint and evaluation
            trained.train()
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
                if stopping or self._due(self.cfg.SOLVER.CHECKPOINT_PERIOD) or self._evaluation_due(evaluate):
                    self.save()
                self._leave_if(stopping, progress)
                if self._evaluate_if_due(evaluate, journal, stop, progress):
                    self._leave_if(self._agreed(stop.asked), progress)
                    trained.train()
                storage.step()
                if self.iteration >= total:
                    break
            self.save()
            self._leave_if(self._agreed(stop.asked), progress)

    def save(self) -> None:
        """Writes last.pth, from the first process; all have to call it.

        Raises:
            Diverged: the weights are no numbers; the older file stays.
        """
        wrong = not_finite(self.model.named_parameters())
        if wrong:
            said = f"no numbers any more in the weights of {some(wrong, 3)}"
            raise self._diverged(said, self.iteration, comm.all_gather(self._files()))
        if comm.is_main_process():
            save_state(self.output / LAST, self.parts, self.iteration, self.cfg, self._tested)

    @contextlib.contextmanager
    def tested(self) -> Iterator[nn.Module]:
        """The model as it is tested and written: averaged, with precise batch norms, where the config says so."""
        model = self.model if self.ema is None else self.ema.module
        with precise_norms(self.cfg, model, self.records, self.iteration):
            if comm.get_world_size() > 1:
                # Each process has running statistics of its own; all test with those that will be written.
                for buffer in model.buffers():
                    torch.distributed.broadcast(buffer, 0)
            yield model

    def judge(self, model: nn.Module, numbers: Mapping[str, float]) -> bool:
        """Whether `model` is the best so far by TEST.BEST_METRIC, and then it is kept; False but in the first process.

        Raises:
            UnknownMetric: the evaluation has no such one.
        """
        if not self.best.metric or not comm.is_main_process():
            return False
        before = self.best.state_dict()
        better = self.best.improved(numbers, self.iteration)
        found = f"{self.best.metric} {numbers[self.best.metric]:.2f} after {self.iteration} iterations"
        if better:
            logger.info("%s: the best so far", found)
            if self._keep is not None:
                self._keep(model, self.best)
        elif before["value"] is not None:
            logger.info("%s: not better than %.2f after %d", found, before["value"], before["iteration"])
        else:
            logger.info("%s: not kept", found)
        return better

    def _evaluation_due(self, evaluate: Evaluate | None) -> bool:
        """The one after the last iteration is not of this loop."""
        due = self._due(self.cfg.TEST.EVAL_PERIOD) and 0 < self.iteration < self.cfg.SOLVER.MAX_ITER
        return evaluate is not None and due and self._tested != self.iteration

    def _evaluate_if_due(
        self, evaluate: Evaluate | None, journal: Journal, stop: GracefulStop, progress: Progress | None = None
    ) -> bool:
        """Whether an evaluation was made, of what is saved; it is saved with the evaluation then."""
        if evaluate is None or not self._evaluation_due(evaluate):
            return False
        if progress is not None:
            progress.close()
        comm.synchronize()  # whoever is interrupted ends the others, the first process in its save too
        with self.tested() as model:
            with stop.at_once(self._stopped()):
                numbers = evaluate(model)
            journal.evaluated(self.iteration, numbers)
            self.judge(model, numbers)
        self._tested = self.iteration
        self.save()
        return True

    def _leave_if(self, stopping: bool, progress: Progress) -> None:
        """After a save."""
        if stopping:
            progress.close()
            comm.synchronize()  # the first process is still saving, and a second signal must not end it
            raise Stopped(self._stopped())

    def _stopped(self) -> str:
        where = f"{self.iteration} of {self.cfg.SOLVER.MAX_ITER}; saved in {self.output / LAST}"
        return f"stopped after iteration {where}; go on with --resume"

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
        self._latest = batch, self.optimizer.param_groups[0]["lr"]
        try:
            with same_at_every_call(self._device):
                losses = self.step(trained, batch, self.iteration)
        except DivergedTogether as error:  # whose images they were, is known to none alone
            raise self._diverged(str(error), self.iteration + 1, comm.all_gather(self._files())) from None
        except Diverged as error:
            raise self._diverged(str(error), self.iteration + 1, [self._files()]) from None
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        return losses

    def _files(self) -> list[str]:
        return [str(one["file_name"]) for one in self._latest[0]]

    def _diverged(self, what: str, iteration: int, of_processes: Sequence[Sequence[str]]) -> Diverged:
        rate, files = self._latest[1], ", ".join(name for names in of_processes for name in names)
        saved = f"; the last checkpoint is kept: {self.output / LAST}" if (self.output / LAST).exists() else ""
        return Diverged(
            f"{what} at iteration {iteration} (rate {rate:g}, images {files}): "
            f"lower SOLVER.BASE_LR, lengthen SOLVER.WARMUP_ITERS or look at the images{saved}"
        )


def seed_step(seed: int, iteration: int, part: int = 0) -> None:
    """Makes what a step draws (regions to train on, dropped paths) depend on these and the process alone.

    Args:
        part: which micro-batch of the iteration.
    """
    torch.manual_seed(seed_of(seed, comm.get_rank(), iteration, 1 + part))
