"""The drawing of figures of runs, as a paper prints them: matplotlib and nothing that knows files of runs."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from resnet_backbone.engine.atomic import write_atomically

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
"""Okabe and Ito's, which colour-blind people tell apart; without their yellow, too pale for lines."""
GREY = "#555555"
_DASHES, _BOLD = (0, (4, 1.5)), 1.3
LETTERS = 24
"""Of a label at most in one row."""
SIZE = 7.2
"""Width of a figure in inches: both columns of a paper."""
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif", "font.size": 7.5, "axes.titlesize": 8.5, "axes.labelsize": 8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "lines.solid_capstyle": "round",
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.direction": "in", "ytick.direction": "in",
    "axes.grid": True, "grid.linewidth": 0.4, "grid.color": "#E4E4E4", "axes.axisbelow": True, "legend.frameon": False,
    "legend.fontsize": 7,
    # Text stays text, and the same figure is the same file.
    "svg.fonttype": "none", "svg.hashsalt": "resnet_backbone",
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One curve, and how it is drawn.

    Attributes:
        deviation: on either side of `y`; None or zeros: nothing is shaded.
        label: at its end, or in the legend; "" for none.
        bold: test error is bold, training error thin and dashed.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    colour: str
    deviation: NDArray[np.float64] | None = None
    label: str = ""
    bold: bool = True
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes; `legend` has the labels in a corner instead of at the lines' ends."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    legend: bool = False


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures, for the time of a `with`."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not as a user's own matplotlibrc has it
        matplotlib.rcParams.update(_STYLE)
        yield


def draw_panels(
    panels: Sequence[Panel], caption: str, *, x_limits: tuple[float, float],
    y_limits: tuple[float, float] | None = None, stacked: bool = False, bold: str = "",
) -> Figure:  # fmt: skip
    """Panels side by side or one above the other, all with the same axes, and a caption below.

    Args:
        bold: what bold lines are, where dashed ones are training errors: a small legend says it.
    """
    rows, columns = (len(panels), 1) if stacked else (1, len(panels))
    width = SIZE if len(panels) > 1 else 0.6 * SIZE
    letters = max((len(row) for panel in panels for line in panel.lines for row in _wrapped(line.label)), default=0)
    room = 0.2 + 0.055 * letters + (0.35 if panels[0].legend else 0.0)
    figure, axes = _canvas(rows, columns, width, 1.7 if stacked else 2.6, caption, room, bool(panels[0].title))
    for panel, one in zip(panels, axes):
        for line in panel.lines:
            _draw_line(one, line)
        one.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label, xlim=x_limits, ylim=y_limits)
        one.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        one.tick_params(labelleft=True, labelbottom=True)
    for panel, one in zip(panels, axes):
        if panel.legend:
            one.legend(loc="upper left", bbox_to_anchor=(1.0, 1.03))
        else:
            _label_ends(one, panel.lines)
    if bold:
        _explain(axes[0], bold)
    return figure


@dataclass(frozen=True)
class Points:
    """A row of points: parameters in millions, error and its deviation in percent (N,3); hollow ones are dotted.

    Attributes:
        names: above the points, or below; none where it is empty.
    """

    label: str
    marker: str
    colour: str
    rows: NDArray[np.float64]
    names: tuple[str, ...] = ()
    names_below: bool = False
    hollow: bool = False


ALIKE = 1.15
"""Numbers of parameters of a smaller ratio have one tick."""


def scatter(points: Sequence[Points], caption: str, y_label: str) -> Figure:
    """Parameters against error."""
    figure, (axes,) = _canvas(1, 1, 0.6 * SIZE, 2.6, caption, labels=0.15, titled=True)
    for one in points:
        x, y, deviation = one.rows.T
        axes.errorbar(
            x, y, np.where(deviation > 0, deviation, np.nan), label=one.label, marker=one.marker, color=one.colour,
            linewidth=1.0, markersize=4.5, capsize=2, linestyle=":" if one.hollow else "-",
            markerfacecolor="white" if one.hollow else one.colour, zorder=3 if one.hollow else 2,
        )  # fmt: skip
        side = -1 if one.names_below else 1
        for name, (place, error, spread) in zip(one.names, one.rows):
            axes.annotate(
                name, (place, error + side * spread), (0, 8 * side), textcoords="offset points",
                ha="center", va="center", color=one.colour,
            )  # fmt: skip
    highest = max(float((one.rows[:, 1] + one.rows[:, 2]).max()) for one in points)
    axes.set(xscale="log", xlabel="parameters (millions)", ylabel=y_label, ylim=(0, 1.2 * highest))
    axes.margins(x=0.08)
    axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    sizes = np.unique(np.concatenate([one.rows[:, 0] for one in points]))
    alike = sizes[-1] < ALIKE * sizes[0]
    ticks = [sizes[0], sizes[-1]] if alike else _apart(sizes)
    axes.set_xticks(ticks, [f"{tick:{'.4g' if alike else '.3g'}}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    # Above the axes, where no point can be.
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.02), ncols=3, borderaxespad=0.0)
    return figure


def _apart(values: Sequence[float] | NDArray[np.float64], ratio: float = ALIKE) -> list[float]:
    """Of rising values those at least `ratio` times the one before."""
    kept: list[float] = []
    for value in values:
        if not kept or value >= ratio * kept[-1]:
            kept.append(float(value))
    return kept


def save(figure: Figure, path: Path) -> list[Path]:
    """Writes `path` with .png (200 dots an inch) and with .svg (text as text)."""
    files = []
    for suffix, metadata in ((".png", {}), (".svg", {"Date": None})):
        encoded = io.BytesIO()
        figure.savefig(encoded, format=suffix[1:], dpi=200, metadata=metadata)
        files.append(path.with_name(path.name + suffix))
        write_atomically(files[-1], lambda file, data=encoded: file.write(data.getvalue()))  # type: ignore[misc]
    return files


def iteration_axis(iterations: int) -> tuple[float, str]:
    """What iterations are divided by, and the axis's label: the paper's 1e4 for long runs."""
    scale, text = (10_000, " (1e4)") if iterations >= 20_000 else (1000, " (1e3)") if iterations >= 2000 else (1, "")
    return scale, f"iterations{text}"


def spread_apart(places: ArrayLike, heights: ArrayLike) -> NDArray[np.float64]:
    """Places of labels, moved as little as possible (least squares) so that none overlaps another.

    Args:
        places: where each would be, its middle.
        heights: of each.
    """
    wanted, height = np.asarray(places, np.float64), np.asarray(heights, np.float64)
    order = np.argsort(wanted, kind="stable")
    gaps = (height[order][1:] + height[order][:-1]) / 2
    offsets = np.concatenate([[0.0], np.cumsum(gaps)])
    blocks: list[tuple[float, int]] = []  # mean, labels: neighbours that push each other move as one
    for value in wanted[order] - offsets:
        mean, count = float(value), 1
        while blocks and blocks[-1][0] > mean:
            before, many = blocks.pop()
            mean, count = (mean * count + before * many) / (count + many), count + many
        blocks.append((mean, count))
    moved = np.concatenate([np.full(count, mean) for mean, count in blocks]) + offsets
    result = np.empty_like(moved)
    result[order] = moved
    return result


def _canvas(
    rows: int, columns: int, width: float, height: float, caption: str, labels: float, titled: bool = False
) -> tuple[Figure, list[Axes]]:
    """Axes with `labels` inches on their right, and the caption below."""
    lines = textwrap.wrap(caption, round(width * 22))
    left, below, above, between = 0.5, 0.52 + 0.12 * len(lines), 0.28 if titled else 0.1, 0.55
    total = rows * height + between * (rows - 1) + below + above
    across = (width - columns * (left + labels)) / columns
    figure = Figure(figsize=(width, total))
    found = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(
        left=left / width, right=1 - labels / width, bottom=below / total, top=1 - above / total,
        wspace=(left + labels) / across, hspace=between / height,
    )  # fmt: skip
    figure.text(0.06 / width, 0.06 / total, "\n".join(lines), fontsize=6.2, color=GREY, va="bottom", linespacing=1.35)
    return figure, list(found.flat)


def _explain(axes: Axes, bold: str) -> None:
    """Which lines are bold and which dashed."""
    handles = [
        Line2D([], [], color=GREY, linewidth=_BOLD, label=bold),
        Line2D([], [], color=GREY, linewidth=0.7, linestyle=_DASHES, label="training"),
    ]
    axes.legend(handles=handles, loc="best", handlelength=2.4)


def _draw_line(axes: Axes, line: Line) -> None:
    if line.deviation is not None and line.deviation.any():
        low, high = line.y - line.deviation, line.y + line.deviation
        axes.fill_between(line.x, low, high, color=line.colour, alpha=0.18, linewidth=0)
    axes.plot(
        line.x, line.y, color=line.colour, linewidth=_BOLD if line.bold else 0.7,
        linestyle=_DASHES if line.dashed else "-", label=line.label,
    )  # fmt: skip


def _label_ends(axes: Axes, lines: Sequence[Line]) -> None:
    """Labels right of the axes, each at the height of its line's end, joined to it where it had to move."""
    labelled = [line for line in lines if line.label and len(line.y)]
    if not labelled:
        return
    low, high = axes.get_ylim()
    inches = axes.get_position().height * axes.figure.get_size_inches()[1]  # type: ignore[union-attr]
    ends = np.array([(line.y[-1] - low) / (high - low) for line in labelled])
    heights = 0.115 * np.array([len(_wrapped(line.label)) for line in labelled]) / inches
    places = spread_apart(np.clip(ends, heights / 2, 1 - heights / 2), heights)
    places += max(0.0, -(places - heights / 2).min()) + min(0.0, 1.0 - (places + heights / 2).max())
    for line, place in zip(labelled, places):
        joint = {"arrowstyle": "-", "color": line.colour, "linewidth": 0.4, "shrinkA": 2, "shrinkB": 0}
        axes.annotate(
            "\n".join(_wrapped(line.label)), (line.x[-1], line.y[-1]), (1.06, place), "data",
            ("axes fraction", "axes fraction"), color=line.colour, va="center", fontsize=7, annotation_clip=False,
            arrowprops={**joint, "relpos": (0, 0.5)} if low <= line.y[-1] <= high else None,
        )  # fmt: skip


def _wrapped(label: str) -> list[str]:
    """A label's rows."""
    return [row for part in label.split("\n") for row in textwrap.wrap(part, LETTERS)]
