"""The pretraining loop: one process, SGD, a checkpoint after every epoch, and weights with their record at the end."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import nn
from torch.nn import functional as F

from resnet_backbone.classification.batch_norm import recompute_statistics
from resnet_backbone.classification.checkpoint import load_checkpoint, save_checkpoint
from resnet_backbone.classification.config import TrainConfig
from resnet_backbone.classification.data import Batch, Pixels, find_splits, load
from resnet_backbone.classification.evaluate import Accuracy, evaluate
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.device import find_device
from resnet_backbone.engine.jsonlog import JsonLines
from resnet_backbone.engine.progress import Progress, duration
from resnet_backbone.models.build import build_network
from resnet_backbone.models.network import Network
from resnet_backbone.weights.files import write_weights
from resnet_backbone.weights.record import WeightRecord


@dataclass(frozen=True)
class Outcome:
    """Where the weights are and how well they classify the validation images."""

    weights: Path
    accuracy: Accuracy
    seconds: float


def pretrain(config: TrainConfig, data: str | Path, output: str | Path, *, resume: bool = False) -> Outcome:
    """Trains on `data` (class folders) and writes into `output`.

    There will be: `config.yaml` (every key), `metrics.jsonl`, `last.pth` (to resume from) and
    `model.safetensors`, the weights with their record, which a detector loads as they are.

    Raises:
        ValueError: the data or the configuration cannot be used, or a checkpoint does not belong to it.
        OSError: nothing can be written.
    """
    run = _Run(config, Path(data), Path(output))
    run.start(resume)
    for epoch in range(run.epoch, run.epochs):
        run.train_epoch(epoch)
    return run.finish()


def build_classifier(config: TrainConfig, num_classes: int) -> Network:
    """The network of a recipe with fresh weights."""
    return build_network(
        config.network,
        num_classes=num_classes,
        stem_out_channels=config.stem_out_channels,
        res2_out_channels=config.res2_out_channels,
        stride_in_1x1=config.stride_in_1x1,
        shortcut=config.shortcut,
        norm_eps=config.norm_eps,
        zero_init_last_norm=config.zero_init_last_norm,
        drop_path=config.drop_path,
    )


def learning_rate(config: TrainConfig, epoch: float) -> float:
    """The rate at a point of the schedule, in epochs (1.5: half-way through the second)."""
    if epoch < config.warmup_epochs:
        return config.rate * epoch / config.warmup_epochs
    if config.schedule == "steps":
        return config.rate * 0.1 ** sum(epoch >= step for step in config.steps)
    done = (epoch - config.warmup_epochs) / (config.epochs - config.warmup_epochs)
    return config.rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


class _Run:
    """One run: what the steps share."""

    def __init__(self, config: TrainConfig, data: Path, output: Path) -> None:
        self.config, self.data, self.output = config, data, output
        self.device = find_device(config.device)
        self.train, self.val = find_splits(data)
        torch.manual_seed(config.seed)
        self.network = build_classifier(config, len(self.train.classes))
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.SGD(
            _groups(self.network, config), lr=config.rate, momentum=config.momentum, nesterov=config.nesterov
        )
        self.mean = torch.tensor(config.mean, device=self.device).view(1, 3, 1, 1)
        self.std = torch.tensor(config.std, device=self.device).view(1, 3, 1, 1)
        self.caches: tuple[dict[int, Pixels], dict[int, Pixels]] = ({}, {})
        self.steps_an_epoch = max(len(self.train) // config.batch_size, 1)
        self.epochs = math.ceil(config.epochs)
        self.epoch = 0
        self.began = time.monotonic()

    def start(self, resume: bool) -> None:
        """Opens the files, and goes on from the last checkpoint if asked to."""
        config, last = self.config, self.output / "last.pth"
        self.output.mkdir(parents=True, exist_ok=True)
        if resume and last.exists():
            self.epoch = load_checkpoint(last, self.network, self.optimiser, config, self.train.classes)
        self.metrics = JsonLines(self.output / "metrics.jsonl", keep_until=self.epoch or None, key="epoch")
        text = yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(config))), sort_keys=False)
        write_atomically(self.output / "config.yaml", lambda file: file.write(text.encode()))
        total = self.epochs * self.steps_an_epoch
        self.progress = Progress(total, "pretraining", done=self.epoch * self.steps_an_epoch)
        parameters = sum(p.numel() for p in self.network.parameters())
        self.progress.note(
            f"{config.network}, {parameters:,} parameters, on {self.device}; {len(self.train):,} training and "
            f"{len(self.val):,} validation images of {len(self.train.classes)} classes\n"
            f"rate {config.rate:g} for batches of {config.batch_size} ({config.rate_per_256:g} per 256)"
            + (f"; resumed after epoch {self.epoch}" if self.epoch else "")
        )

    def train_epoch(self, epoch: int) -> None:
        """One pass, a checkpoint, a test, a line of metrics."""
        config, losses = self.config, []
        batches = load(self.train, config, epoch, self.caches[0])
        sides = np.random.default_rng([config.seed, epoch, 1])
        for step, (pixels, labels) in enumerate(self.progress.waiting(batches)):
            rate = learning_rate(config, epoch + step / self.steps_an_epoch)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            loss = self._step(self._shrunk(self.prepare(pixels), sides), labels)
            losses.append(loss)
            self.progress.step(epoch=f"{epoch + 1}", loss=loss, rate=rate)
        self.epoch = epoch + 1
        save_checkpoint(self.output / "last.pth", self.network, self.optimiser, self.epoch, config, self.train.classes)
        accuracy = self.test()
        mean_loss = sum(losses) / len(losses)
        self.metrics.write(
            epoch=self.epoch,
            loss=mean_loss,
            rate=rate,
            top1=accuracy.top1_percent,
            top5=accuracy.top5_percent,
            seconds=round(time.monotonic() - self.began, 1),
        )
        self.progress.note(f"epoch {self.epoch}/{self.epochs}: loss {mean_loss:.3f}, {accuracy}")

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels.to(self.device), label_smoothing=self.config.label_smoothing)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ValueError(
                f"the loss is {value} in epoch {self.epoch + 1}: lower rate_per_256 or lengthen warmup_epochs"
            )
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return value

    def prepare(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 images to the network's input."""
        images = pixels.to(self.device, non_blocking=True).float()
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def _shrunk(self, images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """The batch at a side drawn from `batch_sides`."""
        if not self.config.batch_sides:
            return images
        side = int(rng.choice(self.config.batch_sides))
        if side == images.shape[-1]:
            return images
        return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False, antialias=True)

    def test(self) -> Accuracy:
        """Right answers on the validation images."""
        return evaluate(self.network, load(self.val, self.config, None, self.caches[1]), self.prepare, self.device)

    def finish(self) -> Outcome:
        """Exact statistics, a last test, the weights with their record."""
        if self.config.exact_norm_images:
            count = math.ceil(self.config.exact_norm_images / self.config.batch_size)
            recompute_statistics(self.network, itertools.islice(self._views(), count))
        accuracy = self.test()
        weights = self.output / "model.safetensors"
        write_weights(weights, self.network.state_dict(), self.record(accuracy))
        seconds = time.monotonic() - self.began
        self.metrics.write(
            epoch=self.epoch,
            final=True,
            top1=accuracy.top1_percent,
            top5=accuracy.top5_percent,
            seconds=round(seconds, 1),
        )
        self.progress.note(f"{accuracy}, after {duration(seconds)}; weights with their record: {weights}")
        return Outcome(weights, accuracy, seconds)

    def _views(self) -> Iterator[torch.Tensor]:
        """Training images as the network saw them, from a pass of its own."""
        sides = np.random.default_rng([self.config.seed, self.epochs, 1])
        batch: Batch
        for batch in load(self.train, self.config, self.epochs, self.caches[0]):
            yield self._shrunk(self.prepare(batch[0]), sides)

    def record(self, accuracy: Accuracy) -> WeightRecord:
        """What a detector must know of these weights."""
        config = self.config
        bottleneck = self.network.variant.block == "bottleneck"
        return WeightRecord(
            naming="resnet_backbone",
            source=f"tools/pretrain_imagenet.py, seed {config.seed}",
            variant=config.network,
            stride_in_1x1=config.stride_in_1x1 if bottleneck else None,
            channel_order="RGB",
            mean=config.mean,
            std=config.std,
            eps=config.norm_eps,
            input_size=config.test_size,
            resize=config.test_resize,
            top1=accuracy.top1_percent,
            top5=accuracy.top5_percent,
            shortcut=self.network.config.shortcut,
            num_classes=len(self.train.classes),
            notes=(f"accuracy measured on {accuracy.images} images of {self.data.name}/val",),
        )


def _groups(network: nn.Module, config: TrainConfig) -> list[dict[str, object]]:
    """Parameters with and without weight decay."""
    weights = [p for p in network.parameters() if p.dim() > 1 or config.decay_norms]
    others = [p for p in network.parameters() if p.dim() <= 1 and not config.decay_norms]
    return [{"params": weights, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
