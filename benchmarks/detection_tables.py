"""Generated tables of training and evaluating detectors: one small function each, as in `tables`."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.record import Run
from benchmarks.tables import NOT_RUN, Entries, Table, markdown, sources, spread

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
    known = next((found[0]["classes"] for found in runs.values() if found), {})
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


TABLES: dict[str, Table] = {"voc": voc, "voc-classes": voc_classes, "mapper-speed": mapper_speed}
