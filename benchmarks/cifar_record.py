"""Folders of finished CIFAR runs into `results.json`: everything from their config.yaml and metrics.jsonl.

A run of the paper's own length goes to the entry `reproduction-cifar`, a shorter one to `cifar-short`, which never
stands beside the paper as if it were the same. One that learns in another way than the paper's is refused.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import hardware, versions
from benchmarks.record import RESULTS, Entry, make_entry, read
from benchmarks.record import record as put
from benchmarks.reproduction import CIFAR
from resnet_backbone.classification.figures.paper import CIFAR_LENGTH
from resnet_backbone.classification.figures.run_folders import RunFolder, find_runs
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.training.checkpoint import FREE
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.jsonlog import read_json_lines
from resnet_backbone.engine.yaml_config import make_config

ORIGIN = "origin.json"
"""Beside a run: on what it ran, and at which commit, written by the queue."""
PAPER = TrainConfig(
    network="cifar_resnet20", iterations=int(CIFAR_LENGTH.length), batch_size=CIFAR_LENGTH.batch_size, rate_per_256=0.2,
    schedule="steps", steps=tuple(map(float, CIFAR_LENGTH.steps)), momentum=0.9, nesterov=False, weight_decay=1e-4,
    augmentation="padded_crop", size=32, test_size=32, test_resize=32, mean_image=True, mean=(0.0, 0.0, 0.0),
    std=(255.0, 255.0, 255.0), exact_norm_images=0,
)  # fmt: skip
"""Sec. 4.2."""
OWN = {"network", "seed", "iterations", "steps", "precision", "channels_last", "deterministic", "accumulate"}
WARMUP = {"warmup", "warmup_rate", "warmup_shape", "warmup_until_error"}
NAMES = {
    "reproduction-cifar": ("CIFAR-10 by the paper's recipe and schedule (Sec. 4.2).", ""),
    "cifar-short": (
        "CIFAR-10 by the paper's recipe on a shorter schedule.",
        "Not the paper's experiment: these errors are higher than after 64,000 iterations. ",
    ),
}
NOTE = (
    "The error is that of the last iteration on all 10,000 test images, never the lowest. Each run says on what and at "
    "which commit it ran (`origin`); of one recorded by its folder alone, date and hardware are the recording's."
)


def origin(command: str, commit: str) -> dict[str, Any]:
    """Where a run comes from that is made on this machine."""
    return {"command": command, "date": datetime.date.today().isoformat(), "hardware": hardware(), "commit": commit}


def write_origin(folder: Path, command: str) -> None:
    """At the start of a run and whenever it goes on: all commits that it was trained at are kept.

    Raises:
        OSError: it cannot be written.
    """
    now, path = origin(command, versions()["resnet_backbone"]), folder / ORIGIN
    if path.is_file():
        before = str(json.loads(path.read_text())["commit"])
        now["commit"] = before if now["commit"] in before.split("; ") else f"{before}; {now['commit']}"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(json.dumps(now).encode()))


def run_of(folder: RunFolder, commit: str = "unknown") -> tuple[str, dict[str, Any]]:
    """The name of the entry that a finished run belongs to, and its raw values.

    Args:
        commit: of a run that does not say its own.

    Raises:
        ValueError: it is not finished, or not the paper's recipe on CIFAR-10; names what differs.
    """
    if not folder.finished:
        raise ValueError(f"{folder.path}: {folder.done:,} of {folder.length.length:,} iterations are done; go on")
    config = make_config(TrainConfig, dict(folder.settings), str(folder.path / "config.yaml"))
    _refuse_other_recipes(config, folder)
    whole = (config.iterations, config.steps) == (PAPER.iterations, PAPER.steps)
    path = folder.path / ORIGIN
    lines = list(read_json_lines(folder.path / "metrics.jsonl"))
    return "reproduction-cifar" if whole else "cifar-short", {
        "experiment": CIFAR if whole else f"{CIFAR}, {config.iterations:,} iterations",
        "network": folder.network, "schedule": schedule_of(config), "precision": config.precision,
        "seed": folder.seed, "iterations": int(folder.length.length), "error": folder.error,
        "lowest_error": float(folder.test.errors.min()), "train_error": float(folder.train.errors[-1]),
        "loss": next(line["val/loss"] for line in reversed(lines) if "val/loss" in line),
        "seconds_per_iteration": statistics.median(
            line["seconds_per_iteration"] for line in lines if "seconds_per_iteration" in line
        ),
        "origin": json.loads(path.read_text()) if path.is_file() else origin("recorded by its folder", commit),
    }  # fmt: skip


def schedule_of(config: TrainConfig) -> str:
    """In words."""
    drops = " and ".join(f"{step:,.0f}" for step in config.steps)
    if config.warmup_until_error is not None:
        warm = f", at {config.warmup_rate:g} until the training error is below {config.warmup_until_error:g} %"
    else:
        warm = f", the first {config.warmup:,.0f} at {config.warmup_rate:g}" if config.warmup else ""
    return f"{config.iterations:,} iterations of {config.batch_size}, drops at {drops}{warm}"


def _refuse_other_recipes(config: TrainConfig, folder: RunFolder) -> None:
    where = folder.path / "config.yaml"
    if folder.data != CIFAR:
        raise ValueError(f"{where}: data is {folder.data!r}, not {CIFAR}: only its runs stand beside Table 6")
    now, paper = dataclasses.asdict(config), dataclasses.asdict(PAPER)
    ignored = FREE | OWN | WARMUP | ({"shortcut"} if config.shortcut == "A" else set())
    for key, value in paper.items():
        if key not in ignored and now[key] != value:
            raise ValueError(f"{where}: {key} is {now[key]!r}, the paper's is {value!r}: not a run of Table 6")


def record(folders: Sequence[Path], results: Path = RESULTS, commit: str = "unknown") -> list[dict[str, Any]]:
    """Adds the runs of these folders; a run of the same network, schedule and seed gives way.

    Raises:
        ValueError: see `run_of`; nothing is recorded then.
    """
    found = [run_of(folder, commit) for folder in find_runs(folders)]
    for name in dict.fromkeys(name for name, _ in found):
        put(entry_of(name, [run for of, run in found if of == name], read(results).get(name)), path=results)
    return [run for _, run in found]


def entry_of(name: str, new: Sequence[Mapping[str, Any]], before: Entry | None) -> Entry:
    """The entry with the runs that it had and new ones."""
    keys = ("experiment", "network", "seed")
    known = {tuple(run[key] for key in keys): run for run in (*(before.runs if before else ()), *new)}
    runs = [known[key] for key in sorted(known)]
    what, warning = NAMES[name]
    paper = dataclasses.asdict(PAPER)
    shown = ("batch_size", "rate_per_256", "momentum", "weight_decay", "augmentation", "mean_image")
    return make_entry(
        name, what, "python -m benchmarks.cifar_runs --data CIFAR --runs RUNS", runs,
        settings={key: paper[key] for key in shown}, seeds=sorted({run["seed"] for run in runs}), note=warning + NOTE,
    )  # fmt: skip
