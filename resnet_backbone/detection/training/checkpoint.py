"""What a fine-tuning run needs to go on exactly, and what it leaves behind: weights with their record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode
from torch import nn

from resnet_backbone.detection.config import default_config
from resnet_backbone.detection.training.config import leaves
from resnet_backbone.engine import checkpoint as engine
from resnet_backbone.engine.checkpoint import Part
from resnet_backbone.weights.files import write_weights
from resnet_backbone.weights.load import find_network
from resnet_backbone.weights.record import WeightRecord

FINAL = engine.DETECTOR
BEST = "model_best.pth"

# May differ between a run and its continuation without changing what is learnt.
FREE = (
    "OUTPUT_DIR", "CUDNN_BENCHMARK", "MODEL.DEVICE", "MODEL.WEIGHTS", "DATALOADER.NUM_WORKERS", "DATA.ROOT",
    "DATA.TEST_IMAGES", "DATASETS.TEST", "SOLVER.CHECKPOINT_PERIOD", "MODEL.RESIDUAL.FOLD_NORMS",
    "MODEL.RESIDUAL.CHANNELS_LAST", "MODEL.RESIDUAL.COMPILE",
)  # fmt: skip
# The rate as a function of the iteration, and where it ends: what --new-schedule may change.
SCHEDULE = tuple(
    f"SOLVER.{name}"
    for name in ("LR_SCHEDULER_NAME", "BASE_LR", "BASE_LR_END", "GAMMA", "STEPS", "NUM_DECAYS", "RESCALE_INTERVAL",
                 "MAX_ITER", "WARMUP_FACTOR", "WARMUP_ITERS", "WARMUP_METHOD")
)  # fmt: skip
# Parts that a checkpoint of an older version has not.
ADDED_LATER = ("best", "normalizer")


def save_state(path: Path, parts: Mapping[str, Part], iteration: int, cfg: CfgNode, tested: int = 0) -> None:
    """Writes the state of model, optimiser, ... after `iteration` whole iterations.

    Args:
        tested: the last iteration after which an evaluation was made.

    Raises:
        OSError: the disk is full; an older file stays.
    """
    engine.save_state(path, parts, iteration=iteration, config=cfg.dump(), tested=tested)


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state, and the keys of the config that it was saved under.

    Raises:
        ValueError: no such checkpoint.
    """
    remedy = "start anew with --overwrite"
    state = engine.read_state(path, ("iteration", "config"), remedy)
    try:
        before = default_keys() | dict(leaves(yaml.safe_load(state["config"])))
        state["iteration"] = int(state["iteration"])
    except (TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: not a checkpoint of this tool ({type(error).__name__}); {remedy}") from None
    return state, before


def read_run(path: Path, cfg: CfgNode, *, new_schedule: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state that a run with `cfg` goes on from, and what `changes` gives.

    Raises:
        ValueError: no such checkpoint, or one of another run, or of one that is longer already.
    """
    state, before = read_state(path)
    changed = changes(path, before, cfg, new_schedule=new_schedule)
    if state["iteration"] > cfg.SOLVER.MAX_ITER:
        raise ValueError(
            f"SOLVER.MAX_ITER: {cfg.SOLVER.MAX_ITER}, but {path} has {state['iteration']} iterations behind it; "
            "give as many or more"
        )
    return state, changed


def default_keys() -> dict[str, Any]:
    """SOLVER keys of ours that a checkpoint of an older version does not name: it was as without them."""
    defaults = yaml.safe_load(default_config().dump())
    return {key: value for key, value in leaves(defaults) if key.startswith("SOLVER.")}


def changes(
    path: Path, before: Mapping[str, Any], cfg: CfgNode, *, new_schedule: bool = False
) -> dict[str, tuple[Any, Any]]:
    """A run goes on as it was begun: Detectron2 would keep the old milestones and say nothing.

    Args:
        before: the keys that `path` was saved under.
        new_schedule: another schedule is wanted.

    Returns:
        Keys of the schedule that changed, with the old and the new value; none without `new_schedule`.

    Raises:
        ValueError: another key changed; names it, both values and the remedy.
    """
    changed = {}
    for key, value in leaves(yaml.safe_load(cfg.dump())):
        if key not in before or before[key] == value or key in FREE or key.startswith("TEST."):
            continue
        if key not in SCHEDULE or not new_schedule:
            also = ", change the schedule from here on with --new-schedule" if key in SCHEDULE else ""
            raise ValueError(
                f"{path}: the run was begun with {key} {before[key]}, now it is {value}; go on with the old "
                f"value{also}, or start another run from its weights: MODEL.WEIGHTS {path.with_name(FINAL)}"
            )
        changed[key] = (before[key], value)
    return changed


def missing_parts(state: Mapping[str, Any]) -> set[str]:
    """Parts that checkpoints of older versions do not have, and this one has not."""
    return set(ADDED_LATER) - set(state)


def write_final(
    path: Path,
    model: nn.Module,
    cfg: CfgNode,
    origin: WeightRecord | None,
    config_name: str,
    notes: Sequence[str] = (),
) -> None:
    """Writes a trained detector with the record of what it expects; Detectron2's checkpointer reads it too.

    Args:
        notes: further ones for the record.
    """
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
        norm="GN" if variant.norm == "GN" else None,
    )
    inherited = () if origin is None else origin.notes
    write_weights(path, model.state_dict(), replace(made, notes=(*inherited, *notes)))
