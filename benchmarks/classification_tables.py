"""Generated tables of classifiers: one small function each, as in `tables`."""

from __future__ import annotations

from benchmarks.tables import NOT_RUN, Entries, Table, markdown, sources, title


def cifar_weights(entries: Entries) -> list[str]:
    """CIFAR-10 networks of others through the importer."""
    entry = entries.get("cifar-weights")
    rows = [
        (title(run["network"]), f"`{run['file']}`", f"{run['top1']:,} of {run['images']:,}", f"{run['stated']:,}")
        for run in (entry.runs if entry else [])
    ]
    header = ("network", "file", "right", "by their author")
    return markdown(header, rows or [("all", *[NOT_RUN] * 3)]) + sources(entry)


TABLES: dict[str, Table] = {"cifar-weights": cifar_weights}
