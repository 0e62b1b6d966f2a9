"""Runs put together: one series for each recipe, its seeds as mean and deviation, and what may share a figure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resnet_backbone.classification.figures.paper import CIFAR_LENGTH, IMAGENET_LENGTH, RunLength
from resnet_backbone.classification.figures.run_folders import Curve, RunFolder
from resnet_backbone.engine.addresses import without_secrets
from resnet_backbone.models.variants import Variant, title

POINTS = 128
"""Of a training curve at most: the mean of more batches is less noisy."""


@dataclass(frozen=True)
class Band:
    """Mean and deviation (n - 1; 0 for one run) over runs, in percent, at `iterations`; all of shape (N,)."""

    iterations: NDArray[np.int64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One line of a figure: runs that differ in their seed alone, or one that is unfinished.

    Attributes:
        label: the network, and the settings that tell it from others of the figure.
    """

    label: str
    runs: tuple[RunFolder, ...]

    @property
    def variant(self) -> Variant:
        return self.runs[0].variant

    @property
    def plain(self) -> bool:
        return self.runs[0].shortcut == "none"

    @property
    def finished(self) -> bool:
        return self.runs[0].finished

    @property
    def errors(self) -> list[float]:
        """The last test error of each run, in percent."""
        return [run.error for run in self.runs]

    @property
    def progress(self) -> str:
        """ "" of finished runs."""
        return "" if self.finished else f"unfinished: {self.runs[0].progress}"

    def test(self) -> Band:
        """Test error at the evaluations that all runs have."""
        return band([run.test for run in self.runs])

    def train(self, window: int) -> Band:
        """Training error, means over `window` iterations."""
        return band([windowed(run.train, window) for run in self.runs])


@dataclass(frozen=True)
class Group:
    """Series that may share a figure: of the same data, the same length and the same kind of network."""

    cifar: bool
    data: str
    length: RunLength
    series: tuple[Series, ...]

    @property
    def name(self) -> str:
        """For file names: data and length."""
        data = re.sub(r"[^a-z0-9]+", "", self.data.lower()) or ("cifar" if self.cifar else "images")
        return f"{data}-{self.length.length:.10g}{'epochs' if self.length.unit == 'epochs' else ''}"

    @property
    def paper(self) -> RunLength:
        """The paper's length for such networks."""
        return CIFAR_LENGTH if self.cifar else IMAGENET_LENGTH

    @property
    def runs(self) -> list[RunFolder]:
        return [run for one in self.series for run in one.runs]

    @property
    def iterations(self) -> int:
        """Of the longest run when it is finished, as far as the runs say it."""
        return max(
            (run.total for run in self.runs if run.total is not None), default=max(run.done for run in self.runs)
        )

    @property
    def window(self) -> int:
        """Iterations that one point of a training curve is the mean of."""
        gap = max((_gap(run.train.iterations) for run in self.runs if len(run.train)), default=1)
        return gap * max(round(self.iterations / POINTS / gap), 1)


def group_runs(runs: Sequence[RunFolder]) -> list[Group]:
    """Groups in order of data and length, the longest first; series from shallow to deep.

    Raises:
        ValueError: two finished runs of one recipe and seed, which would count twice.
    """
    found: dict[tuple[bool, str, RunLength], list[RunFolder]] = {}
    for run in runs:
        found.setdefault((run.variant.family == "cifar", run.data, run.length), []).append(run)
    groups = [Group(*key, tuple(_series(members))) for key, members in found.items()]
    return sorted(groups, key=lambda group: (not group.cifar, group.data, -group.iterations))


def _series(runs: Sequence[RunFolder]) -> list[Series]:
    together: list[list[RunFolder]] = []
    for run in runs:
        same = [one for one in together if one[0].recipe == run.recipe and one[0].finished and run.finished]
        if same:
            _refuse_twins(same[0], run)
            same[0].append(run)
        else:
            together.append([run])
    series = [
        Series(_label(members[0], runs), tuple(sorted(members, key=lambda run: run.seed))) for members in together
    ]
    return sorted(series, key=lambda one: (not one.plain, one.variant.depth, one.label, one.runs[0].seed))


def _refuse_twins(runs: Sequence[RunFolder], run: RunFolder) -> None:
    twin = next((one for one in runs if one.seed == run.seed), None)
    if twin is not None:
        raise ValueError(
            f"{twin.path} and {run.path}: both are {run.network} with seed {run.seed} and the same settings, and "
            "would count twice; move one of them elsewhere"
        )


def _label(run: RunFolder, others: Sequence[RunFolder]) -> str:
    """The network's title, with the settings in which other runs of it differ."""
    name = title(run.network)
    basic = run.variant.family == "resnet" and run.variant.block == "basic" and run.shortcut != "none"
    if basic:  # Tables 2 and 3 tell these by their letter
        name = f"{name} {run.shortcut}"
    twins = [other.recipe for other in others if other.network == run.network and other.shortcut == run.shortcut]
    keys = sorted({key for twin in twins for key in {**twin, **run.recipe} if twin.get(key) != run.recipe.get(key)})
    settings = ", ".join(_setting(key, run.recipe.get(key)) for key in keys)
    return f"{name} ({settings})" if settings else name


def _setting(key: str, value: object) -> str:
    """Of weights the file and its folder: where that lies is one machine's, and an address may have keys in it."""
    if key != "weights":
        return f"{key} {value}"
    return f"weights {'/'.join(without_secrets(str(value)).split('/')[-2:]).strip('/')}" if value else "no weights"


def windowed(curve: Curve, window: int) -> Curve:
    """Means over windows that end at multiples of `window`, each point weighted by the iterations that it stands for.

    A point stands at the end of its window, so that runs with points elsewhere have theirs in the same places; the
    last window may be shorter.
    """
    if not len(curve):
        return curve
    # Before the first point there may have been a warm-up without any.
    before = max(int(curve.iterations[0]) - _gap(curve.iterations), 0)
    weights = np.diff(curve.iterations, prepend=before).astype(np.float64)
    ends, places = np.unique(-(-curve.iterations // window) * window, return_inverse=True)
    means = np.bincount(places, weights * curve.errors) / np.bincount(places, weights)
    return Curve(np.minimum(ends, curve.iterations[-1]), means)


def _gap(iterations: NDArray[np.int64]) -> int:
    """Iterations between two points, mostly."""
    return int(np.median(np.diff(iterations))) if len(iterations) > 1 else int(iterations[0])


def band(curves: Sequence[Curve]) -> Band:
    """Mean and deviation over curves, at the iterations that all of them have."""
    common = curves[0].iterations
    for curve in curves[1:]:
        common = np.intersect1d(common, curve.iterations)
    values = np.stack([curve.errors[np.isin(curve.iterations, common)] for curve in curves])
    deviation = values.std(axis=0, ddof=1) if len(curves) > 1 else np.zeros(len(common))
    return Band(common, values.mean(axis=0), deviation)
