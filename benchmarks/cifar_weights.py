"""CIFAR-10 networks that others trained, through our importer: the accuracy that their author states, to the image.

python -m benchmarks.cifar_weights --data CIFAR

CIFAR is any of CIFAR-10's official folders or archives. Their option A has half of the added channels before the old
ones, which `pad_before` builds; nothing else is set.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

import resnet_backbone as rb
from benchmarks.machine import data_folder, versions
from benchmarks.record import make_entry
from benchmarks.record import record as put
from resnet_backbone.classification.data.cifar import Images, read_cifar
from resnet_backbone.classification.testing.evaluate import evaluate
from resnet_backbone.images.transforms import normalise
from resnet_backbone.weights.load import read_record

FOLDER = "cifar10/pretrained"
# Right of 10,000, as the author gives them and plain torch measured.
STATED = {20: 9173, 32: 9263, 44: 9310, 56: 9339}
BATCH = 500


def main() -> None:
    """Evaluates every network and records the counts; raises where one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10: a folder or an archive")
    versions()
    test = read_cifar(parser.parse_args().data).test
    runs = [run(layers, test) for layers in STATED]
    put(make_entry(
        "cifar-weights", "CIFAR-10 networks of others through the importer, on the 10,000 test images.",
        "python -m benchmarks.cifar_weights --data CIFAR", runs,
        settings={"files": f"$RESNET_BACKBONE_DATA/{FOLDER}", "batch": BATCH, "pad_before": True, "dtype": "float32"},
        note="The last column is not of this run: their author's own figures.",
    ))  # fmt: skip
    wrong = [one for one in runs if one["top1"] != one["stated"]]
    if wrong:
        raise SystemExit(f"error: {wrong[0]['file']}: {wrong[0]['top1']} right, not {wrong[0]['stated']}")


def run(layers: int, test: Images) -> dict[str, Any]:
    """Right answers of one network on the whole test set."""
    (file,) = (data_folder() / FOLDER).glob(f"resnet{layers}-*.th")
    record = read_record(file)
    net = rb.build(f"cifar_resnet{layers}", num_classes=10, weights=file, pad_before=True)
    pixels, labels = torch.from_numpy(test.pixels), torch.from_numpy(test.labels)
    began = time.monotonic()
    found = evaluate(
        net, zip(pixels.split(BATCH), labels.split(BATCH)),
        lambda batch: normalise(batch, record.mean, record.std, record.channel_order), torch.device("cpu"),
    )  # fmt: skip
    made = {"network": f"cifar_resnet{layers}", "file": file.name, "images": found.images, "top1": found.top1,
            "stated": STATED[layers], "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    print(made, flush=True)
    return made


if __name__ == "__main__":
    main()
