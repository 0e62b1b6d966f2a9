"""What a fine-tuning run needs to go on exactly, and what it leaves behind: weights with their record."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode
from torch import nn

from resnet_backbone.detection.training.config import leaves
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.weights.files import write_weights
from resnet_backbone.weights.load import find_network
from resnet_backbone.weights.record import WeightRecord

LAST = "last.pth"
FINAL = "model_final.pth"

# May differ between a run and its continuation without changing what is learnt.
FREE = (
    "OUTPUT_DIR", "CUDNN_BENCHMARK", "MODEL.DEVICE", "MODEL.WEIGHTS", "DATALOADER.NUM_WORKERS", "DATA.ROOT",
    "DATA.TEST_IMAGES", "DATASETS.TEST", "SOLVER.CHECKPOINT_PERIOD", "MODEL.RESIDUAL.FOLD_NORMS",
    "MODEL.RESIDUAL.CHANNELS_LAST", "MODEL.RESIDUAL.COMPILE",
)  # fmt: skip


def save_state(path: Path, parts: dict[str, Any], iteration: int, cfg: CfgNode) -> None:
    """Writes the state of model, optimiser, ... after `iteration` whole iterations.

    Args:
        parts: objects with a `state_dict` by name.

    Raises:
        OSError: the disk is full; an older file stays.
    """
    state = {name: part.state_dict() for name, part in parts.items()}
    state |= {"iteration": iteration, "config": cfg.dump()}
    write_atomically(path, lambda file: torch.save(state, file))


def load_state(path: Path, parts: dict[str, Any], cfg: CfgNode) -> int:
    """Fills the parts; returns the number of iterations that were done.

    Raises:
        ValueError: no such checkpoint, or one of a run with another schedule, model or data.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        before = dict(leaves(yaml.safe_load(state["config"])))
        iteration = int(state["iteration"])
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        kind = type(error).__name__
        raise ValueError(f"{path}: not a checkpoint of this tool ({kind}); start anew with --overwrite") from None
    refuse_changes(path, before, cfg)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return iteration


def refuse_changes(path: Path, before: dict[str, Any], cfg: CfgNode) -> None:
    """A run goes on as it was begun: Detectron2 would keep the old milestones and say nothing.

    Raises:
        ValueError: names the first key, both values and the remedy.
    """
    for key, value in leaves(yaml.safe_load(cfg.dump())):
        free = key in FREE or key.startswith("TEST.")
        if not free and key in before and before[key] != value:
            raise ValueError(
                f"{path}: the run was begun with {key} {before[key]}, now it is {value}; go on with the old value, "
                "or start another run from its weights: MODEL.WEIGHTS " + str(path.with_name(FINAL))
            )


def write_final(path: Path, model: nn.Module, cfg: CfgNode, origin: WeightRecord | None, config_name: str) -> None:
    """Writes the trained detector with the record of what it expects; Detectron2's checkpointer reads it too."""
    variant = find_network(model)[1].config
    made = WeightRecord(
        naming="detectron2",
        source=f"{config_name}, trained from {origin.source if origin else 'scratch'}",
        variant=variant.variant.name,
        stride_in_1x1=variant.stride_in_1x1 if variant.variant.block == "bottleneck" else None,
        channel_order=cfg.INPUT.FORMAT,
        mean=tuple(cfg.MODEL.PIXEL_MEAN),
        std=tuple(cfg.MODEL.PIXEL_STD),
        eps=variant.norm_eps,
        input_size=None,
        resize=None,
        shortcut=variant.shortcut if variant.variant.family != "vgg" else None,
    )
    notes = () if origin is None else origin.notes
    write_weights(path, model.state_dict(), replace(made, notes=notes))
