"""The paper's numbers beside ours, which come from `results.json` alone, or are "not run".

Theirs are typed here, and those that the package itself shows in `classification/figures/paper.py`. Entries called
`reproduction-...` hold ours. A run stands beside the row of the same `experiment` and `network`, and has the row's
keys, in the paper's units: errors in percent, AP in percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.record import Run
from benchmarks.tables import NOT_RUN, Entries, Table, sources, spread
from resnet_backbone.classification.figures import paper
from resnet_backbone.engine.text import markdown
from resnet_backbone.models.variants import title

TENCROP, SCALES = "10-crop", "multi-scale, single model"
CIFAR = "CIFAR-10"
VOC07, VOC12 = "VOC 07 test", "VOC 12 test"
COCO, TESTDEV = "COCO, train to val", "COCO, trainval to test-dev"


@dataclass(frozen=True)
class Row:
    """One line of one of the paper's tables.

    Attributes:
        network: a name of `list_variants()`, with the shortcut option or the gains behind it.
        paper: key of a run: the printed value.
        digits: behind the decimal point, as printed.
        printed: where the paper prints more than one value, as it does.
    """

    experiment: str
    network: str
    paper: Mapping[str, float]
    digits: int = 1
    printed: Mapping[str, str] = field(default_factory=dict)


def _errors(test: str, values: Mapping[str, tuple[float, float | None]]) -> tuple[Row, ...]:
    return tuple(
        Row(test, network, {"top1_error": one} if five is None else {"top1_error": one, "top5_error": five}, 2)
        for network, (one, five) in values.items()
    )


IMAGENET = (
    *_errors(TENCROP, paper.TEN_CROP),
    *_errors(SCALES, {
        "resnet34 B": (21.84, 5.71), "resnet34 C": (21.53, 5.60), "resnet50": (20.74, 5.25), "resnet101": (19.87, 4.60),
        "resnet152": (19.38, 4.49),
    }),
    Row("ensemble of six, test set", "ensemble", {"top5_error": 3.57}, 2),
)  # fmt: skip

PLAIN = tuple(f"cifar_plain{n}" for n in (20, 32, 44, 56))

DETECTION = (
    Row(VOC07, "vgg16", {"AP50": 73.2}),
    Row(VOC07, "resnet101", {"AP50": 76.4}),
    Row(VOC12, "vgg16", {"AP50": 70.4}),
    Row(VOC12, "resnet101", {"AP50": 73.8}),
    Row(COCO, "vgg16", {"AP50": 41.5, "AP": 21.2}),
    Row(COCO, "resnet101", {"AP50": 48.4, "AP": 27.2}),
    Row(COCO, "resnet101 + box refinement", {"AP50": 49.9, "AP": 29.9}),
    Row(COCO, "resnet101 + refinement, context", {"AP50": 51.1, "AP": 30.0}),
    Row(COCO, "resnet101 + refinement, context, multi-scale", {"AP50": 53.8, "AP": 32.5}),
    Row(TESTDEV, "resnet101 + refinement, context", {"AP50": 53.3, "AP": 32.2}),
    Row(TESTDEV, "resnet101 + refinement, context, multi-scale", {"AP50": 55.7, "AP": 34.9}),
    Row(TESTDEV, "ensemble of three", {"AP50": 59.0, "AP": 37.4}),
    Row(f"{VOC07}, from COCO", "resnet101 + all three", {"AP50": 85.6}),
    Row(f"{VOC12}, from COCO", "resnet101 + all three", {"AP50": 83.8}),
    Row("ImageNet DET, val2", "resnet101 + all three", {"AP50": 60.5}),
    Row("ImageNet DET, test", "resnet101 + all three", {"AP50": 58.8}),
    Row("ImageNet DET, val2", "ensemble of three", {"AP50": 63.6}),
    Row("ImageNet DET, test", "ensemble of three", {"AP50": 62.1}),
    Row("ImageNet LOC, val", "RPN", {"top5_error": 14.4}),
    Row("ImageNet LOC, val", "RPN and R-CNN", {"top5_error": 10.6}),
    Row("ImageNet LOC, val", "ensemble", {"top5_error": 8.9}),
    Row("ImageNet LOC, test", "ensemble", {"top5_error": 9.0}),
)
NAMES = {"top1_error": "top-1 error", "top5_error": "top-5 error", "error": "error", "AP50": "AP50", "AP": "AP"}


def runs_of(entries: Entries, row: Row) -> list[Run]:
    """Ours of a row."""
    return [
        run
        for name in sorted(entries)
        if name.startswith("reproduction-")
        for run in entries[name].runs
        if (run["experiment"], run["network"]) == (row.experiment, row.network)
    ]


def printed(row: Row, key: str) -> str:
    """The paper's value as it prints it; a dash where it prints none."""
    return row.printed.get(key) or (f"{row.paper[key]:.{row.digits}f}" if key in row.paper else "–")


def _table(rows: Sequence[Row]) -> Table:
    def render(entries: Entries) -> list[str]:
        lines, used = [], set()
        for row in rows:
            runs = runs_of(entries, row)
            used |= {n for n, e in entries.items() if n.startswith("reproduction-") for run in runs if run in e.runs}
            network, *rest = row.network.split(" ", 1)
            theirs = " / ".join(printed(row, key) for key in row.paper)
            # A run may lack a metric of its row; that number stays "not run".
            values = [spread([run[key] for run in runs if key in run], row.digits) for key in row.paper]
            ours = NOT_RUN if set(values) == {NOT_RUN} else " / ".join(values)
            measured = " / ".join(NAMES[key] for key in row.paper)
            lines.append((row.experiment, " ".join([title(network), *rest]), measured, theirs, ours))
        return markdown(("experiment", "network", "measured", "paper", "ours"), lines) + sources(
            *(entries[name] for name in sorted(used))
        )

    return render


def cifar(entries: Entries) -> list[str]:
    """Table 6, with every run of ours."""
    entry = entries.get("reproduction-cifar")
    runs = [run for run in (entry.runs if entry else []) if run["experiment"] == CIFAR]
    rows = []
    for network in (*PLAIN, *paper.CIFAR):
        known = paper.CIFAR.get(network)
        printed = "Figure 6 alone" if known is None else paper.CIFAR_PRINTED.get(network, f"{known:.2f}")
        rows.append((title(network), printed, *_errors_of([run for run in runs if run["network"] == network])))
    header = ("network", "paper", "ours", "runs", "errors, seed by seed", "arithmetic")
    return markdown(header, rows) + sources(entry)


def cifar_short(entries: Entries) -> list[str]:
    """The same recipe on shorter schedules."""
    entry = entries.get("cifar-short")
    found: dict[tuple[str, str], list[Run]] = {}
    for run in entry.runs if entry else []:
        found.setdefault((run["schedule"], run["network"]), []).append(run)
    rows = [(title(network), schedule, *_errors_of(runs)) for (schedule, network), runs in found.items()]
    header = ("network", "schedule", "ours", "runs", "errors, seed by seed", "arithmetic")
    return markdown(header, rows or [("all", *[NOT_RUN] * 5)]) + sources(entry)


def imagenette(entries: Entries) -> list[str]:
    """Ten classes of ImageNet from scratch, plain beside residual."""
    entry = entries.get("imagenette")
    rows = []
    for network in ("plain18", "resnet18"):
        runs = [run for run in (entry.runs if entry else []) if run["network"] == network]
        training = spread([run["train_error"] for run in runs], 2)
        schedule = ", ".join(sorted({run["schedule"] for run in runs})) or NOT_RUN
        rows.append((title(network), schedule, training, *_errors_of(runs)))
    header = ("network", "schedule", "training error", "ours", "runs", "errors, seed by seed", "arithmetic")
    return markdown(header, rows) + sources(entry)


def _errors_of(runs: Sequence[Run]) -> tuple[str, str, str, str]:
    """Mean and deviation, how many, each, and in what arithmetic."""
    if not runs:
        return (NOT_RUN, "0", NOT_RUN, NOT_RUN)
    runs = sorted(runs, key=lambda run: run["seed"])
    errors = [run["error"] for run in runs]
    arithmetic = ", ".join(sorted({run["precision"] for run in runs}))
    return (spread(errors, 2), str(len(runs)), ", ".join(f"{error:.2f}" for error in errors), arithmetic)


TABLES: dict[str, Table] = {
    "paper-imagenet": _table(IMAGENET),
    "paper-cifar": cifar,
    "cifar-short": cifar_short,
    "imagenette": imagenette,
    "paper-detection": _table(DETECTION),
}
