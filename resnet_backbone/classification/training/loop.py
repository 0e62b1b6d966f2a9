"""The pretraining loop: a recipe's rate, optimiser and batches in the engine's loop."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from resnet_backbone.classification.data.batch import Batch
from resnet_backbone.classification.data.batches import training_batches
from resnet_backbone.classification.data.broken import Broken
from resnet_backbone.classification.data.resident import Drawn, Resident
from resnet_backbone.classification.data.splits import Data
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.recipe.length import length_of
from resnet_backbone.classification.recipe.schedule import LearningRate
from resnet_backbone.classification.training.captured import CapturedStep, check_capture
from resnet_backbone.classification.training.checkpoint import keep_last, read_run, save_state
from resnet_backbone.classification.training.classifier import Classifier, Inputs
from resnet_backbone.classification.training.pace import Pace, remedies, timer_of
from resnet_backbone.engine import group, loop
from resnet_backbone.engine.best import Best
from resnet_backbone.engine.checkpoint import fill
from resnet_backbone.engine.ema import make_ema
from resnet_backbone.engine.loop import LAST, Keep
from resnet_backbone.engine.recent import Files
from resnet_backbone.engine.seeds import seed_of
from resnet_backbone.engine.step import TrainStep
from resnet_backbone.engine.text import some
from resnet_backbone.models.network import Network

logger = logging.getLogger(__name__)

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
CHOSEN_BY = "holdout/top1"
CHECK_EVERY = {"cpu": 1, "cuda": loop.PERIOD}
"""Steps whose losses are looked at together: a GPU would wait for the computer in each, a CPU does not."""


class Loop(loop.Loop):
    """Trains a network by a recipe.

    Args:
        network: on `device`.
        output: gets last.pth, metrics.jsonl and TensorBoard's files.
        keep: writes the weights of a network that is the best so far on the held-out images.
    """

    diverged_remedy = "lower rate_per_256, lengthen warmup or look at the images"

    def __init__(
        self,
        config: TrainConfig,
        data: Data,
        network: Network,
        output: Path,
        device: torch.device,
        keep: Keep | None = None,
    ) -> None:
        self.config, self.data, self.device = config, data, device
        self.inputs = Inputs(config, device)
        self.classifier = Classifier(network, self.inputs, config, len(data.classes))
        length = length_of(config, len(data.train))
        self.rate = LearningRate(length.schedule)
        optimizer = make_optimizer(config, network, device)
        check_capture(config, device)
        self._resident = Resident(data.train, config, device) if config.capture else None
        self.broken = Broken(config.broken_images, output)
        super().__init__(
            network,
            optimizer,
            self.rate,
            self._make_step(optimizer),
            output,
            total=length.total,
            save_every=length.save_every,
            test_every=length.test_every,
            device=str(device),
            best=Best(CHOSEN_BY if data.holdout is not None else "", "holdout"),
            wandb=config.wandb,
            ema=make_ema(network, config.ema) if config.ema else None,
            keep=keep,
            parts={"broken": self.broken},
        )
        self.pace = Pace(config.batch_size, timer_of(device))
        self._saved = 0
        self._set_rate()

    def resume(self) -> None:
        """Takes up the state that `output` holds, if any.

        Raises:
            ValueError: the state belongs to another run.
        """
        path = self.output / LAST
        if not path.exists():
            return
        state = read_run(path, self.config, self.data, group.world())
        self.iteration, self._tested = int(state["iteration"]), int(state["tested"])
        self._saved = self.iteration
        fused = [one["fused"] for one in self.optimizer.param_groups]  # of this device, which may be another
        fill(self.parts, state)
        for one, here in zip(self.optimizer.param_groups, fused, strict=True):
            one["fused"] = here
        self._set_rate()
        logger.info("resumed from %s after %d iterations", path, self.iteration)
        before = state["config"].get("reader", self.config.reader)
        if before != self.config.reader:
            logger.warning(
                "reader %s, before it was %s: from here on the images differ by up to two grey levels from those of a "
                "run that never stopped", self.config.reader, before,
            )  # fmt: skip

    def _make_step(self, optimizer: torch.optim.Optimizer) -> TrainStep:
        config, device = self.config, self.device
        dtype, check_every = DTYPES[config.precision], CHECK_EVERY[device.type]
        if self._resident is not None:
            return CapturedStep(
                optimizer, self._resident, config.batch_size, dtype=dtype, device=device, check_every=check_every
            )
        return TrainStep(
            optimizer,
            parts=config.accumulate,
            dtype=dtype,
            device=device.type,
            seed=lambda iteration, part: seed_step(config, iteration, part),
            check_every=check_every,
        )

    def batches(self) -> Iterator[Batch | Drawn]:
        """From `iteration` on; a captured step cuts its batch itself."""
        made: Iterator[Batch | Drawn]
        if self._resident is not None:
            made = map(self._resident.draw, itertools.count(self.iteration))
        else:
            made = training_batches(self.data.train, self.config, self.iteration, self.device)
        for batch in self.pace.waiting(made):
            if isinstance(batch, Batch):
                self.broken.add(batch.broken)
            yield batch

    def files_of(self, batch: Batch | Drawn) -> Files:
        """As the split names the first of them."""
        name, indices = batch.name, batch.indices
        return lambda: [some([name(int(index)) for index in indices], 16)]

    def write_state(self, path: Path) -> None:
        """With recipe and classes; older checkpoints stay as `keep` says."""
        if self.iteration != self._saved:
            keep_last(path, self._saved, self.config.keep)
        save_state(path, self.parts, self.iteration, self.config, self.data, self._tested, group.world())
        self._saved = self.iteration

    def save(self) -> None:
        """Knows all broken images first, whichever process met them."""
        self.broken.share()
        super().save()

    def wrapped(self) -> nn.Module:
        """In `DistributedDataParallel` where there are several processes."""
        if self.config.compile:
            self.model.compile()
        if group.world() == 1:
            return self.classifier
        return DistributedDataParallel(self.classifier, broadcast_buffers=False)

    def ended(self) -> bool:
        """The plateau rule may end a run early."""
        return self.rate.ended(self.iteration)

    def advance(self) -> None:
        """Sets the rate of the next iteration."""
        self.pace.stepped()
        self.iteration += 1
        if self.rate.wants_training_error():
            self.rate.tell_training_error(self._error())
        self._set_rate()

    def measured(self) -> dict[str, float]:
        """Images a second, seconds of an iteration and the training error in percent, since the last call."""
        values = self.pace.line()
        share = self.pace.bound()
        if share is not None and self.config.augmentation != "padded_crop":  # which has no loader
            said = "loader-bound: %.0f %% of the time is spent waiting for images; remedy: %s"
            logger.warning(said, 100 * share, remedies(self.config))
        if not self.rate.wants_training_error():
            values["error"] = self._error()
        return values

    def shown(self, losses: Mapping[str, float], rate: float) -> dict[str, float | str]:
        """Images a second and, on a GPU, memory too."""
        values = super().shown(losses, rate)
        if self.pace.speed is not None:
            values["images/s"] = f"{self.pace.speed:,.0f}"
        if self.device.type == "cuda":
            values["memory"] = f"{torch.cuda.max_memory_allocated(self.device) / 2**30:.1f} GiB"
        return values

    def tell_evaluation(self, numbers: Mapping[str, float]) -> None:
        """The plateau rule looks at the held-out images' error, else at the validation images'."""
        error = numbers.get("holdout/error", numbers.get("val/error"))
        if error is not None:
            self.rate.tell_evaluation_error(self.iteration, error)
            self._set_rate()

    def _error(self) -> float:
        wrong, seen = torch.tensor(self.classifier.take_errors(), dtype=torch.float64).tolist()
        if group.world() > 1:
            wrong, seen = (sum(one) for one in zip(*group.gather_all((wrong, seen)), strict=True))
        return 100 * wrong / max(seen, 1)

    def _set_rate(self) -> None:
        for one in self.optimizer.param_groups:
            one["lr"] = self.rate.at(self.iteration)


def make_optimizer(config: TrainConfig, network: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """SGD with and without weight decay on norms and biases, clipped where the recipe says so."""
    weights = [p for p in network.parameters() if p.requires_grad and (p.dim() > 1 or config.decay_norms)]
    others = [p for p in network.parameters() if p.requires_grad and p.dim() <= 1 and not config.decay_norms]
    optimizer = torch.optim.SGD(
        [{"params": weights, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=config.rate,
        momentum=config.momentum,
        nesterov=config.nesterov,
        fused=device.type == "cuda" or None,
    )
    if config.clip:
        clipped = [*weights, *others]
        optimizer.register_step_pre_hook(lambda *_: _clip(clipped, config.clip))
    return optimizer


def _clip(parameters: list[nn.Parameter], largest: float) -> None:
    nn.utils.clip_grad_norm_(parameters, largest)


def seed_step(config: TrainConfig, iteration: int, part: int) -> None:
    """What a step draws depends on the iteration and on which of all parts of the batch it is, of all processes'."""
    torch.manual_seed(seed_of(config.seed, iteration, group.rank() * config.accumulate + part))
