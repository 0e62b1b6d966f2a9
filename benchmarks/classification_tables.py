"""Generated tables of classifiers: one small function each, as in `tables`."""

from __future__ import annotations

from benchmarks.tables import NOT_RUN, Entries, Table, sources
from resnet_backbone.engine.text import markdown
from resnet_backbone.models.variants import title


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


def augmentation_speed(entries: Entries) -> list[str]:
    """A worker's time by where images are augmented."""
    entry = entries.get("augmentation-speed")
    header = ("recipe", "photographs", "way", "ms a view", "to the first [quartiles]")
    rows = [
        (
            run["recipe"], run["data"], run["way"], f"{run['ms']:.2f}",
            f"{run['ratio']:.2f} [{run['ratio_q1']:.2f}, {run['ratio_q3']:.2f}]",
        )
        for run in (entry.runs if entry else [])
    ]  # fmt: skip
    return markdown(header, rows or [("all", *[NOT_RUN] * 4)]) + sources(entry)


def _known(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


CLASSIFIER_SPEED, CIFAR_SPEED = "classifier-speed", "cifar-speed"


def classifier_speed(entries: Entries) -> list[str]:
    """Training steps of ours beside torchvision's and timm's."""
    entry = entries.get(CLASSIFIER_SPEED)
    header = (
        "network", "batch", "switches of all", "whose", "images/s", "ours is faster by [quartiles]", "memory, MiB",
        "of its arithmetic", "of its bandwidth",
    )  # fmt: skip
    if entry is None:
        return markdown(header, [(title(network), *[NOT_RUN] * 8) for network in ("resnet50", "resnet101")])
    rows = []
    for run in entry.runs:
        first = (title(run["network"]), str(run["batch"]), run["switches"], run["maker"])
        if run["images_s"] is None:
            why = "does not fit" if run["installed"] else f"{NOT_RUN}: {run['maker']} not installed"
            rows.append((*first, why, *[""] * 4))
            continue
        memory = "–" if run["peak_mb"] is None else f"{run['peak_mb']:,.0f}"
        ratio = f"{run['ratio']:.2f} [{run['ratio_q1']:.2f}, {run['ratio_q3']:.2f}]"
        of_card = (f"{run[key]:.0f} %" for key in ("arithmetic_percent", "memory_percent"))
        rows.append((*first, f"{run['images_s']:,.0f}", "" if run["maker"] == "ours" else ratio, memory, *of_card))
    return markdown(header, rows) + sources(entry)


def cifar_speed(entries: Entries) -> list[str]:
    """CIFAR's networks by the tool's loop."""
    entry = entries.get(CIFAR_SPEED)
    header = ("network", "step", "device", "images/s", "50,000 images, s", "eager is slower by")
    if entry is None:
        return markdown(header, [(title(f"cifar_resnet{n}"), *[NOT_RUN] * 5) for n in (20, 56, 110)])
    rows = [
        (
            title(run["network"]), run["mode"], run["device"], f"{run['images_s']:,.0f}", f"{run['epoch_s']:.2f}",
            f"{run['ratio']:.2f}",
        )
        for run in entry.runs
    ]  # fmt: skip
    return markdown(header, rows) + sources(entry)


TABLES: dict[str, Table] = {
    "cifar-weights": cifar_weights,
    "imagenet-protocols": imagenet_protocols,
    "image-loading": image_loading,
    "augmentation-speed": augmentation_speed,
    CLASSIFIER_SPEED: classifier_speed,
    CIFAR_SPEED: cifar_speed,
}
