"""What a pretraining run needs to go on, in a file that `torch.load(weights_only=True)` reads."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import torch
from torch import nn

from resnet_backbone.classification.config import TrainConfig
from resnet_backbone.engine.atomic import write_atomically

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
    state = {
        "model": network.state_dict(),
        "optimizer": optimiser.state_dict(),
        "epoch": epoch,
        "config": dataclasses.asdict(config),
        "classes": list(classes),
    }
    write_atomically(path, lambda file: torch.save(state, file))


def load_checkpoint(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, config: TrainConfig, classes: tuple[str, ...]
) -> int:
    """Fills network and optimiser; returns the number of epochs that were done.

    Raises:
        ValueError: not such a file, or one of another configuration or other classes.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        before, epoch = dict(state["config"]), int(state["epoch"])
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        kind = type(error).__name__
        raise ValueError(f"{path} is not a checkpoint of this tool ({kind}): start without --resume") from None
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
    network.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimizer"])
    return epoch
