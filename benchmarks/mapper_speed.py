"""The image path of a training mapper (file, decoding, resizing, flip, tensor): ours and Detectron2's in turns.

python -m benchmarks.mapper_speed
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import data_folder, versions
from benchmarks.record import make_entry
from benchmarks.record import record as put

FOLDERS = {"coco": "coco/train2017", "voc": "VOC2012/JPEGImages"}
SIDES = (800, 320)
IMAGES, ROUNDS = 150, 5


def main() -> None:
    """Measures every folder and size and records images a second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    versions()
    torch.set_num_threads(1)
    runs = [measure(name, data_folder() / folder, side) for name, folder in FOLDERS.items() for side in SIDES]
    put(make_entry(
        "mapper-speed", "A file to a resized, flipped training image: our mapper beside Detectron2's DatasetMapper.",
        "python -m benchmarks.mapper_speed", runs, settings={"images": IMAGES, "rounds": ROUNDS},
        note="CPU time of one thread, in turns image by image, the same random numbers; milliseconds are medians over "
        "the rounds of the mean over all images, files in the system's cache. The longer side is at most 1333, as in "
        "the defaults. Differences are of grey levels, over all pixels.",
    ))  # fmt: skip


def measure(name: str, folder: Path, side: int) -> dict[str, Any]:
    """Milliseconds an image of both mappers, in turns, and how far their pixels differ."""
    from detectron2.data import DatasetMapper

    from resnet_backbone.detection.config import default_config
    from resnet_backbone.detection.data.mapper import FastMapper

    cfg = default_config()
    cfg.INPUT.MIN_SIZE_TRAIN = (side,)
    mappers = (DatasetMapper(cfg, True), FastMapper(cfg, True))
    files = [str(file) for file in sorted(folder.glob("*.jpg"))[:IMAGES]]
    seconds = np.zeros((ROUNDS + 1, 2))
    largest, total, pixels = 0, 0, 0
    for number in range(ROUNDS + 1):
        for index, file in enumerate(files):
            made: list[Any] = [None, None]
            for which in (0, 1) if (index + number) % 2 else (1, 0):
                np.random.seed(index)
                began = time.process_time()
                made[which] = mappers[which]({"file_name": file})["image"]
                seconds[number, which] += time.process_time() - began
            difference = (made[0].int() - made[1].int()).abs()
            largest, total = max(largest, int(difference.max())), total + int(difference.sum())
            pixels += difference.numel()
    stock, ours = (1000 * seconds[1:] / len(files)).T.tolist()  # the first round warms up
    ratios = [a / b for a, b in zip(stock, ours)]
    print(f"{name}, {side}: {statistics.median(ratios):.2f}", flush=True)
    return {
        "data": name, "side": side, "images": len(files), "stock_ms": statistics.median(stock),
        "ours_ms": statistics.median(ours), "ratio": statistics.median(ratios), "ratio_min": min(ratios),
        "ratio_max": max(ratios), "largest_difference": largest, "mean_difference": total / pixels,
    }  # fmt: skip


if __name__ == "__main__":
    main()
