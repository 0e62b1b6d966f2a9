"""The training loop of fine-tuning and pretraining: steps, checkpoints, evaluations, and an orderly end."""

from __future__ import annotations

import contextlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from resnet_backbone.engine import group
from resnet_backbone.engine.best import Best
from resnet_backbone.engine.checkpoint import Part
from resnet_backbone.engine.interrupt import GracefulStop, Stopped
from resnet_backbone.engine.journal import Journal
from resnet_backbone.engine.progress import Progress
from resnet_backbone.engine.recent import Files, Recent
from resnet_backbone.engine.step import DivergedTogether, TrainStep, not_finite
from resnet_backbone.engine.text import some

logger = logging.getLogger(__name__)

LAST = "last.pth"
PERIOD = 20
"""Iterations between two lines of metrics."""

Evaluate = Callable[[nn.Module], Mapping[str, float]]
Keep = Callable[[nn.Module, Best], None]


class Loop(ABC):
    """Trains `model` until iteration `total`; a trainer says what a batch is and what a checkpoint holds.

    Args:
        model: on its device, not wrapped.
        optimizer, scheduler: of the model; the scheduler's `step()` sets the rate of the next iteration.
        step: changes the weights once.
        output: gets last.pth, metrics.jsonl and TensorBoard's files.
        total: iterations of the whole run.
        save_every, test_every: iterations; 0 for never (but at the end).
        device: the model's.
        wandb: see `Journal`.
        ema: the average of the weights, which is then tested and written.
        best: the metric by which a model is kept.
        keep: writes the weights of a model that is the best so far.
        parts: what has a state besides.

    Attributes:
        iteration: how many are done.
        diverged_remedy: what to do about a loss that is no number.
    """

    diverged_remedy = "lower the rate or look at the images"

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: Any,
        step: TrainStep,
        output: Path,
        *,
        total: int,
        save_every: int,
        test_every: int,
        device: str,
        best: Best,
        wandb: str = "",
        ema: AveragedModel | None = None,
        keep: Keep | None = None,
        parts: Mapping[str, Part] | None = None,
    ) -> None:
        self.model, self.optimizer, self.scheduler, self.step = model, optimizer, scheduler, step
        self.output, self.total, self.ema, self.best, self._keep = output, total, ema, best, keep
        self._save_every, self._test_every, self._on, self._wandb = save_every, test_every, device, wandb
        self.parts: dict[str, Part] = {
            "model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": step.scaler, "best": best,
            **(parts or {}),
        }  # fmt: skip
        if ema is not None:
            self.parts["ema"] = ema
        self.iteration = 0
        self._tested = 0
        self._losses: list[dict[str, float]] = []
        self._recent = Recent(step.check_every, output / LAST, self.diverged_remedy)

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """Endless batches of this process, from `iteration` on."""

    @abstractmethod
    def files_of(self, batch: Any) -> Files:
        """Says, when asked, what the images of a batch are called; holds none of them."""

    @abstractmethod
    def write_state(self, path: Path) -> None:
        """Writes the states of `parts`, and what identifies the run."""

    @abstractmethod
    def wrapped(self) -> nn.Module:
        """The model as the steps use it: wrapped for many processes, compiled, ..."""

    def entered(self) -> contextlib.AbstractContextManager[Any]:
        """What the steps need around them."""
        return contextlib.nullcontext()

    def statistics(self, model: nn.Module) -> contextlib.AbstractContextManager[Any]:
        """While entered, batch norms have the statistics that a model is tested with."""
        return contextlib.nullcontext()

    def forward(self) -> contextlib.AbstractContextManager[Any]:
        """What one step needs around it."""
        return contextlib.nullcontext()

    def measured(self) -> dict[str, float]:
        """What was measured besides the losses since the last call; all processes call it."""
        return {}

    def shown(self, losses: Mapping[str, float], rate: float) -> dict[str, float | str]:
        """What the line of progress says.

        Args:
            losses: the latest that are known; none at first.
        """
        return {"loss": sum(losses.values()), "rate": rate} if losses else {"rate": rate}

    def ended(self) -> bool:
        """Whether the run is over."""
        return self.iteration >= self.total

    def tell_evaluation(self, numbers: Mapping[str, float]) -> None:
        """Every process gets the numbers of an evaluation, for a rule of its own."""
        return None

    def advance(self) -> None:
        """Counts an iteration that is done."""
        self.scheduler.step()
        self.iteration += 1

    def run(self, evaluate: Evaluate | None = None) -> None:
        """All iterations that are left, with checkpoints, metrics and, every `test_every`, an evaluation.

        Args:
            evaluate: gets the model as it is to be tested; gives the numbers in the first process.

        Raises:
            Diverged: a loss, gradient or weight that is no number; the last good checkpoint is kept.
            ValueError: an image that cannot be used.
            Stopped: after a signal, with the state saved.
        """
        batches, trained = self.batches(), self.wrapped()
        progress = Progress(self.total, "training", done=self.iteration, show=group.is_main())
        journal = Journal(self.output, self.iteration, self._on, self._wandb)
        with self.entered(), GracefulStop() as stop, journal:
            self._evaluate_if_due(evaluate, journal, stop)  # a run that ended between checkpoint and evaluation
            trained.train()
            for batch in progress.waiting(batches if not self.ended() else ()):
                began, rate = time.monotonic(), self.optimizer.param_groups[0]["lr"]
                losses = self._step(trained, batch)
                self.advance()
                stopping = self._stopping(stop)
                writing = stopping or self._due(PERIOD) or self.ended()
                saving = stopping or self._due(self._save_every) or self._evaluation_due(evaluate)
                journal.add(self._looked_at() if writing or saving else [], rate, time.monotonic() - began)
                progress.step(**self.shown(losses, rate) if progress.due else {})
                if writing:
                    journal.write(self.iteration, self.measured(), progress)
                if saving:
                    self.save()
                self._leave_if(stopping, progress)
                if self._evaluate_if_due(evaluate, journal, stop, progress):
                    self._leave_if(self._agreed(stop.asked), progress)
                    trained.train()
                if self.ended():
                    break
            self.save()
            self._leave_if(self._agreed(stop.asked), progress)

    def save(self) -> None:
        """Writes last.pth, from the first process; all have to call it.

        Raises:
            Diverged: a step before went wrong, or the weights are no numbers; the older file stays.
        """
        with self._recent.told(self.iteration):
            self._losses += self.step.take()
            wrong = not_finite(self.model.named_parameters())
            if wrong:
                said = f"no numbers any more in the weights of {some(wrong, 3)}"
                raise DivergedTogether(said, self.iteration - 1)
        if group.is_main():
            self.write_state(self.output / LAST)

    @contextlib.contextmanager
    def tested(self) -> Iterator[nn.Module]:
        """The model as it is tested and written: averaged, with precise batch norms, where the config says so."""
        model = self.model if self.ema is None else self.ema.module
        with self.statistics(model):
            if group.world() > 1:
                # Each process has running statistics of its own; all test with those that will be written.
                for buffer in model.buffers():
                    torch.distributed.broadcast(buffer, 0)
            yield model

    def judge(self, model: nn.Module, numbers: Mapping[str, float]) -> bool:
        """Whether `model` is the best so far by its metric, and then it is kept; False but in the first process.

        Raises:
            UnknownMetric: the evaluation has no such one.
        """
        if not self.best.metric or not group.is_main():
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
        due = self._due(self._test_every) and self.iteration > 0 and not self.ended()
        return evaluate is not None and due and self._tested != self.iteration

    def _evaluate_if_due(
        self, evaluate: Evaluate | None, journal: Journal, stop: GracefulStop, progress: Progress | None = None
    ) -> bool:
        """Whether an evaluation was made, of what is saved; it is saved with the evaluation then."""
        if evaluate is None or not self._evaluation_due(evaluate):
            return False
        if progress is not None:
            progress.close()
        group.synchronize()  # whoever is interrupted ends the others, the first process in its save too
        with self.tested() as model:
            with stop.at_once(self._stopped()):
                numbers = evaluate(model)
            journal.evaluated(self.iteration, numbers)
            self.judge(model, numbers)
        self.tell_evaluation(group.gather_all(dict(numbers))[0])
        self._tested = self.iteration
        self.save()
        return True

    def _leave_if(self, stopping: bool, progress: Progress) -> None:
        """After a save."""
        if stopping:
            progress.close()
            group.synchronize()  # the first process is still saving, and a second signal must not end it
            raise Stopped(self._stopped())

    def _stopped(self) -> str:
        where = f"{self.iteration} of {self.total}; saved in {self.output / LAST}"
        return f"stopped after iteration {where}; go on with --resume"

    def _stopping(self, stop: GracefulStop) -> bool:
        """Asks the others only where the losses are looked at: an answer is waited for as they are."""
        return self._agreed(stop.asked) if group.world() == 1 or self._due(self.step.check_every) else False

    def _agreed(self, asked: bool) -> bool:
        """Whether any process was asked to stop: one that stops alone leaves the others waiting."""
        if group.world() == 1:
            return asked
        flag = torch.tensor(int(asked), device=self._on)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag)

    def _due(self, period: int) -> bool:
        return period > 0 and self.iteration % period == 0

    def _step(self, trained: nn.Module, batch: Any) -> dict[str, float]:
        self._recent.add(self.iteration, self.optimizer.param_groups[0]["lr"], self.files_of(batch))
        with self._recent.told(self.iteration), self.forward():
            losses = self.step(trained, batch, self.iteration)
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        return losses

    def _looked_at(self) -> list[dict[str, float]]:
        """Losses of all steps since the last call."""
        with self._recent.told(self.iteration):
            losses, self._losses = self._losses + self.step.take(), []
        return losses
