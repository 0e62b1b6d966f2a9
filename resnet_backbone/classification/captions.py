"""What stands under a figure: data, schedule and seeds, so that nobody takes a short run for the paper's."""

from __future__ import annotations

from collections.abc import Sequence

from resnet_backbone.classification.curves import Group, Series
from resnet_backbone.classification.paper import RunLength


def schedule(group: Group) -> str:
    """One or two sentences on iterations, batch and steps, with the paper's where they differ."""
    length, paper = group.length, group.paper
    said, printed = _length(length, group), _length(paper, None)
    if group.cifar and length == paper:
        return f"The paper's schedule: {said}."
    if length.iterations * length.batch_size < paper.iterations * paper.batch_size:
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


def _length(length: RunLength, group: Group | None) -> str:
    """As "64,000 iterations of 128 images, rate divided by 10 at 32,000 and 48,000"; no group: the paper's."""
    steps = [f"{step:,}" for step in length.steps]
    listed = " and ".join(filter(None, [", ".join(steps[:-1]), *steps[-1:]]))
    rate = f"rate divided by 10 at {listed}" if steps else ""
    if not steps and group is None:
        rate = "rate divided by 10 where the error no longer falls"
    elif not steps and group is not None and "schedule" in group.runs[0].settings:
        rate = f"rate by {group.runs[0].settings['schedule']}"
    limit = "" if steps or group is not None else "up to "
    return ", ".join(filter(None, [f"{limit}{length.iterations:,} iterations of {length.batch_size} images", rate]))
