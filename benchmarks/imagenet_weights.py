"""Real ImageNet networks through our importer: the accuracy they must have, `verify` and `deepen` put to the test.

python -m benchmarks.imagenet_weights                 # all three parts, about half an hour on one core
python -m benchmarks.imagenet_weights weights         # accuracy alone, about two minutes
python -m benchmarks.imagenet_weights deepen --keep W # leaves the deepened networks in the folder W
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import resnet_backbone as rb
from benchmarks.machine import data_folder, versions
from benchmarks.record import make_entry, record
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.images.decode import open_image
from resnet_backbone.images.transforms import central_view, normalise
from resnet_backbone.weights.deepen import deepen
from resnet_backbone.weights.load import load_weights, read_record, read_source
from resnet_backbone.weights.record import WeightRecord, sidecar_of
from resnet_backbone.weights.verify import labelled_images, verify

FILES = {"resnet50": "weights/resnet50_pqf_fp16.pth.xz", "resnet18": "weights/resnet18_pqf_fp16.pth.xz"}
IMAGES = "imagenet_val"
# Right of 650 in the first and in the first five, by plain torchvision with its own transforms.
YARDSTICKS = {"resnet50": (527, 623), "resnet18": (503, 611)}
GROWN = {"resnet18": ("resnet34",), "resnet50": ("resnet101", "resnet152")}
BATCH = 10  # larger batches fall out of one core's cache
Runs = list[dict[str, Any]]


class Wrong(ValueError):
    """A run that does not reach what it must."""


@torch.no_grad()
def logits_of(name: str, weights: Path) -> tuple[torch.Tensor, torch.Tensor, WeightRecord]:
    """Logits of a network on all images, fed as the record of its weights says, with nothing set by hand.

    Returns:
        N,1000 logits, N labels, the record.
    """
    record_ = read_record(weights)
    net = rb.build(name, num_classes=1000, weights=weights).eval()
    pairs = labelled_images(data_folder() / IMAGES)
    parts = []
    for start in range(0, len(pairs), BATCH):
        images = [open_image(path) for path, _ in pairs[start : start + BATCH]]
        views = [central_view(i, record_.resize, record_.input_size or 224, record_.interpolation) for i in images]
        logits = net(normalise(torch.stack(views), record_.mean, record_.std, record_.channel_order))
        assert isinstance(logits, torch.Tensor)
        parts.append(logits)
    return torch.cat(parts), torch.tensor([label for _, label in pairs]), record_


def right(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, int]:
    """How many labels are the first, and among the first five."""
    hits = logits.topk(5, dim=1).indices == labels[:, None]
    return {"images": len(labels), "top1": int(hits[:, 0].sum()), "top5": int(hits.sum())}


def run_weights() -> Runs:
    """Accuracy of each file, loaded by `rb.build(name, num_classes=1000, weights=FILE)`."""
    runs = []
    for name, file in FILES.items():
        began = time.monotonic()
        logits, labels, record_ = logits_of(name, data_folder() / file)
        net = rb.build(name, num_classes=1000, stride_in_1x1=bool(record_.stride_in_1x1))
        report = load_weights(net, data_folder() / file)
        wanted = dict(zip(("yardstick_top1", "yardstick_top5"), YARDSTICKS[name]))
        tensors = {"tensors": report.matched, "of_tensors": report.total}
        run = {"network": name, "file": file, **tensors, **right(logits, labels), **wanted, "seconds": _since(began)}
        print(run, flush=True)
        runs.append(run)
    return runs


def run_verify() -> Runs:
    """Every hypothesis through every image, from a copy without a record beside it."""
    runs = []
    for name, file in FILES.items():
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copyfile(data_folder() / file, Path(folder) / Path(file).name))
            began = time.monotonic()
            report = verify(copy, data_folder() / IMAGES, screen=None, batch=BATCH, progress=_say)
            seconds = _since(began)
            found = _believed(copy, report.record)
        rows = [
            {**dataclasses.asdict(row.hypothesis), "correct": row.correct, "images": row.images} for row in report.rows
        ]
        runs.append({
            "network": name, "file": file, "winner": str(report.winner or "none"), "p_against_next": report.p,
            "stride_in_1x1": str(found.stride_in_1x1), "channel_order": found.channel_order, "mean": list(found.mean),
            "std": list(found.std), "assumed_after": found.assumed, "hypotheses": rows, "seconds": seconds,
        })  # fmt: skip
        print(report, flush=True)
    return runs


def _believed(weights: Path, record_: WeightRecord) -> WeightRecord:
    """The record that the importer has for a file once what verify found lies beside it."""
    text = dataclasses.replace(record_, source=weights.name).to_json()
    write_atomically(sidecar_of(weights), lambda sidecar: sidecar.write(text.encode()))
    return read_source(weights).record


def run_deepen(keep: Path | None) -> Runs:
    """Each file grown into deeper networks, which must answer as it does, image by image."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for name, file in FILES.items():
            before, labels, _ = logits_of(name, data_folder() / file)
            for larger in GROWN[name]:
                path = (keep or Path(folder)) / f"R{larger[6:]}_from_R{name[6:]}.safetensors"
                began = time.monotonic()
                record_ = deepen(data_folder() / file, path, larger)
                grown_in = _since(began)
                after, _, _ = logits_of(larger, path)
                run = {
                    "from": name, "to": larger, "note": record_.notes[-1], **right(after, labels),
                    "top1_before": right(before, labels)["top1"], "top5_before": right(before, labels)["top5"],
                    "same_answer": int((after.argmax(1) == before.argmax(1)).sum()),
                    "max_difference": float(f"{(after - before).abs().max():.3g}"),
                    "largest_logit": float(f"{before.abs().max():.4g}"), "seconds_to_grow": grown_in,
                }  # fmt: skip
                print(run, flush=True)
                runs.append(run)
    return runs


def check_weights(runs: Runs) -> None:
    """Raises `Wrong` where an accuracy is not the yardstick's, to the image."""
    for run in runs:
        found = (run["top1"], run["top5"])
        if found != YARDSTICKS[run["network"]] or run["tensors"] != run["of_tensors"]:
            raise Wrong(f"{run['file']}: {found} right, not {YARDSTICKS[run['network']]}")


def check_verify(runs: Runs) -> None:
    """Raises `Wrong` where verify does not find what the yardstick was measured with."""
    for run in runs:
        stride = "False" if run["network"] == "resnet50" else "None"
        if not run["winner"].startswith("RGB, mean and deviation") or run["stride_in_1x1"] != stride:
            raise Wrong(f"{run['file']}: verify found {run['winner']}, p = {run['p_against_next']:.2g}")


def check_deepen(runs: Runs) -> None:
    """Raises `Wrong` where a deepened network answers otherwise than the one it came from."""
    for run in runs:
        if run["same_answer"] != run["images"] or run["top1"] != run["top1_before"]:
            raise Wrong(f"{run['from']} to {run['to']}: {run['same_answer']} of {run['images']} answers are the same")


WHAT = {
    "weights": "Real ImageNet networks loaded by rb.build(name, num_classes=1000, weights=FILE), nothing set by hand, "
    "on 650 images of ILSVRC2012's validation set: resize 256, centre crop 224, as the record says.",
    "verify": "verify on copies of the same files without a record: every channel order, normalisation and place of "
    "the stride through all 650 images.",
    "deepen": "The same files grown by deepen, and the grown networks on the same 650 images.",
}
NOTE = {
    "weights": "The 650 images are an easy sample; on the whole validation set the networks' authors report less. "
    "The last column is not of this run: plain torchvision with its own transforms on these images, as the README of "
    "the test data gives it.",
    "verify": "`resnet-backbone weights verify FILE --images DIR --all` is the same on the command line; without "
    "--all, hypotheses clearly worse after 100 images go no further. Seconds beside other work on the machine.",
    "deepen": "Added blocks are the identity, so that no accuracy is gained: the grown file is a start for training.",
}


def run_part(part: str, keep: Path | None) -> None:
    """Runs, records, and then checks: what is wrong stands in the file too."""
    parts: dict[str, tuple[Callable[[], Runs], Callable[[Runs], None]]] = {
        "weights": (run_weights, check_weights),
        "verify": (run_verify, check_verify),
        "deepen": (lambda: run_deepen(keep), check_deepen),
    }
    run, check = parts[part]
    runs = run()
    settings = {"data": f"$RESNET_BACKBONE_DATA/{IMAGES}", "batch": BATCH, "dtype": "float32"}
    command = f"python -m benchmarks.imagenet_weights {part}"
    record(make_entry(part, WHAT[part], command, runs, settings=settings, note=NOTE[part]))
    check(runs)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 after one sentence on what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.imagenet_weights", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(WHAT)}; default: all")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the deepened networks here")
    arguments = parser.parse_args(argv)
    try:
        versions()
        for part in arguments.parts or list(WHAT):
            if part not in WHAT:
                raise ValueError(f"part {part!r}: use {', '.join(WHAT)}")
            run_part(part, arguments.keep)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
