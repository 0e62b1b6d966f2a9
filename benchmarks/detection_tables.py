"""Generated tables of training and evaluating detectors: one small function each, as in `tables`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.record import Run
from benchmarks.tables import NOT_RUN, Entries, Table, sources, spread
from resnet_backbone.engine.text import markdown

VOC = {"voc-stock": "stock Detectron2", "voc-ours": "ours"}
VOC_METRICS = ("voc_ap11", "voc_ap", "voc_detectron2_ap11", "voc_detectron2_ap")


def voc(entries: Entries) -> list[str]:
    """Faster R-CNN on VOC photographs, ours beside stock."""
    header = (
        "trained by", "11 points", "all points", "11 points, as `voc_eval` rounds", "all points, as `voc_eval` rounds",
        "COCO AP", "runs",
    )  # fmt: skip
    rows = []
    for name, label in VOC.items():
        runs = entries[name].runs if name in entries else []
        values = (spread([run[key] for run in runs]) for key in (*VOC_METRICS, "AP"))
        rows.append((label, *values, str(len(runs))))
    return markdown(header, rows) + sources(*(entries.get(name) for name in VOC))


def voc_classes(entries: Entries) -> list[str]:
    """The same, class by class."""
    runs = {name: entries[name].runs if name in entries else [] for name in VOC}
    header = (
        "class",
        "objects in val",
        *(f"{label}, {p}" for label in VOC.values() for p in ("11 points", "all points")),
    )
    known: dict[str, Any] = next((found[0]["classes"] for found in runs.values() if found), {})
    rows = [
        (name, str(one["objects"]), *(_of_class(runs[who], name, key) for who in VOC for key in ("ap11", "ap")))
        for name, one in sorted(known.items(), key=lambda item: (-item[1]["objects"], item[0]))
    ]
    return markdown(header, rows or [("all", *[NOT_RUN] * 5)])


def _of_class(runs: Sequence[Run], name: str, key: str) -> str:
    return spread([run["classes"][name][key] for run in runs])


def mapper_speed(entries: Entries) -> list[str]:
    """From a file to a training image, ours beside Detectron2's mapper."""
    entry = entries.get("mapper-speed")
    header = (
        "photographs", "shorter side", "Detectron2's, ms an image", "ours, ms an image", "ours is faster by [rounds]",
        "largest difference", "mean difference",
    )  # fmt: skip
    rows = [
        (
            f"{run['images']} of {run['data']}", str(run["side"]), f"{run['stock_ms']:.1f}", f"{run['ours_ms']:.1f}",
            f"{run['ratio']:.2f} [{run['ratio_min']:.2f}, {run['ratio_max']:.2f}]", str(run["largest_difference"]),
            f"{run['mean_difference']:.4f}",
        )
        for run in (entry.runs if entry else [])
    ]  # fmt: skip
    return markdown(header, rows or [("all", *[NOT_RUN] * 6)]) + sources(entry)


def mask_coco(entries: Entries) -> list[str]:
    """The same detections by our evaluation and by pycocotools, every digit."""
    entry = entries.get("mask-coco")
    header = ("percent", "boxes, ours", "boxes, pycocotools", "masks, ours", "masks, pycocotools", "equal")
    if entry is None:
        return markdown(header, [("all twelve", *[NOT_RUN] * 5)])
    (run,) = entry.runs
    columns = [run[f"{kind}_{who}"] for kind in ("bbox", "segm") for who in ("ours", "pycocotools")]
    rows = []
    for name in columns[0]:
        values = [column[name] for column in columns]
        equal = values[0] == values[1] and values[2] == values[3]
        rows.append((name, *(str(value) for value in values), "yes" if equal else "no"))
    lines = ["", f"{run['detections']} detections."]
    return [*markdown(header, rows), *lines, *sources(entry)]


def mask_balloon(entries: Entries) -> list[str]:
    """Mask R-CNN on balloons."""
    entry = entries.get("mask-balloon")
    keys = [f"{kind}_{key}" for kind in ("bbox", "segm") for key in ("AP", "AP50", "AP75")]
    header = ("seed", *(f"{kind} {key}" for kind in ("box", "mask") for key in ("AP", "AP50", "AP75")), "iterations")
    rows = [
        (str(run["seed"]), *(spread([run[key]]) for key in keys), str(entry.settings["SOLVER.MAX_ITER"]))
        for run in (entry.runs if entry else [])
        if entry
    ]
    return markdown(header, rows or [("all", *[NOT_RUN] * 7)]) + sources(entry)


def coco_size(entries: Entries) -> list[str]:
    """Start-up and memory on annotations of COCO's size, ours beside stock."""
    entry = entries.get("coco-size")
    header = (
        "trained by", "first iteration after, s", "main process, PSS (RSS) MiB", "its peak, RSS MiB",
        "each worker, PSS (RSS) MiB", "all, PSS MiB",
    )  # fmt: skip
    labels = {"ours-user": "ours, `DATA.*`", "ours-registered": "ours, registered set", "stock": "stock Detectron2"}
    rows = [
        (
            labels[run["trained_by"]], f"{run['first_iteration_s']:.0f}", f"{run['main_pss']} ({run['main_rss']})",
            str(run["peak_rss"]), ", ".join(f"{p} ({r})" for p, r in zip(run["worker_pss"], run["worker_rss"])),
            str(run["all_pss"]),
        )
        for run in (entry.runs if entry else [])
    ]  # fmt: skip
    checked = entries.get("coco-size-check")
    said = [
        f"`--check` of the same data: {run['seconds']:.0f} s, exit code {run['exit_code']}, "
        f"{run['peak_rss']} MiB at most."
        for run in (checked.runs if checked else [])
    ]
    lines = ["", *said] if said else []
    return [*markdown(header, rows or [("all", *[NOT_RUN] * 5)]), *lines, *sources(entry)]


def mistakes(entries: Entries) -> list[str]:
    """What `--check` says of broken copies of real data."""
    entry = entries.get("mistakes")
    data = {"bccd": "blood cells", "balloon": "balloons"}
    rows = [
        (
            run["mistake"], data[run["data"]], str(run["exit_code"]),
            "<br>".join(f"`{line}`" for line in run["said"]) or "nothing more than of the sound copy",
        )
        for run in (entry.runs if entry else [])
        if run["mistake"] != "none"
    ]  # fmt: skip
    table = markdown(("in the copy", "data", "exit code", "what is said"), rows or [("all", *[NOT_RUN] * 3)])
    sound = [
        f"{data[run['data']]} {run['exit_code']}" for run in (entry.runs if entry else []) if run["mistake"] == "none"
    ]
    lines = ["", f"Exit codes of the sound copies: {', '.join(sound)}."] if sound else []
    return [*table, *lines, *sources(entry)]


def imagenette_bccd(entries: Entries) -> list[str]:
    """One detector from three starts."""
    entry = entries.get("imagenette-bccd")
    keys = ("AP", "AP50", "AP75", "voc_AP50")
    rows = []
    for start in ("random weights", "ResNet-18 of imagenette", "ResNet-18 of ImageNet"):
        runs = [run for run in (entry.runs if entry else []) if run["start"] == start]
        norm = ", ".join(sorted({run["norm"] for run in runs})) or NOT_RUN
        rows.append((start, norm, *(spread([run[key] for run in runs]) for key in keys), str(len(runs))))
    header = ("backbone starts from", "its norms", "AP", "AP50", "AP75", "VOC AP50", "runs")
    return markdown(header, rows) + sources(entry)


TABLES: dict[str, Table] = {
    "imagenette-bccd": imagenette_bccd,
    "coco-size": coco_size,
    "mistakes": mistakes,
    "voc": voc,
    "voc-classes": voc_classes,
    "mapper-speed": mapper_speed,
    "mask-coco": mask_coco,
    "mask-balloon": mask_balloon,
}
