"""How far two equal networks differ in one process: the ground on which the drop-in's ratios near 1 are to be read.

python -m benchmarks.speed_noise

Every order runs in a process of its own; the FPN backbones in it take turns on the same image, the order turned round
each round. "stock / stock" is Detectron2's own network beside a second copy of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.machine import versions
from benchmarks.record import make_entry
from benchmarks.record import record as put

BUILDERS = {"stock": "build_resnet_fpn_backbone", "ours": "build_residual_fpn_backbone"}
ORDERS = ("stock stock", "ours ours", "stock ours", "ours stock")
ROUNDS, WARM_UP, REPEATS = 16, 2, 2


def measure(order: list[str]) -> list[float]:
    """Median milliseconds of each backbone, in the order in which they were built."""
    import torch
    from detectron2 import model_zoo
    from detectron2.modeling import build_backbone

    from resnet_backbone.detection.config import default_config

    cfg = default_config()
    cfg.merge_from_file(model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"))
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    nets = []
    for name in order:
        cfg.MODEL.BACKBONE.NAME = BUILDERS[name]
        nets.append(build_backbone(cfg).eval())
        nets[-1].load_state_dict(nets[0].state_dict())
    image = torch.randn(1, 3, 320, 448, generator=torch.Generator().manual_seed(0))
    seconds: list[list[float]] = [[] for _ in nets]
    with torch.no_grad():
        for number in range(ROUNDS):
            for index in range(len(nets)) if number % 2 else reversed(range(len(nets))):
                began = time.perf_counter()
                nets[index](image)
                seconds[index].append(time.perf_counter() - began)
    return [1000 * statistics.median(times[WARM_UP:]) for times in seconds]


def main() -> None:
    """Measures every order and records the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--order", help="one order, in this process: milliseconds as JSON")
    arguments = parser.parse_args()
    if arguments.order:
        print(json.dumps(measure(arguments.order.split())))
        return
    versions()
    runs: list[dict[str, Any]] = []
    for order in ORDERS * REPEATS:
        words = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed_noise", "--order", order]
        first, second = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        runs.append(
            {"built": order.replace(" ", ", then "), "first_ms": first, "second_ms": second, "ratio": first / second}
        )
        print(runs[-1], flush=True)
    put(make_entry(
        "speed-noise", "Two FPN backbones in turns in one process: stock and ours, each also beside itself.",
        "python -m benchmarks.speed_noise", runs, settings={"image": [320, 448], "rounds": ROUNDS - WARM_UP},
        note="Medians; every run is a process of its own.",
    ))  # fmt: skip


if __name__ == "__main__":
    main()
