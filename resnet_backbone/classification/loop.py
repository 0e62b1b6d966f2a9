"""The pretraining loop: a recipe's rate, optimiser and batches in the engine's loop."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from resnet_backbone.classification.batch import Batch
from resnet_backbone.classification.batches import training_batches
from resnet_backbone.classification.checkpoint import read_run, save_state
from resnet_backbone.classification.classifier import Classifier, Inputs
from resnet_backbone.classification.config import TrainConfig
from resnet_backbone.classification.length import length_of
from resnet_backbone.classification.pace import Pace, remedies, timer_of
from resnet_backbone.classification.schedule import LearningRate
from resnet_backbone.classification.splits import Data, Split, Streamed
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
        step = TrainStep(
            optimizer,
            parts=config.accumulate,
            dtype=DTYPES[config.precision],
            device=device.type,
            seed=lambda iteration, part: seed_step(config, iteration, part),
            check_every=CHECK_EVERY[device.type],
        )
        self.broken = Broken(config.broken_images, output)
        super().__init__(
            network,
            optimizer,
            self.rate,
            step,
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
        self._set_rate()

    def resume(self) -> None:
        """Takes up the state that `output` holds, if any.

        Raises:
            ValueError: the state belongs to another run.
        """
        path = self.output / LAST
        if not path.exists():
            return
        state = read_run(path, self.config, self.data.classes, group.world())
        check_readers(path, state, self.data.train, self.config.workers, group.world())
        self.iteration, self._tested = int(state["iteration"]), int(state["tested"])
        fill(self.parts, state)
        self._set_rate()
        logger.info("resumed from %s after %d iterations", path, self.iteration)

    def batches(self) -> Iterator[Batch]:
        """From `iteration` on."""
        for batch in self.pace.waiting(training_batches(self.data.train, self.config, self.iteration, self.device)):
            self.broken.add(batch.broken)
            yield batch

    def files_of(self, batch: Batch) -> Files:
        """As the split names them."""
        name, indices = batch.name, batch.indices
        return lambda: [name(int(index)) for index in indices]

    def write_state(self, path: Path) -> None:
        """With recipe and classes; older checkpoints stay as `keep` says."""
        save_state(path, self.parts, self.iteration, self.config, self.data.classes, self._tested, group.world())
        keep_last(path, self.iteration, self.config.keep)

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


def check_readers(path: Path, state: Mapping[str, Any], split: Split, workers: int, processes: int) -> None:
    """The order of a stream of shards depends on who reads them.

    Raises:
        ValueError: others than those of a checkpoint.
    """
    before = int(state["processes"]), int(state["config"]["workers"])
    if isinstance(split, Streamed) and before != (processes, workers):
        raise ValueError(
            f"{path}: shards were read by {before[0]} processes with workers {before[1]}, now by {processes} with "
            f"{workers}, in another order; keep both, or start anew with --overwrite"
        )


class Broken:
    """Images that could not be read: named once, and too many end the run."""

    def __init__(self, limit: int, output: Path) -> None:
        self._limit, self._output = limit, output
        self.names: list[str] = []

    def add(self, found: tuple[tuple[str, str], ...]) -> None:
        """Takes those of a batch.

        Raises:
            ValueError: there are more than the limit.
        """
        for name, said in found:
            if name in self.names:
                continue
            self.names.append(name)
            logger.warning("passed over, %d of at most %d: %s", len(self.names), self._limit, said)
            with (self._output / "broken_images.txt").open("a", encoding="utf-8") as file:
                file.write(f"{name}\n")
            if len(self.names) > self._limit:
                raise ValueError(
                    f"broken_images: more than {self._limit} images cannot be read ({some(self.names, 3)}); mend them, "
                    f"or raise broken_images; all are listed in {self._output / 'broken_images.txt'}"
                )

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"names": list(self.names)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Those that were named before."""
        self.names = list(state["names"])


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


def keep_last(path: Path, iteration: int, count: int) -> None:
    """Keeps the newest `count` checkpoints beside the last one, under names with their iteration."""
    if not count:
        return
    named = path.with_name(f"{path.stem}_{iteration:08d}{path.suffix}")
    named.unlink(missing_ok=True)
    os.link(path, named)  # the same file: no room, no time
    older = sorted(path.parent.glob(f"{path.stem}_*{path.suffix}"))
    for old in older[:-count]:
        old.unlink()
