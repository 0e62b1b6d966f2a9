"""Table 6, and Tables 2 and 3 in one: errors of finished runs over their seeds beside the paper's printed ones."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_backbone.classification.figures import paper
from resnet_backbone.classification.figures.curves import Group, Series
from resnet_backbone.classification.figures.plots import COLOURS, GREY, Points
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.text import markdown, spread


@dataclass(frozen=True)
class Row:
    """One network.

    Attributes:
        parameters: counted from the weights; None where no run has kept any.
        paper: the error in percent that the paper prints for it; None where it prints none.
        printed: that, as printed.
    """

    series: Series
    parameters: int | None
    paper: float | None
    printed: str

    @property
    def best(self) -> float:
        """The lowest of the runs' last errors: what the paper gives for 110 layers."""
        return min(self.series.errors)

    @property
    def mean(self) -> float:
        return float(np.mean(self.series.errors))

    @property
    def deviation(self) -> float | None:
        """Over the runs (n - 1); None for a single one."""
        return float(np.std(self.series.errors, ddof=1)) if len(self.series.runs) > 1 else None


def table_rows(group: Group, parameters: Mapping[Path, int]) -> list[Row]:
    """A row of each finished series.

    Args:
        parameters: of the network in a run's folder.
    """
    rows = []
    for one in group.series:
        if one.finished:
            counts = [parameters[run.path] for run in one.runs if run.path in parameters]
            rows.append(Row(one, counts[0] if counts else None, *_of_the_paper(group, one)))
    return rows


def _of_the_paper(group: Group, series: Series) -> tuple[float | None, str]:
    """The paper's error, and how it prints it; for its own data and shortcut option only."""
    run = series.runs[0]
    if group.data not in ("", "CIFAR-10" if group.cifar else "ImageNet"):
        return None, ""
    if group.cifar:
        error = paper.CIFAR.get(run.network) if run.shortcut == series.variant.shortcut else None
    else:
        names = (f"{run.network} {run.shortcut}", run.network)
        error = next((paper.TEN_CROP[name][0] for name in names if name in paper.TEN_CROP), None)
    if error is None:
        return None, ""
    return error, paper.CIFAR_PRINTED.get(run.network, f"{error:.2f}")


def paper_column(group: Group) -> str:
    """The head of the paper's column, with what its numbers are of."""
    return "paper: CIFAR-10, 64,000 iterations (%)" if group.cifar else "paper: ImageNet, 10-crop (%)"


def as_markdown(group: Group, rows: Sequence[Row]) -> list[str]:
    """The table's lines."""
    header = (
        "network",
        "parameters",
        f"{group.length.unit}, batch",
        "runs",
        "error (%)",
        "best (%)",
        paper_column(group),
    )
    length = f"{group.length.length:,.10g}, {group.length.batch_size}"
    return markdown(header, [
        (
            row.series.label, "–" if row.parameters is None else f"{row.parameters:,}", length,
            str(len(row.series.runs)), spread(row.series.errors, 2), f"{row.best:.2f}", row.printed or "–",
        )
        for row in rows
    ])  # fmt: skip


def write_csv(path: Path, group: Group, rows: Sequence[Row]) -> None:
    """The same for programs: errors to six digits, empty where there is no number.

    Raises:
        OSError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow((
        "network", "label", "data", "parameters", "length", "unit", "batch_size", "steps", "runs", "seeds",
        "error_mean", "error_deviation", "error_best", "paper", "paper_printed", "paper_iterations",
    ))  # fmt: skip
    for row in rows:
        runs, length = row.series.runs, group.length
        writer.writerow((
            runs[0].network, row.series.label, group.data, row.parameters, f"{length.length:.10g}", length.unit,
            length.batch_size, " ".join(f"{step:.10g}" for step in length.steps), len(runs),
            " ".join(str(run.seed) for run in runs), f"{row.mean:.6g}",
            "" if row.deviation is None else f"{row.deviation:.6g}", row.best, row.paper, row.printed,
            "" if row.paper is None else group.paper.length,
        ))  # fmt: skip
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def as_points(rows: Sequence[Row]) -> list[Points]:
    """Parameters against error: plain and residual networks, and the paper's residual ones."""
    counted = sorted((row for row in rows if row.parameters is not None), key=lambda row: row.parameters or 0)
    points = []
    for label, marker, colour, plain in (("plain", "s", COLOURS[0], True), ("ResNet", "o", COLOURS[1], False)):
        ours = [row for row in counted if row.series.plain == plain]
        theirs = [row for row in ours if row.paper is not None]
        if ours:
            shown = _points([(r.parameters, r.mean, r.deviation) for r in ours])
            depths = tuple(str(r.series.variant.depth) for r in ours)
            points.append(Points(label, marker, colour, shown, depths, names_below=not plain))
        if theirs:
            shown = _points([(r.parameters, r.paper, None) for r in theirs])
            points.append(Points(f"{label}, printed in the paper", marker, GREY, shown, hollow=True))
    return points


def _points(rows: Sequence[tuple[int | None, float | None, float | None]]) -> NDArray[np.float64]:
    return np.array([((count or 0) / 1e6, error or 0.0, deviation or 0.0) for count, error, deviation in rows])
