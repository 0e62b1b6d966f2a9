"""What is recorded of a finished classifier's run, all of it from its config.yaml and metrics.jsonl."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Collection
from typing import Any

from benchmarks.run_queue import origin_of
from resnet_backbone.classification.figures.run_folders import RunFolder
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.training.checkpoint import FREE
from resnet_backbone.engine.jsonlog import read_json_lines
from resnet_backbone.engine.yaml_config import make_config


def config_of(folder: RunFolder) -> TrainConfig:
    """The recipe of a finished run.

    Raises:
        ValueError: the run is not finished, or its config.yaml is none.
    """
    if not folder.finished:
        raise ValueError(f"{folder.path}: {folder.progress} iterations are done; go on")
    return make_config(TrainConfig, dict(folder.settings), str(folder.path / "config.yaml"))


def refuse_other_recipes(
    folder: RunFolder, config: TrainConfig, expected: TrainConfig, ignored: Collection[str], whose: str, of: str
) -> None:
    """Refuses a run that learns in another way than `expected`.

    Args:
        ignored: keys that may differ, besides those that change nothing that is learnt.
        whose: of the expected value, as "the paper's".
        of: what the run is none of.

    Raises:
        ValueError: names the first key that differs.
    """
    now = dataclasses.asdict(config)
    for key, value in dataclasses.asdict(expected).items():
        if key not in FREE and key not in ignored and now[key] != value:
            where = folder.path / "config.yaml"
            raise ValueError(f"{where}: {key} is {now[key]!r}, {whose} is {value!r}: not a run of {of}")


def values_of(folder: RunFolder, config: TrainConfig, commit: str) -> dict[str, Any]:
    """Raw values of a finished run; errors in percent.

    Args:
        commit: of a run that does not say its own.
    """
    lines = list(read_json_lines(folder.path / "metrics.jsonl"))
    return {
        "network": folder.network, "precision": config.precision, "seed": folder.seed, "iterations": folder.total,
        "error": folder.error, "lowest_error": float(folder.test.errors.min()),
        "train_error": float(folder.train.errors[-1]),
        "loss": next(line["val/loss"] for line in reversed(lines) if "val/loss" in line),
        "seconds_per_iteration": statistics.median(
            line["seconds_per_iteration"] for line in lines if "seconds_per_iteration" in line
        ),
        "origin": origin_of(folder.path, commit),
    }  # fmt: skip
