"""Every generated table: one small function each, from the entries of `results.json` to Markdown lines.

A new table is a function and its line in `TABLES`, and `<!-- generated: name -->`, `<!-- end -->` in a document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.record import Entry, Run
from resnet_backbone.engine import text as words
from resnet_backbone.engine.text import markdown
from resnet_backbone.models.variants import title

Entries = Mapping[str, Entry]
Table = Callable[[Entries], list[str]]
NOT_RUN = "not run"


def sources(*entries: Entry | None) -> list[str]:
    """Under a table: where its numbers come from, a paragraph for each entry, and what to know about them."""
    lines = []
    for entry in (e for e in entries if e is not None):
        h, v = entry.hardware, entry.versions
        device = h["gpu"] if h["gpu"] != "none" else f"{h['cores_used']} of {h['cores']} cores of an {h['cpu']}"
        commit, _, changes = v["resnet_backbone"].partition(", with ")
        software = f"torch {v['torch']}, Detectron2 {v['detectron2'].split(',')[0]}, commit {commit}"
        changed = " with uncommitted changes (results.json says where)" if changes else ""
        lines += ["", f"`{entry.command}`, {entry.date}, {device}; {software}{changed}. {entry.note}".strip()]
    return lines


def spread(values: Sequence[float | None], digits: int = 1) -> str:
    """One value as it is; from two on, mean and deviation (n - 1); a dash where there was nothing to measure."""
    known = [value for value in values if value is not None]
    if not known:
        return "–" if values else NOT_RUN
    return words.spread(known, digits)


def share(correct: int, images: int) -> str:
    """Right answers, counted and in percent."""
    return f"{correct} of {images} ({100 * correct / images:.2f} %)"


def weights(entries: Entries) -> list[str]:
    """Accuracy of real files through the importer."""
    entry = entries.get("weights")
    header = ("network", "tensors loaded", "top-1", "top-5", "plain torchvision, top-1 / top-5")
    rows = [
        (
            title(run["network"]), f"{run['tensors']} of {run['of_tensors']}", share(run["top1"], run["images"]),
            share(run["top5"], run["images"]), f"{run['yardstick_top1']} / {run['yardstick_top5']}",
        )
        for run in entry.runs
    ] if entry else [(title(n), *[NOT_RUN] * 4) for n in ("resnet50", "resnet18")]  # fmt: skip
    return markdown(header, rows) + sources(entry)


def verify(entries: Entries) -> list[str]:
    """Right answers under every hypothesis, a column for each place of the stride."""
    entry = entries.get("verify")
    if entry is None:
        return markdown(("channel order, input", "top-1"), [("all hypotheses", NOT_RUN)])
    places = {True: ", stride in 1x1", False: ", stride in 3x3", None: ""}
    columns: dict[str, dict[str, str]] = {}
    order: dict[str, int] = {}
    found = []
    for run in entry.runs:
        for row in run["hypotheses"]:
            key, place = f"{row['channel_order']}, {row['statistics']}", places[row["stride_in_1x1"]]
            text = share(row["correct"], row["images"])
            won = key + place == run["winner"]
            columns.setdefault(title(run["network"]) + place, {})[key] = f"**{text}**" if won else text
            order[key] = max(order.get(key, 0), row["correct"])
        told = run["winner"] != "none"
        verdict = f"found {run['winner']} by itself" if told else "could not tell"
        against = "against the next best" if told else "the best two"
        found.append(
            f"{title(run['network'])}: {verdict} ({against}: p = {run['p_against_next']:.2g}, paired exact test)."
        )
    rows = [
        (key, *(column.get(key, NOT_RUN) for column in columns.values()))
        for key in sorted(order, key=lambda key: -order[key])
    ]
    lines = [line for sentence in found for line in ("", sentence)]
    return [*markdown(("channel order, input", *columns), rows), *lines, *sources(entry)]


def deepen(entries: Entries) -> list[str]:
    """Grown networks beside those that they came from."""
    entry = entries.get("deepen")
    header = (
        "grown",
        "top-1 before",
        "top-1 after",
        "top-5 before",
        "top-5 after",
        "same answer",
        "largest change of a logit",
    )
    rows = [
        (
            f"{title(run['from'])} to {title(run['to'])}", str(run["top1_before"]), str(run["top1"]),
            str(run["top5_before"]), str(run["top5"]), f"{run['same_answer']} of {run['images']}",
f"{run['max_difference']:.1e}" if run["max_difference"] else "none",
        )
        for run in entry.runs
    ] if entry else [("ResNet-50 to ResNet-101", *[NOT_RUN] * 6)]  # fmt: skip
    return markdown(header, rows) + sources(entry)


BCCD = {
    "bccd-stock": "Detectron2's own R50-FPN",
    "bccd-ours": "ours, R50-FPN",
    "bccd-r101": "ours, R101-FPN from R50 by deepen",
}
BCCD_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "voc_AP50")


def bccd(entries: Entries) -> list[str]:
    """Faster R-CNN on real photographs: ours, stock, and what differs seed by seed."""
    header = ("backbone", *BCCD_METRICS[:-1], "VOC AP50", "runs", "iterations", "shorter side", "seconds a run")
    rows = []
    for name, label in BCCD.items():
        runs = entries[name].runs if name in entries else []
        counts = [_constant(runs, "iterations"), _constant(runs, "side")]
        seconds = spread([run["seconds"] for run in runs], 0)
        rows.append((label, *(_metric(runs, m) for m in BCCD_METRICS), str(len(runs)), *counts, seconds))
    pairs = _paired(entries.get("bccd-ours"), entries.get("bccd-stock"))
    if pairs:
        values = (spread([_minus(a[m], b[m]) for a, b in pairs]) for m in BCCD_METRICS)
        rows.append(("ours minus Detectron2's, seed by seed", *values, str(len(pairs)), "", "", ""))
    return markdown(header, rows) + sources(*(entries.get(name) for name in BCCD))


def _metric(runs: Sequence[Run], key: str, digits: int = 1) -> str:
    return spread([run[key] for run in runs], digits)


def _constant(runs: Sequence[Run], key: str) -> str:
    """A setting that all runs share."""
    return ", ".join(sorted({str(run[key]) for run in runs})) or NOT_RUN


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _paired(ours: Entry | None, stock: Entry | None) -> list[tuple[Run, Run]]:
    if ours is None or stock is None:
        return []
    theirs = {run["seed"]: run for run in stock.runs}
    return [(run, theirs[run["seed"]]) for run in ours.runs if run["seed"] in theirs]


def speed(entries: Entries) -> list[str]:
    """Times of the stock backbone and ours on the same weights, a row for each switch."""
    header = (
        "timed", "switches", "device", "stock, ms", "ours, ms", "stock / ours [quartiles]", "stock default / ours",
        "largest relative difference", "rounds",
    )  # fmt: skip
    found = [entries.get(name) for name in ("speed-drop-in", "speed-drop-in-gpu")]
    rows: list[tuple[str, ...]] = [
        (
            f"{run['part']}, {run['mode']}", run["variant"], run["device"], f"{run['stock_ms']:.0f}",
            f"{run['ours_ms']:.0f}", f"{run['ratio']:.2f} [{run['ratio_q1']:.2f}, {run['ratio_q3']:.2f}]",
            f"{run['ratio_default']:.2f}", f"{run['max_rel_diff']:.1e}", str(run["rounds"]),
        )
        for entry in found
        for run in (entry.runs if entry else [])
    ]  # fmt: skip
    for entry, device in zip(found, ("cpu", "cuda")):
        if entry is None:
            rows.append(("backbone and whole model, eval and train", "all", device, *[NOT_RUN] * 6))
    return markdown(header, rows) + sources(*found)


def speed_noise(entries: Entries) -> list[str]:
    """Ratios of equal networks, and of stock and ours in both orders."""
    entry = entries.get("speed-noise")
    header = ("built", "first / second, each run")
    if entry is None:
        return markdown(header, [("all", NOT_RUN)])
    rows: dict[str, list[str]] = {}
    for run in entry.runs:
        rows.setdefault(run["built"], []).append(f"{run['ratio']:.2f}")
    return markdown(header, [(built, ", ".join(ratios)) for built, ratios in rows.items()]) + sources(entry)


def evaluators_speed(entries: Entries) -> list[str]:
    """Seconds of the reference evaluators and ours on the same sets."""
    entry = entries.get("evaluators-speed")
    header = (
        "evaluated", "reference, s", "ours, s", "reference / ours", "lowest", "by CPU time", "numbers equal", "rounds",
    )  # fmt: skip
    if entry is None:
        return markdown(header, [(part, *[NOT_RUN] * 7) for part in ("COCO", "VOC")])
    parts: dict[str, list[Run]] = {}
    for run in entry.runs:
        parts.setdefault(run["part"], []).append(run)
    rows = [
        (
            part, _metric(runs, "theirs_s"), _metric(runs, "ours_s", 2), _metric(runs, "ratio"),
            f"{min(run['ratio'] for run in runs):.1f}", _metric(runs, "cpu_ratio"),
            "all" if all(run["equal"] for run in runs) else "NO", str(len(runs)),
        )
        for part, runs in parts.items()
    ]  # fmt: skip
    return markdown(header, rows) + sources(entry)


def fast_settings_ap(entries: Entries) -> list[str]:
    """AP of one trained detector under each fast setting."""
    entry = entries.get("fast-settings-ap")
    header = ("switches", "AP", "AP50", "AP75", "AP against the default", "AP50 against the default")
    if entry is None:
        return markdown(header, [("all", *[NOT_RUN] * 5)])
    rows = [
        (
            run["variant"], *(f"{run[m]:.2f}" for m in ("AP", "AP50", "AP75")),
            *(f"{run[f'{m}_difference']:+.2f}" for m in ("AP", "AP50")),
        )
        for run in entry.runs
    ]  # fmt: skip
    return markdown(header, rows) + sources(entry)


DEMO_METRICS = ("box_AP", "box_AP50", "mask_AP", "mask_AP50")
DEMO_SECONDS = ("seconds_data", "seconds_pretrain", "seconds_finetune", "seconds_total")


def demo(entries: Entries) -> list[str]:
    """`make demo`, a row for each seed and one for all."""
    entry = entries.get("demo")
    header = (
        "seed", "box AP", "box AP50", "mask AP", "mask AP50", "data, s", "pretraining, s", "fine-tuning, s", "all, s",
    )  # fmt: skip
    runs = list(entry.runs) if entry else []
    parts = [(str(run["seed"]), [run]) for run in runs] + ([("mean ± deviation", runs)] if len(runs) > 1 else [])
    rows = [
        (name, *(_metric(group, m) for m in DEMO_METRICS), *(_metric(group, s, 0) for s in DEMO_SECONDS))
        for name, group in parts
    ]
    return markdown(header, rows or [("all", *[NOT_RUN] * 8)]) + sources(entry)


def setup(entries: Entries) -> list[str]:
    """From a fresh clone to a result."""
    entry = entries.get("setup")
    runs = entry.runs if entry else []
    steps = list(dict.fromkeys(run["step"] for run in runs)) or ["make test", "make demo"]
    rows = []
    for step in steps:
        of_step = [run for run in runs if run["step"] == step]
        rows.append((f"`{step}`", spread([r["seconds"] for r in of_step], 0), _constant(of_step, "state")))
    return markdown(("from a fresh clone", "seconds", "what was there before"), rows) + sources(entry)


def detectron2_main(entries: Entries) -> list[str]:
    """The test suite against Detectron2's main branch."""
    entry = entries.get("detectron2-main")
    header = ("Detectron2's main at", "passed", "failed", "skipped")
    rows = (
        [(run["commit"], *(str(run[k]) for k in ("passed", "failed", "skipped"))) for run in entry.runs]
        if entry
        else []
    )
    return markdown(header, rows or [(NOT_RUN, *[NOT_RUN] * 3)]) + sources(entry)


TABLES: dict[str, Table] = {
    "weights": weights,
    "verify": verify,
    "deepen": deepen,
    "bccd": bccd,
    "speed": speed,
    "speed-noise": speed_noise,
    "evaluators-speed": evaluators_speed,
    "fast-settings-ap": fast_settings_ap,
    "demo": demo,
    "setup": setup,
    "detectron2-main": detectron2_main,
}
