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


def image_loading(entries: Entries) -> list[str]:
    """From a file to a training view, by several ways."""
    entry = entries.get("image-loading")
    header = (
        "way, result", "photographs", "images a second", "to torchvision, float [quartiles]", "largest difference",
        "mean difference", "that of the worst image",
    )  # fmt: skip
    rows = [
        (
            run["way"], run["data"], f"{run['images_per_second']:.0f}",
            f"{run['ratio']:.2f} [{run['ratio_q1']:.2f}, {run['ratio_q3']:.2f}]",
            _known(run["largest_difference"], 0), _known(run["mean_difference"], 3),
            _known(run["worst_image_difference"], 2),
        )
        for run in (entry.runs if entry else [])
    ]  # fmt: skip
    return markdown(header, rows or [("all", *[NOT_RUN] * 6)]) + sources(entry)


def _known(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


TABLES: dict[str, Table] = {
    "cifar-weights": cifar_weights,
    "imagenet-protocols": imagenet_protocols,
    "image-loading": image_loading,
}
