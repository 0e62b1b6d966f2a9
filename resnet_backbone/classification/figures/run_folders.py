"""Folders of classifiers' runs, read back: settings, curves of error, and how far each run is."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from resnet_backbone.classification.figures.paper import RunLength
from resnet_backbone.classification.training.checkpoint import DEFAULTS, FREE
from resnet_backbone.classification.training.output import FINAL
from resnet_backbone.engine.jsonlog import read_json_lines
from resnet_backbone.models.variants import Variant, find_variant

TRAIN, TEST = "error", "val/error"
"""Entries of metrics.jsonl: training error since the last line, test error."""
USUAL = json.loads(json.dumps(DEFAULTS, default=str))
"""The same as YAML has it."""
LIKE_ANY = {"seed", *FREE}
"""Settings that are no part of a recipe; runs of one recipe still have to be of the same data."""
DATA = {r"cifar100.*": "CIFAR-100", r"cifar10.*": "CIFAR-10", r"imagenet|ilsvrc2012": "ImageNet"}
"""Titles of data sets, by their name or folder in small letters and digits."""


@dataclass(frozen=True)
class Curve:
    """Errors in percent at rising iterations, both of shape (N,)."""

    iterations: NDArray[np.int64]
    errors: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.iterations)


@dataclass(frozen=True)
class RunFolder:
    """One run.

    Attributes:
        settings: all of config.yaml.
        train: means over the iterations since the point before.
        test: errors of the evaluations.
        done: the last iteration of which there is a line.
    """

    path: Path
    settings: Mapping[str, Any]
    variant: Variant
    length: RunLength
    train: Curve
    test: Curve
    done: int

    @property
    def network(self) -> str:
        return self.variant.name

    @property
    def seed(self) -> int:
        return int(self.settings.get("seed", 0))

    @property
    def data(self) -> str:
        """The data set's title, as "CIFAR-10", or the name of its folder; "" where the settings have none."""
        name = Path(str(self.settings.get("data") or "")).name
        plain = re.sub(r"[^a-z0-9]", "", name.lower())
        return next((known for pattern, known in DATA.items() if re.fullmatch(pattern, plain)), name)

    @property
    def recipe(self) -> dict[str, Any]:
        """The settings that runs over several seeds share."""
        return {key: value for key, value in {**USUAL, **self.settings}.items() if key not in LIKE_ANY}

    @property
    def shortcut(self) -> str:
        """Option A, B, C or "none"."""
        return str(self.settings.get("shortcut") or self.variant.shortcut)

    @property
    def weights(self) -> Path:
        """The file of the finished run."""
        return self.path / FINAL

    @property
    def finished(self) -> bool:
        """By its weights, or by an evaluation at the end where they were not kept."""
        at_end = self.length.unit == "iterations" and len(self.test) and self.test.iterations[-1] >= self.length.length
        return self.weights.is_file() or bool(at_end)

    @property
    def total(self) -> int | None:
        """Iterations of the whole run; None of an unfinished one whose length is in epochs."""
        if self.length.unit == "iterations":
            return int(self.length.length)
        return self.done if self.finished else None

    @property
    def progress(self) -> str:
        """ "300 of 400", "300 of 90 epochs' iterations"."""
        length = f"{self.length.length:g} epochs' iterations" if self.total is None else f"{self.total:,}"
        return f"{self.done:,} of {length}"

    @property
    def error(self) -> float:
        """The last test error, in percent."""
        return float(self.test.errors[-1])


def find_runs(folders: Sequence[str | Path]) -> list[RunFolder]:
    """All runs in and below `folders`; folders of other programs, as detectors' runs, are passed over.

    Raises:
        ValueError: there is none, or one whose files are damaged or contradict each other; names the file.
    """
    found = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder; give one that holds runs of tools/pretrain_imagenet.py")
        for path in sorted(folder.rglob("config.yaml")):
            settings = _settings(path)
            if "network" in settings:
                found[path.parent.resolve()] = read_run(path.parent, settings)
    if not found:
        where = ", ".join(map(str, folders))
        raise ValueError(f"{where}: no runs of classifiers (folders with a config.yaml that says network)")
    return list(found.values())


def read_run(folder: Path, settings: Mapping[str, Any]) -> RunFolder:
    """One run, whose config.yaml says `settings`.

    Raises:
        ValueError: a setting is missing or none of its kind, or metrics.jsonl is damaged.
    """
    config, metrics = folder / "config.yaml", folder / "metrics.jsonl"
    try:
        variant = find_variant(str(settings["network"]))
    except ValueError as error:
        raise ValueError(f"{config}: {error}") from None
    unit = "epochs" if settings.get("epochs") is not None else "iterations"
    steps = settings.get("steps") or []
    if not isinstance(steps, list) or not all(isinstance(step, (int, float)) for step in steps):
        raise ValueError(f"{config}: steps is {steps!r}, not a list of {unit}; restore the file")
    length, batch_size = (_positive(settings, key, config) for key in (unit, "batch_size"))
    points = list(_points(metrics, length if unit == "iterations" else math.inf))
    run = RunFolder(
        folder, settings, variant, RunLength(length, tuple(steps), int(batch_size), unit),
        _curve(points, TRAIN), _curve(points, TEST),
        max((int(iteration) for iteration, _, _ in points), default=0),
    )  # fmt: skip
    if run.finished and (not len(run.test) or run.test.iterations[-1] < run.done):
        raise ValueError(
            f"{metrics}: no {TEST} at the end of a finished run; restore the file, make the end again by --resume, or "
            "move the run elsewhere"
        )
    return run


def _settings(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    return values if isinstance(values, dict) else {}


def _positive(settings: Mapping[str, Any], key: str, path: Path) -> float:
    value = settings.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        said = "is missing" if key not in settings else f"is {value!r}"
        raise ValueError(f"{path}: {key} {said}, not a number above 0; restore the file, or move the run elsewhere")
    return value


def _points(path: Path, iterations: float) -> Iterator[tuple[int, str, float]]:
    """(iteration, TRAIN or TEST, percent) in the order of the file, and (iteration, "", nan) of every line."""
    for values in read_json_lines(path, strict=True):
        iteration = values.get("iteration")
        if not isinstance(iteration, int) or not 0 <= iteration <= iterations:
            raise ValueError(
                f"{path}: a line has the iteration {iteration!r}, but config.yaml says {iterations:g} iterations; the "
                "files are not of one run: restore them, or move the run elsewhere"
            )
        yield iteration, "", math.nan
        for key in (TRAIN, TEST):
            value = values.get(key)
            if value is None:
                continue
            if not isinstance(value, (int, float)) or not 0 <= value <= 100:
                raise ValueError(f"{path}: {key} of iteration {iteration} is {value!r}, not a percentage; restore it")
            yield iteration, key, float(value)


def _curve(points: Sequence[tuple[int, str, float]], key: str) -> Curve:
    # A part that was done again after a resumption has its later line last.
    by_iteration = {iteration: value for iteration, kind, value in points if kind == key}
    iterations = sorted(by_iteration)
    return Curve(np.array(iterations, np.int64), np.array([by_iteration[i] for i in iterations], np.float64))
