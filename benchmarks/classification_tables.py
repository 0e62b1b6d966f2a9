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


def imagenet_protocols(entries: Entries) -> list[str]:
    """Real ImageNet networks, right answers by protocol."""
    entry = entries.get("imagenet-protocols")
    header = ("network", "protocol", "top-1", "top-5", "top-1 error", "top-5 error")
    rows = [
        (
            title(run["network"]), run["protocol"], *(f"{run[k]} of {run['images']}" for k in ("top1", "top5")),
            *(f"{100 - 100 * run[k] / run['images']:.2f}" for k in ("top1", "top5")),
        )
        for run in (entry.runs if entry else [])
    ]  # fmt: skip
    return markdown(header, rows or [("all", *[NOT_RUN] * 5)]) + sources(entry)


TABLES: dict[str, Table] = {"cifar-weights": cifar_weights, "imagenet-protocols": imagenet_protocols}
