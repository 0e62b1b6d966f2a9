"""Fine-tuning on PASCAL VOC 2012 photographs: ours beside stock Detectron2, same start, schedule and images.

python -m benchmarks.voc_against_stock --seeds 1

Every run has a folder below --runs; one that is finished is not done again, so the parts can be run one by one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.machine import data_folder
from benchmarks.pairs import finished, folder, train
from benchmarks.record import make_entry
from benchmarks.record import record as put

CONFIG = "configs/faster_rcnn_R50_voc12.yaml"
WEIGHTS = "weights/resnet50_pqf_fp16.pth.xz"
SETTINGS = {"DATALOADER.NUM_WORKERS": 0}
SET = "voc_2012_val"
OFTEN = ("cat", "cow", "dog", "horse", "person", "sheep")
"""The classes with examples enough to count: the photographs were chosen by five of them."""
WHAT = {
    "ours": "Faster R-CNN R50-FPN fine-tuned on PASCAL VOC 2012 photographs by tools/train_net.py",
    "stock": "The same by stock Detectron2's model, trainer, schedule and mapper: same start, images, random numbers",
}


def main() -> None:
    """Does what is missing, then records what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--who", nargs="+", choices=tuple(WHAT), default=list(WHAT))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--runs", type=Path, default=Path("runs/voc"))
    parser.add_argument("--only-record", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for who in arguments.who:
            output = folder(arguments.runs, who, seed)
            if not arguments.only_record and not finished(output, SETTINGS):
                train(output, who, CONFIG, SETTINGS, ["MODEL.WEIGHTS", data_folder() / WEIGHTS, "SEED", seed])
    for who in arguments.who:
        record(arguments.runs, who)


def record(runs: Path, who: str) -> None:
    """Writes the entry of all finished runs."""
    found, done = [], None
    for output in sorted(runs.glob(f"{who}-seed*")):
        this = finished(output, SETTINGS)
        if this is not None:
            done = this
            found.append(
                {"seed": int(output.name.rpartition("seed")[2]), **numbers(output), "seconds": this["seconds"]}
            )
    if done is None:
        return
    seeds = [run["seed"] for run in found]
    entry = make_entry(
        f"voc-{who}", WHAT[who],
        f"python -m benchmarks.voc_against_stock --who {who} --seeds {' '.join(map(str, seeds))}", found,
        settings={"config": CONFIG, "weights": WEIGHTS, **SETTINGS}, seeds=seeds,
        note="1,100 photographs of train, 400 of val; 900 iterations of 2 images, shorter side 320: 1.6 epochs, far "
        "from converged. Mean over cat, cow, dog, horse, person and sheep; the others have too few examples. "
        "One CPU thread a run, beside other work: the seconds are no measure of speed.",
    )  # fmt: skip
    # Recording may come later than the runs.
    put(dataclasses.replace(entry, versions=done["versions"], date=done["date"]))


def numbers(output: Path) -> dict[str, Any]:
    """COCO's numbers of a run, and VOC's by its detections: as the devkit counts, and as Detectron2's `voc_eval`."""
    os.environ["DETECTRON2_DATASETS"] = str(data_folder().resolve())
    from resnet_backbone.detection.data.truth import load_ground_truth
    from resnet_backbone.evaluation.results_files import of_results
    from resnet_backbone.evaluation.voc import evaluate_voc

    results = output / "evaluation" / SET
    truth = load_ground_truth(SET)
    written = json.loads((results / "coco_instances_results.json").read_text())
    said = json.loads((results / "metrics.json").read_text())
    ids = truth.category_ids
    # The runs of 2026-11-25 counted VOC's classes from 0.
    for base in (ids, tuple(i - 1 for i in ids)):
        numbered = dataclasses.replace(truth, category_ids=base)
        known = [one for one in written if one["category_id"] in base]
        found = of_results(known, numbered).voc
        devkit = evaluate_voc(truth.as_voc(), found, truth.classes)
        if abs(devkit.ap - said["voc"]["AP50"]) < 1e-3:
            break
    else:
        raise ValueError(f"{results}: its detections do not give the VOC AP50 of its metrics.json")
    rounded = evaluate_voc(truth.as_voc(), found, truth.classes, rounding="detectron2")
    made: dict[str, Any] = {key: said["bbox"][key] for key in ("AP", "AP50", "AP75")}
    for name, result in (("voc", devkit), ("voc_detectron2", rounded)):
        for points in ("ap", "ap11"):
            made[f"{name}_{points}"] = sum(getattr(result.classes[c], points) for c in OFTEN) / len(OFTEN)
    made["classes"] = {
        name: {"objects": one.objects, "detections": one.detections, "ap": one.ap, "ap11": one.ap11}
        for name, one in devkit.classes.items() if one.objects
    }  # fmt: skip
    return made


if __name__ == "__main__":
    main()
