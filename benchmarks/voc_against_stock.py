"""Fine-tuning on PASCAL VOC 2012 photographs: ours beside stock Detectron2, same start, schedule and images.

python -m benchmarks.voc_against_stock --seeds 1

Every run has a folder below --runs; one that is finished is not done again, so the parts can be run one by one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.pairs import data_folder, finished, folder, train

CONFIG = "configs/faster_rcnn_R50_voc12.yaml"
WEIGHTS = "weights/resnet50_pqf_fp16.pth.xz"
SETTINGS = {"DATALOADER.NUM_WORKERS": 0}


def main() -> None:
    """Does what is missing, then records what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--who", nargs="+", choices=("ours", "stock"), default=["ours", "stock"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--runs", type=Path, default=Path("runs/voc"))
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for who in arguments.who:
            output = folder(arguments.runs, who, seed)
            if not finished(output, SETTINGS):
                train(output, who, CONFIG, SETTINGS, ["MODEL.WEIGHTS", data_folder() / WEIGHTS, "SEED", seed])


if __name__ == "__main__":
    main()
