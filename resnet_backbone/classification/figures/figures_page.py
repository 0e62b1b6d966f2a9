"""The README.md beside figures: each with its caption, and the runs that it was drawn from with their settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resnet_backbone.classification.figures import captions
from resnet_backbone.classification.figures.curves import Group
from resnet_backbone.classification.figures.run_folders import USUAL
from resnet_backbone.engine.addresses import without_secrets
from resnet_backbone.engine.text import markdown

HEAD = (
    "# Figures", "",
    "Drawn by `tools/figures.py`. All curves and numbers are those of the runs listed below each group; the paper's",
    "own numbers stand in columns and points that are called so. Look at the schedule before you compare.", "",
)  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """One figure or table of the output.

    Attributes:
        name: of its files, without ending.
        title, caption: what stands over and under it.
        table: its lines; none of a figure.
        picture: whether there is one.
    """

    name: str
    title: str
    caption: str
    table: tuple[str, ...] = ()
    picture: bool = True


def section(group: Group, drawn: Sequence[Drawn]) -> list[str]:
    """The lines on a group: its figures, then its runs."""
    lines = [f"## {captions.data(group)}: {captions.length(group)}", "", captions.schedule(group), ""]
    for one in drawn:
        lines += [f"### {one.title}", "", *one.table, *([""] if one.table else [])]
        lines += [f"![{one.title}]({one.name}.png)", ""] if one.picture else []
        lines += [one.caption + (f" ([SVG]({one.name}.svg))" if one.picture else ""), ""]
    return [*lines, "### Runs", "", *_runs(group)]


def _runs(group: Group) -> list[str]:
    """A table with the settings that differ, and a sentence with those that are the same and not the defaults."""
    every = [{**USUAL, **run.settings} for run in group.runs]
    keys = list(dict.fromkeys(key for settings in every for key in settings if key not in ("network", "seed")))
    differing = [key for key in keys if any(settings.get(key) != every[0].get(key) for settings in every)]
    special = [key for key in keys if key not in differing and every[0][key] != USUAL.get(key)]
    common = ", ".join(f"{key} {without_secrets(str(every[0][key]))}" for key in special)
    rows = [
        (
            str(run.path), run.network, str(run.seed), *(without_secrets(str(settings.get(key))) for key in differing),
            run.progress + ("" if run.finished else " (unfinished)"),
            f"{run.error:.2f}" if len(run.test) else "–",
        )
        for run, settings in zip(group.runs, every)
    ]  # fmt: skip
    header = ("run", "network", "seed", *differing, "iterations", "last error (%)")
    return [*markdown(header, rows), "", f"Settings of all of them, beside the defaults: {common}.", ""]
