"""What stands under a figure: data, schedule and seeds, so that nobody takes a short run for the paper's."""

from __future__ import annotations

from collections.abc import Sequence

from resnet_backbone.classification.figures.curves import Group, Series
from resnet_backbone.classification.figures.paper import RunLength


def schedule(group: Group) -> str:
    """One or two sentences on iterations, batch and steps, with the paper's where they differ."""
    said, printed = _length(group), _printed(group.paper)
    if group.cifar and group.length == group.paper:
        return f"The paper's schedule: {said}."
    if group.iterations * group.length.batch_size < group.paper.length * group.paper.batch_size:
        return f"Shortened schedule: {said}; the paper: {printed}."
    return f"Schedule: {said}; the paper: {printed}."


def data(group: Group) -> str:
    """The data set, as far as the runs say it."""
    return group.data or ("CIFAR (the runs do not say which)" if group.cifar else "Data that the runs do not name")


def seeds(series: Sequence[Series]) -> str:
    """Which lines stand for how many runs: "1 run (seed 0) of plain-20, plain-56." """
    by_seeds: dict[str, list[str]] = {}
    for one in series:
        count = f"{len(one.runs)} run{'s' if len(one.runs) > 1 else ''}"
        listed = f"seed{'s' if len(one.runs) > 1 else ''} {', '.join(str(run.seed) for run in one.runs)}"
        key = f"{count} ({'; '.join(filter(None, [listed, one.progress]))})"
        by_seeds.setdefault(key, []).append(one.label)
    return "; ".join(f"{key} of {', '.join(dict.fromkeys(labels))}" for key, labels in by_seeds.items()) + "."


def bands(series: Sequence[Series]) -> str:
    """What is drawn of several runs, where there are several."""
    several = any(len(one.runs) > 1 for one in series)
    return "Mean over the runs, with one deviation (n\u00a0-\u00a01) on either side." if several else ""


def length(group: Group) -> str:
    """As "64,000 iterations", "90 epochs"."""
    return f"{_number(group.length.length)} {group.length.unit}"


def _length(group: Group) -> str:
    """As "64,000 iterations of 128 images, rate divided by 10 at 32,000 and 48,000"."""
    known = any(run.total for run in group.runs)
    inside = f" ({group.iterations:,} iterations)" if group.length.unit == "epochs" and known else ""
    batches = "of" if group.length.unit == "iterations" else "in batches of"
    kind = group.runs[0].settings.get("schedule")
    rate = _steps(group.length) or (f"rate by {kind}" if kind else "")
    return ", ".join(filter(None, [f"{length(group)}{inside} {batches} {group.length.batch_size} images", rate]))


def _printed(paper: RunLength) -> str:
    """The same of the paper's."""
    rate = _steps(paper) or "rate divided by 10 where the error no longer falls"
    limit = "" if paper.steps else "up to "
    return f"{limit}{_number(paper.length)} iterations of {paper.batch_size} images, {rate}"


def _steps(length: RunLength) -> str:
    if not length.steps:
        return ""
    *before, last = (_number(step) for step in length.steps)
    epochs = f"epoch{'s' if before else ''} " if length.unit == "epochs" else ""
    return f"rate divided by 10 at {epochs}{' and '.join(filter(None, [', '.join(before), last]))}"


def _number(value: float) -> str:
    return f"{value:,.10g}"
