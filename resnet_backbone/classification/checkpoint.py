"""What a pretraining run needs to go on, in a file that `torch.load(weights_only=True)` reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_backbone.classification.config import TrainConfig
from resnet_backbone.engine import checkpoint as engine
from resnet_backbone.engine.checkpoint import Part

# These may differ between the run and its continuation without changing what is learnt.
FREE = {"workers", "cache", "device", "data", "test_every", "save_every", "keep", "compile", "reader", "wandb"}
REMEDY = "start anew with --overwrite"


def save_state(
    path: Path,
    parts: Mapping[str, Part],
    iteration: int,
    config: TrainConfig,
    classes: tuple[str, ...],
    tested: int,
    processes: int,
) -> None:
    """Writes the state after `iteration` whole iterations.

    Raises:
        OSError: the disk is full; an older file stays.
    """
    facts = {"iteration": iteration, "tested": tested, "classes": list(classes), "processes": processes}
    engine.save_state(path, parts, config=dataclasses.asdict(config), **facts)


def read_run(path: Path, config: TrainConfig, classes: tuple[str, ...], processes: int) -> dict[str, Any]:
    """The state that a run with `config` goes on from.

    Raises:
        ValueError: not such a file, or one of another recipe, other classes, or another cut of the batch.
    """
    state = engine.read_state(path, ("iteration", "config", "classes"), REMEDY)
    before, now = state["config"], dataclasses.asdict(config)
    if before.get("network") != config.network:
        raise ValueError(f"{path}: a checkpoint of {before.get('network')}, not of {config.network}; {REMEDY}")
    for key in now:
        if key not in FREE and before.get(key) != now[key] and key != "accumulate":
            raise ValueError(
                f"{path}: the run was begun with {key} {before.get(key)!r}, now it is {now[key]!r}; a run cannot be "
                f"changed half-way: give the old value, or {REMEDY}"
            )
    if tuple(state["classes"]) != classes:
        raise ValueError(
            f"{path}: the run was begun with {len(state['classes'])} classes, the data have {len(classes)}, or others; "
            f"{REMEDY}"
        )
    parts = int(before.get("accumulate", 1)) * int(state.get("processes", 1))
    if parts != config.accumulate * processes:
        raise ValueError(
            f"{path}: the batch was cut into {parts} parts, now into {config.accumulate * processes} (processes times "
            f"accumulate), which batch norm would notice; keep the product, or {REMEDY}"
        )
    return state
