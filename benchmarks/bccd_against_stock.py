"""Fine-tuning on photographs of blood cells: ours, stock Detectron2, and a ResNet-101 grown from the ResNet-50.

python -m benchmarks.bccd_against_stock --seeds 1 2
python -m benchmarks.bccd_against_stock --who r101 --seeds 1

Every run has a folder below --runs; one that is finished is not done again, so the parts can be run one by one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from benchmarks.machine import data_folder
from benchmarks.pairs import finished, folder, train
from benchmarks.record import make_entry
from benchmarks.record import record as put

CONFIG = "configs/faster_rcnn_R50_bccd.yaml"
WEIGHTS = "weights/resnet50_pqf_fp16.pth.xz"
SIDE, ITERATIONS = 240, 200
SETTINGS = {
    "INPUT.MIN_SIZE_TRAIN": SIDE, "INPUT.MIN_SIZE_TEST": SIDE, "SOLVER.MAX_ITER": ITERATIONS, "SOLVER.STEPS": "(150,)",
    "SOLVER.WARMUP_ITERS": 50, "SOLVER.BASE_LR": 0.005, "DATALOADER.NUM_WORKERS": 0, "INPUT.MAPPER_TRAIN": "detectron2",
}  # fmt: skip
WHAT = {
    "ours": "Faster R-CNN R50-FPN fine-tuned on BCCD by tools/train_net.py",
    "stock": "The same by stock Detectron2's model, trainer and schedule: same start, images and random numbers",
    "r101": "Faster R-CNN R101-FPN fine-tuned on BCCD; its ResNet-101 is the ResNet-50 grown by `weights deepen`",
}


def main() -> None:
    """Does what is missing, then records what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--who", nargs="+", choices=tuple(WHAT), default=["ours", "stock"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/bccd"))
    parser.add_argument("--only-record", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for who in arguments.who:
            output = folder(arguments.runs, who, seed)
            if not arguments.only_record and not finished(output, SETTINGS):
                train(output, who, CONFIG, SETTINGS, options_of(arguments.runs, who, seed))
    for who in arguments.who:
        record(arguments.runs, who)


def options_of(runs: Path, who: str, seed: int) -> list[object]:
    """What this run has of its own."""
    weights = data_folder() / WEIGHTS
    if who != "r101":
        return ["MODEL.WEIGHTS", weights, "SEED", seed]
    return ["MODEL.WEIGHTS", grown(weights, runs), "SEED", seed, "MODEL.RESNETS.DEPTH", 101]


def grown(weights: Path, runs: Path) -> Path:
    """The ResNet-101 that computes what the ResNet-50 computes; made once."""
    from resnet_backbone.weights.deepen import deepen

    target = runs / "R101_from_R50.safetensors"
    if not target.exists():
        deepen(weights, target, "resnet101")
    return target


def record(runs: Path, who: str) -> None:
    """Writes the entry of all finished runs."""
    found, done = [], None
    for path in sorted(runs.glob(f"{who}-seed*/evaluation/bccd_test/metrics.json")):
        output = path.parents[2]
        done_here = finished(output, SETTINGS)
        if done_here is None:
            continue
        done = done_here
        numbers = json.loads(path.read_text())
        box = numbers["bbox"]
        found.append({
            "seed": int(output.name.rpartition("seed")[2]),
            **{key: box[key] for key in ("AP", "AP50", "AP75", "APs", "APm", "APl")},
            "voc_AP50": numbers["voc"]["AP50"], "iterations": ITERATIONS, "side": SIDE,
            "seconds": done["seconds"],
        })  # fmt: skip
    if done is None:
        return
    entry = make_entry(
        f"bccd-{who}", WHAT[who], f"python -m benchmarks.bccd_against_stock --who {who} --seeds "
        + " ".join(str(run["seed"]) for run in found), found,
        settings={"config": CONFIG, "weights": WEIGHTS, **SETTINGS}, seeds=[run["seed"] for run in found],
        note="BCCD trainval (292 photographs) to test (72), a short schedule at a small size; one CPU thread a run, "
        "several runs at once beside other work: the seconds are no measure of speed.",
    )  # fmt: skip
    # Recording may come later than the runs.
    put(dataclasses.replace(entry, versions=done["versions"], date=done["date"]))


if __name__ == "__main__":
    main()
