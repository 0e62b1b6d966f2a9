"""Real ImageNet networks by the paper's three protocols: one crop, ten crops, fully convolutional at several scales.

python -m benchmarks.imagenet_protocols --runs FOLDER   # about an hour on one core; goes on where it stopped
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.imagenet_weights import FILES, IMAGES
from benchmarks.machine import data_folder, versions
from benchmarks.record import make_entry
from benchmarks.record import record as put
from resnet_backbone.classification.testing.images import find_images
from resnet_backbone.classification.testing.protocols import SCALES, protocol
from resnet_backbone.classification.testing.testing import load_classifier, run_protocol
from resnet_backbone.engine.atomic import write_atomically

PROTOCOLS = ("1-crop", "10-crop", "multi-scale")
BATCH = 10  # larger batches fall out of one core's cache


def main() -> None:
    """Does what is missing, then records everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/protocols"))
    folder = parser.parse_args().runs
    versions()  # a checkout that changes during the run would name another commit
    runs = [run(name, test, folder / f"{name}-{test}.json") for name in ("resnet18", "resnet50") for test in PROTOCOLS]
    put(make_entry(
        "imagenet-protocols", "Real ImageNet networks on 650 validation images by the paper's three protocols.",
        "python -m benchmarks.imagenet_protocols", runs,
        settings={"data": f"$RESNET_BACKBONE_DATA/{IMAGES}", "scales": list(SCALES), "batch": BATCH},
        note="The images are 227 x 227 already, so larger scales show nothing more, only larger. The 650 images are an "
        "easy sample, and these are not the paper's networks: no row of its tables. Seconds beside other work.",
    ))  # fmt: skip


def run(name: str, test: str, done: Path) -> dict[str, Any]:
    """One network by one protocol, kept in a file of its own."""
    if done.is_file():
        found: dict[str, Any] = json.loads(done.read_text())
        return found
    images = find_images(data_folder() / IMAGES)
    network, record = load_classifier(data_folder() / FILES[name], images)
    began = time.monotonic()
    answers = run_protocol(network, record, images, protocol(test), batch=BATCH, label=f"{name}, {test}")
    right = answers.accuracy()
    made = {"network": name, "protocol": test, "images": right.images, "top1": right.top1, "top5": right.top5,
            "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    done.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(done, lambda file: file.write(json.dumps(made).encode()))
    print(made, flush=True)
    return made


if __name__ == "__main__":
    main()
