"""The paper's figures and tables of classifiers, out of folders of runs: what `tools/figures.py` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_backbone.classification.figures import captions, plots, summary
from resnet_backbone.classification.figures.curves import Band, Group, Series, group_runs
from resnet_backbone.classification.figures.figures_page import HEAD, Drawn, section
from resnet_backbone.classification.figures.responses import ResponseImages, read_images, response_deviations
from resnet_backbone.classification.figures.run_folders import RunFolder, find_runs
from resnet_backbone.classification.testing.testing import load_network
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.device import find_device
from resnet_backbone.engine.room import disk, refuse
from resnet_backbone.models.counting import count_parameters


@dataclass(frozen=True)
class FigureOptions:
    """What is drawn; see the tool's help.

    Attributes:
        data: test images of Figure 7; None leaves it out.
        limit: how many of them.
        top: end of the error axes in percent; None chooses.
    """

    runs: tuple[Path, ...]
    output: Path
    data: str | Path | None = None
    limit: int = 1000
    top: float | None = None
    device: str = ""


@dataclass(frozen=True)
class Measured:
    """What the weights of runs say, by the run's folder: parameters, and each layer's deviation of responses."""

    parameters: dict[Path, int] = field(default_factory=dict)
    responses: dict[Path, NDArray[np.float64]] = field(default_factory=dict)


def draw_figures(options: FigureOptions, say: Callable[[str], None] = print) -> int:
    """Draws all that the runs have data for, and writes README.md beside it; a line for each.

    Returns:
        0.

    Raises:
        ValueError: no runs, damaged ones, weights of another network, or images that fit none; names file and remedy.
        OSError: nothing can be written.
    """
    if options.top is not None and not 0 < options.top <= 100:
        raise ValueError(f"--top {options.top:g}: an error in percent, above 0 and at most 100")
    refuse([disk(options.output, 0)])
    groups = group_runs(find_runs(options.runs))
    device = find_device(options.device, "--device")
    images = None if options.data is None else read_images(options.data, options.limit)
    measured = _measure([run for group in groups for run in group.runs], images, device)
    page = list(HEAD)
    with plots.style():
        for name, group in _named(groups):
            drawn = list(_draw_group(group, name, measured, images, options))
            page += section(group, drawn)
            for one in drawn:
                say(f"{options.output / one.name}: {one.title}")
    if images is None:
        page += ["Figure 7 is not drawn: it needs test images (`--data`).", ""]
    write_atomically(options.output / "README.md", lambda file: file.write("\n".join(page).encode()))
    say(f"{options.output / 'README.md'}: all of them, with the runs and their settings")
    return 0


def _measure(runs: Sequence[RunFolder], images: ResponseImages | None, device: torch.device) -> Measured:
    found = Measured()
    for run in runs:
        if not run.weights.is_file():
            continue
        network, record = load_network(run.weights)
        if record.variant != run.network:
            raise ValueError(
                f"{run.weights}: weights of {record.variant}, but config.yaml beside them says {run.network}; put the "
                "run's own weights there, or move the run elsewhere"
            )
        found.parameters[run.path] = count_parameters(network)
        if images is not None and images.fit(network):
            deviations = response_deviations(network.to(device), images.batches(record))
            found.responses[run.path] = np.array(list(deviations.values()))
    if images is not None and not found.responses:
        raise ValueError(
            f"--data {images.name}: no run has weights for such images ({images.classes or 'any number of'} classes); "
            "give the runs' own test images, or leave --data out"
        )
    return found


def _named(groups: Sequence[Group]) -> Iterator[tuple[str, Group]]:
    """Names for files; groups that differ in batch or steps alone are numbered."""
    taken: dict[str, int] = {}
    for group in groups:
        taken[group.name] = taken.get(group.name, 0) + 1
        yield group.name + (f"-{taken[group.name]}" if taken[group.name] > 1 else ""), group


def _draw_group(
    group: Group, name: str, measured: Measured, images: ResponseImages | None, options: FigureOptions
) -> Iterator[Drawn]:
    colours = _colours(group.series)
    started = [one for one in group.series if len(one.runs[0].train) or len(one.runs[0].test)]
    pair = _plain_pair(started) if group.cifar else []
    if pair:
        title = "Figure 1: training error (left) and test error (right) of plain networks"
        panels = [_panel(group, pair, colours, "training"), _panel(group, pair, colours, "test")]
        yield _errors(f"figure1-{name}", title, group, pair, panels, options)
    if started:
        kinds = [(title, [s for s in started if s.plain == plain]) for title, plain in (("plain", 1), ("ResNet", 0))]
        panels = [_panel(group, members, colours, "both", title) for title, members in kinds if members]
        number = "6" if group.cifar else "4"
        title = f"Figure {number}: training error (thin) and {_tested(group)} error (bold)"
        yield _errors(f"figure{number}-{name}", title, group, started, panels, options)
    kept = [(one, tuple(run for run in one.runs if run.path in measured.responses)) for one in group.series]
    responding = [Series(one.label, runs) for one, runs in kept if runs]
    if responding and images is not None:
        yield _responses(f"figure7-{name}", group, responding, measured, images, colours, options)
    rows = summary.table_rows(group, measured.parameters)
    if rows:
        yield _table(f"{'table6' if group.cifar else 'table2'}-{name}", group, rows, options)


def _tested(group: Group) -> str:
    return "test" if group.cifar else "validation"


def _plain_pair(series: Sequence[Series]) -> list[Series]:
    """The plain networks of Figure 1: 20 and 56 layers, or else the shallowest and the deepest."""
    plain = [one for one in series if one.plain]
    depths = {one.variant.depth for one in plain}
    if len(depths) < 2:
        return []
    chosen = {20, 56} if {20, 56} <= depths else {min(depths), max(depths)}
    return [one for one in plain if one.variant.depth in chosen]


def _colours(series: Sequence[Series]) -> dict[tuple[bool, str], str]:
    """A colour for each label; one depth has the same as a plain and as a residual network."""
    depths = sorted({one.variant.depth for one in series})
    found: dict[tuple[bool, str], str] = {}
    for one in series:
        used = {colour for (plain, _), colour in found.items() if plain == one.plain}
        first = depths.index(one.variant.depth) % len(plots.COLOURS)
        free = [c for c in (*plots.COLOURS[first:], *plots.COLOURS[:first]) if c not in used]
        found.setdefault((one.plain, one.label), free[0] if free else plots.COLOURS[first])
    return found


def _panel(
    group: Group, series: Sequence[Series], colours: Mapping[tuple[bool, str], str], what: str, title: str = ""
) -> plots.Panel:
    """Axes with the series' "training" or "test" error, or "both"."""
    scale, x_label = plots.iteration_axis(group.iterations)
    lines: list[plots.Line] = []
    for one in series:
        colour, progress = colours[one.plain, one.label], one.progress
        train, test = one.train(group.window), one.test()
        main = train if what == "training" else test
        name, *settings = one.label.split(" (", 1)
        label = "\n(".join([f"{name}  {main.mean[-1]:.2f}" if len(main.mean) else name, *settings])
        label += f"\n({progress.replace(': ', ':' + chr(10))})" if progress else ""
        if what != "test":
            untested = what == "training" or not len(test.mean)
            lines.append(_line(train, scale, colour, label if untested else "", bold=what == "training"))
        if what != "training":
            lines.append(_line(test, scale, colour, label, bold=True))
    y_label = "error (%)" if what == "both" else f"{what} error (%)"
    return plots.Panel(title, x_label, y_label, tuple(lines))


def _line(band: Band, scale: float, colour: str, label: str, *, bold: bool) -> plots.Line:
    return plots.Line(band.iterations / scale, band.mean, colour, band.deviation, label, bold=bold, dashed=not bold)


def _errors(
    name: str, title: str, group: Group, series: Sequence[Series], panels: Sequence[plots.Panel], options: FigureOptions
) -> Drawn:
    """One figure of curves."""
    scale, _ = plots.iteration_axis(group.iterations)
    tested = [one for one in series if len(one.runs[0].test)]
    ends = [np.mean(one.errors) for one in tested if one.finished] or [np.mean(one.errors) for one in tested]
    low, high = axis(np.array(ends))
    if options.top is not None:
        low, high = (low if low < options.top else 0.0), options.top
    labelled = [line for panel in panels for line in panel.lines if line.label and len(line.y)]
    outside = [f"{line.label.split('  ')[0]} ({line.y[-1]:.2f} %)" for line in labelled if line.y[-1] > high]
    both = any(line.dashed for panel in panels for line in panel.lines)
    means = f"means of {group.window:,} iterations"
    caption = " ".join(filter(None, [
        f"{captions.data(group)}. {captions.schedule(group)}",
        f"Bold: {_tested(group)} error, with the last one in percent; dashed: training error, {means}."
        if both else f"Numbers: last error in percent; training error: {means}.",
        captions.bands(series), captions.seeds(series),
        f"Outside of the axes: {', '.join(outside)}." if outside else "",
    ]))  # fmt: skip
    figure = plots.draw_panels(
        panels, caption, x_limits=(0, group.iterations / scale), y_limits=(low, high),
        bold=_tested(group) if both else "",
    )  # fmt: skip
    plots.save(figure, options.output / name)
    return Drawn(name, title, caption)


def axis(ends: NDArray[np.float64]) -> tuple[float, float]:
    """Both ends of an axis of errors: room above the lines' `ends`, without those over three times their median.

    From 0, or where all ends are over 25 %, as on ImageNet, from a ten below them.
    """
    if not len(ends):
        return 0.0, 100.0
    shown = ends[ends <= 3 * np.median(ends)]
    low = 10 * np.floor(0.8 * shown.min() / 10) if shown.min() > 25 else 0.0
    return float(low), float(min(max(5 * np.ceil(1.8 * shown.max() / 5), 5), 100))


def _responses(
    name: str, group: Group, series: Sequence[Series], measured: Measured, images: ResponseImages,
    colours: Mapping[tuple[bool, str], str], options: FigureOptions,
) -> Drawn:  # fmt: skip
    """Figure 7."""
    panels = []
    for x_label, ranked in (("layer", False), ("layer, by the size of its response", True)):
        lines = []
        for one in series:
            values = np.stack([measured.responses[run.path] for run in one.runs])
            mean = (-np.sort(-values, axis=1) if ranked else values).mean(axis=0)
            x = np.arange(1, len(mean) + 1, dtype=np.float64)
            colour = colours[one.plain, one.label]
            lines.append(plots.Line(x, mean, colour, label="" if ranked else one.label, dashed=one.plain))
        panels.append(plots.Panel("", x_label, "deviation of responses", tuple(lines), legend=not ranked))
    title = "Figure 7: standard deviation of the responses of each 3x3 layer, by depth (top) and sorted (bottom)"
    caption = (
        f"Outputs of the 3x3 layers after batch norm, before the ReLU or the addition, over all channels and places of "
        f"{len(images):,} test images of {images.name}. {captions.schedule(group)} "
        f"{'Mean over the runs. ' if captions.bands(series) else ''}{captions.seeds(series)}"
    )
    deepest = max(len(line.y) for line in panels[0].lines)
    top = 1.08 * max(float(line.y.max()) for line in panels[0].lines)
    figure = plots.draw_panels(panels, caption, x_limits=(0, deepest + 1), y_limits=(0, top), stacked=True)
    plots.save(figure, options.output / name)
    return Drawn(name, title, caption)


def _table(name: str, group: Group, rows: Sequence[summary.Row], options: FigureOptions) -> Drawn:
    """Table 6, or 2 and 3, with its picture."""
    title = "Table 6: test error" if group.cifar else "Tables 2 and 3: top-1 validation error"
    missing = [f"{one.label} ({one.progress})" for one in group.series if not one.finished]
    caption = " ".join(filter(None, [
        f"{captions.data(group)}. {captions.schedule(group)}",
        "" if group.cifar else "Errors as the runs measured them, the paper's by ten crops.",
        "Errors are the runs' last ones: mean and deviation (n\u00a0-\u00a01) over the runs, and the best run.",
        captions.seeds([row.series for row in rows]), f"Not counted: {', '.join(missing)}." if missing else "",
    ]))  # fmt: skip
    lines = summary.as_markdown(group, rows)
    text = "\n".join([f"{title}. {caption}", "", *lines, ""])
    write_atomically(options.output / f"{name}.md", lambda file: file.write(text.encode()))
    summary.write_csv(options.output / f"{name}.csv", group, rows)
    points = summary.as_points(rows)
    if points:
        plots.save(plots.scatter(points, caption, f"{_tested(group)} error (%)"), options.output / name)
    return Drawn(name, title, caption, tuple(lines), picture=bool(points))
