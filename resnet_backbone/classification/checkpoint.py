"""What a pretraining run needs to go on, in a file that `torch.load(weights_only=True)` reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from resnet_backbone.classification.config import TrainConfig
from resnet_backbone.engine.checkpoint import Part, fill, read_state, save_state

# These may differ between the run and its continuation without changing what is learnt.
_FREE = {"workers", "cache", "device"}


def save_checkpoint(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    config: TrainConfig,
    classes: tuple[str, ...],
) -> None:
    """Writes the state after `epoch` whole epochs.

    Raises:
        OSError: the disk is full; an older file stays.
    """
    parts: dict[str, Part] = {"model": network, "optimizer": optimiser}
    save_state(path, parts, epoch=epoch, config=dataclasses.asdict(config), classes=list(classes))


def load_checkpoint(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, config: TrainConfig, classes: tuple[str, ...]
) -> int:
    """Fills network and optimiser; returns the number of epochs that were done.

    Raises:
        ValueError: not such a file, or one of another configuration or other classes.
    """
    state = read_state(path, ("epoch", "config", "classes"), "start without --resume")
    before = state["config"]
    now = dataclasses.asdict(config)
    changed = [key for key in now if key not in _FREE and before.get(key) != now[key]]
    if changed:
        key = changed[0]
        raise ValueError(
            f"{path}: the run was started with {key} {before.get(key)!r}, now it is {now[key]!r}; a run cannot "
            "be changed half-way: give the old value, or start without --resume"
        )
    if tuple(state["classes"]) != classes:
        raise ValueError(f"{path}: the run was started with other class folders; start without --resume")
    fill({"model": network, "optimizer": optimiser}, state)
    return int(state["epoch"])
