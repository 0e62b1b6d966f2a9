"""Folders of finished CIFAR runs into `results.json`: everything from their config.yaml and metrics.jsonl.

A run of the paper's own length goes to the entry `reproduction-cifar`, a shorter one to `cifar-short`, which never
stands beside the paper as if it were the same. One that learns in another way than the paper's is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.classifier_runs import config_of, refuse_other_recipes, values_of
from benchmarks.record import RESULTS, Entry, make_entry, merged, read
from benchmarks.record import record as put
from benchmarks.reproduction import CIFAR
from resnet_backbone.classification.figures.paper import CIFAR_LENGTH
from resnet_backbone.classification.figures.run_folders import RunFolder, find_runs
from resnet_backbone.classification.recipe.config import TrainConfig

PAPER = TrainConfig(
    network="cifar_resnet20", iterations=int(CIFAR_LENGTH.length), batch_size=CIFAR_LENGTH.batch_size, rate_per_256=0.2,
    schedule="steps", steps=tuple(map(float, CIFAR_LENGTH.steps)), momentum=0.9, nesterov=False, weight_decay=1e-4,
    augmentation="padded_crop", size=32, test_size=32, test_resize=32, mean_image=True, mean=(0.0, 0.0, 0.0),
    std=(255.0, 255.0, 255.0), exact_norm_images=0,
)  # fmt: skip
"""Sec. 4.2."""
OWN = {"network", "seed", "iterations", "steps", "precision", "channels_last", "deterministic", "accumulate"}
WARMUP = {"warmup", "warmup_share", "warmup_shape", "warmup_until_error"}
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


def run_of(folder: RunFolder, commit: str = "unknown") -> tuple[str, dict[str, Any]]:
    """The name of the entry that a finished run belongs to, and its raw values.

    Args:
        commit: of a run that does not say its own.

    Raises:
        ValueError: it is not finished, or not the paper's recipe on CIFAR-10; names what differs.
    """
    config = config_of(folder)
    _refuse_other_recipes(config, folder)
    whole = (config.iterations, config.steps) == (PAPER.iterations, PAPER.steps)
    return "reproduction-cifar" if whole else "cifar-short", {
        "experiment": CIFAR if whole else f"{CIFAR}, {config.iterations:,} iterations",
        "schedule": schedule_of(config), **values_of(folder, config, commit),
    }  # fmt: skip


def schedule_of(config: TrainConfig) -> str:
    """In words."""
    drops = " and ".join(f"{step:,.0f}" for step in config.steps)
    low = config.rate * config.warmup_share
    if config.warmup_until_error is not None:
        warm = f", at {low:g} until the training error is below {config.warmup_until_error:g} %"
    else:
        warm = f", the first {config.warmup:,.0f} at {low:g}" if config.warmup else ""
    return f"{config.iterations:,} iterations of {config.batch_size}, drops at {drops}{warm}"


def _refuse_other_recipes(config: TrainConfig, folder: RunFolder) -> None:
    if folder.data != CIFAR:
        where = folder.path / "config.yaml"
        raise ValueError(f"{where}: data is {folder.data!r}, not {CIFAR}: only its runs stand beside Table 6")
    ignored = OWN | WARMUP | ({"shortcut"} if config.shortcut == "A" else set())
    refuse_other_recipes(folder, config, PAPER, ignored, "the paper's", "Table 6")


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
    runs = merged(before, new, ("experiment", "network", "seed"))
    what, warning = NAMES[name]
    paper = dataclasses.asdict(PAPER)
    shown = ("batch_size", "rate_per_256", "momentum", "weight_decay", "augmentation", "mean_image")
    return make_entry(
        name, what, "python -m benchmarks.cifar_runs --data CIFAR --runs RUNS", runs,
        settings={key: paper[key] for key in shown}, seeds=sorted({run["seed"] for run in runs}), note=warning + NOTE,
    )  # fmt: skip
