"""A recipe in numbers: its length, its rate, its norms, and the run in its folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from resnet_backbone.classification.data.splits import Data
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.recipe.length import length_of
from resnet_backbone.classification.recipe.schedule import Schedule
from resnet_backbone.classification.training.checkpoint import read_run
from resnet_backbone.classification.training.output import refuse_held
from resnet_backbone.engine.loop import LAST
from resnet_backbone.engine.preflight import Finding

SMALL_BATCH = 16
"""Images from which on batch norm learns well: ResNet-50's error is 23.7 % with 16, 24.8 with 8, 27.3 with 4, 34.7 with
2 (Wu and He 2018, "Group Normalization")."""


def length_findings(config: TrainConfig, images: int, processes: int) -> Iterator[Finding]:
    """Iterations, shares of the batch, rate.

    Args:
        images: that are trained on.

    Raises:
        ValueError: the run would have no iteration.
    """
    length = length_of(config, images)
    epochs = length.total * config.batch_size / images
    many = f": {processes} processes with {config.batch_size / processes:g} each" * (processes > 1)
    parts = f", in {config.accumulate} parts" * (config.accumulate > 1)
    text = f"{round(epochs, 1):,g} epochs of {images:,} images: {length.total:,} iterations"
    yield Finding("ok", f"{text} of {config.batch_size} images{many}{parts}")
    yield Finding("ok", f"rate {config.rate:g} ({config.rate_per_256:g} per 256), {_course(length.schedule)}")
    every = [f"{what} {_each(count)}" for what, count in (("tests", length.test_every), ("saves", length.save_every))]
    yield Finding("ok", ", ".join(every))
    late = [written for written in config.steps if written >= config.length]
    if late:
        text = f"steps {late} are never reached in {config.length:g} {config.unit}; set them below it"
        yield Finding("warning", text)


def machine_findings(config: TrainConfig, gpus: int, device: torch.device) -> Iterator[Finding]:
    """What of this machine is left idle, or asked too much.

    Args:
        gpus: processes on this machine.
    """
    cores, cards = os.cpu_count() or 1, torch.cuda.device_count()
    if device.type == "cuda" and gpus < cards:
        yield Finding("note", f"{gpus} of this machine's {cards} GPUs train; for all of them: --num-gpus {cards}")
    if device.type == "cpu" and cards:
        yield Finding("note", f"device cpu, but this machine has {cards} GPUs; leave device empty to train on one")
    if gpus * config.workers > cores and config.augmentation != "padded_crop":
        text = f"{gpus} x {config.workers} workers on {cores} cores; workers {max(cores // gpus, 1)} are enough"
        yield Finding("note", text)


def folder_findings(
    config: TrainConfig, output: Path, data: Data, processes: int, *, resume: bool, overwrite: bool
) -> Iterator[Finding]:
    """A folder that holds a run, and what --resume would do there."""
    last = output / LAST
    try:
        refuse_held(output, resume, overwrite)
    except ValueError as error:
        yield Finding("note" if not resume else "error", str(error))
    if resume and not last.exists():
        yield Finding("note", f"{last} is not there yet: --resume begins at the beginning")
    if overwrite or not last.exists():
        return
    try:
        state = read_run(last, config, data, processes)
    except ValueError as error:
        yield Finding("error" if resume else "note", f"--resume would be refused: {error}")
        return
    yield Finding("ok", f"{last}: --resume goes on after iteration {state['iteration']:,}")


def norm_findings(network: nn.Module, config: TrainConfig, processes: int) -> Iterator[Finding]:
    """Whether batch norms learn from enough images at a time."""
    learning = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not learning:
        yield Finding("ok", "no batch norms: the batch may be of any size")
        return
    shared = any(isinstance(m, nn.SyncBatchNorm) for m in learning)
    part = config.batch_size // (processes * config.accumulate)
    images = part * processes if shared else part
    text = f"{len(learning)} batch norms learn from {images} images at a time"
    if images >= SMALL_BATCH:
        yield Finding("ok", text)
        return
    remedies = ["a larger batch_size"] + ["a smaller accumulate"] * (config.accumulate > 1)
    remedies += ["norm SyncBN"] * (processes > 1 and not shared) + ["norm GN"]
    said = f"{text}, fewer than {SMALL_BATCH}, which costs accuracy; use {' or '.join(remedies)}"
    yield Finding("warning", said)


def _each(count: int) -> str:
    return f"every {count:,} iterations" if count else "at the end alone"


def _course(schedule: Schedule) -> str:
    ways = {
        "cosine": "cosine to zero",
        "steps": "divided by ten at iterations " + " and ".join(f"{one:,}" for one in schedule.milestones),
        "plateau": "divided by ten where the error stays, ended at the third time",
        "constant": "constant",
    }
    return ways[schedule.shape] + _warmup(schedule)


def _warmup(schedule: Schedule) -> str:
    if schedule.warmup_until_error is not None:
        return (
            f", behind a warm-up at {schedule.warmup_rate:g} until the error is below {schedule.warmup_until_error} %"
        )
    if not schedule.warmup_iterations:
        return ", no warm-up"
    how = f"at {schedule.warmup_rate:g}" if schedule.warmup_rate is not None else f"from {schedule.warmup(0):g}"
    return f", behind a warm-up {how} over {schedule.warmup_iterations:,} iterations"
