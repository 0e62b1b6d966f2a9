"""Finished runs of `imagenette` into `results.json`: everything from their folders; other recipes are refused."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.classifier_runs import config_of, refuse_other_recipes, values_of
from benchmarks.machine import ROOT
from benchmarks.record import RESULTS, Run, make_entry, merged, read
from benchmarks.record import record as put
from benchmarks.run_queue import origin_of
from resnet_backbone.classification.figures.run_folders import RunFolder, find_runs
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.engine.jsonlog import read_json_lines
from resnet_backbone.engine.yaml_config import read_config

RECIPES = {
    "resnet18": "configs/imagenet/R18_imagenette.yaml",
    "plain18": "configs/imagenet/plain18_imagenette.yaml",
}
START = "configs/faster_rcnn_R50_bccd.yaml"
DETECTOR: Mapping[str, Any] = {
    "MODEL.RESNETS.DEPTH": 18, "MODEL.RESNETS.RES2_OUT_CHANNELS": 64, "MODEL.BACKBONE.FREEZE_AT": 0,
    "INPUT.MIN_SIZE_TRAIN": 240, "INPUT.MIN_SIZE_TEST": 240, "SOLVER.IMS_PER_BATCH": 4, "SOLVER.MAX_ITER": 400,
    "SOLVER.STEPS": "(300,)", "SOLVER.WARMUP_ITERS": 100, "SOLVER.BASE_LR": 0.01, "SOLVER.AMP.ENABLED": True,
    "DATALOADER.NUM_WORKERS": 0,
}  # fmt: skip
STARTS: Mapping[str, Mapping[str, str]] = {
    "random": {"MODEL.RESNETS.NORM": "GN", "MODEL.FPN.NORM": "GN"},
    "imagenette": {"MODEL.RESNETS.NORM": "FrozenBN"},
    "imagenet": {"MODEL.RESNETS.NORM": "FrozenBN"},
}
"""Random weights cannot have frozen norms, and four images are too few for batch norms that learn. The ImageNet weights
can have no others: their statistics are folded into their scales, so that a batch's own would change the network."""
LABELS = {"random": "random weights", "imagenette": "ResNet-18 of imagenette", "imagenet": "ResNet-18 of ImageNet"}
EVALUATION = "evaluation/bccd_test/metrics.json"
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
COMMAND = "python -m benchmarks.imagenette"


def record(folders: Sequence[Path], results: Path = RESULTS) -> list[dict[str, Any]]:
    """Adds finished runs, classifiers and detectors; one of the same network or start and seed gives way.

    Raises:
        ValueError: a run of other settings, or one that is not finished; nothing is recorded then.
    """
    detectors = [detector_run(folder) for folder in folders if (folder / EVALUATION).is_file()]
    others = [folder for folder in folders if not (folder / EVALUATION).is_file()]
    classifiers = [classifier_run(folder) for folder in find_runs(others)] if others else []
    if classifiers:
        _put("imagenette", classifiers, ("network", "seed"), results)
    if detectors:
        _put("imagenette-bccd", detectors, ("start", "seed"), results)
    return [*classifiers, *detectors]


def classifier_run(folder: RunFolder) -> dict[str, Any]:
    """Raw values of a classifier.

    Raises:
        ValueError: it is not finished, or not by the recipe on imagenette.
    """
    if folder.network not in RECIPES or folder.data != "imagenette":
        said = f"{folder.network} on {folder.data or 'unnamed data'}"
        raise ValueError(f"{folder.path}: {said}, not {' or '.join(RECIPES)} on imagenette")
    config = config_of(folder)
    recipe = read_config(TrainConfig, ROOT / RECIPES[folder.network])
    refuse_other_recipes(folder, config, recipe, {"seed", "data"}, "the recipe's", RECIPES[folder.network])
    schedule = f"{config.length:g} epochs, batches of {config.batch_size}, {config.schedule}"
    return {"schedule": schedule, **values_of(folder, config, "unknown")}


def detector_run(folder: Path) -> dict[str, Any]:
    """Raw values of a detector; AP in percent.

    Raises:
        ValueError: a name that is no run's, or other settings than `DETECTOR` and `STARTS`.
    """
    start, _, seed = folder.name.removeprefix("bccd-").partition("-seed")
    if start not in STARTS:
        raise ValueError(f"{folder}: not named bccd-START-seedN with a START of {', '.join(STARTS)}")
    written = yaml.safe_load((folder / "config.yaml").read_text())
    for key, value in {**STARTS[start], **DETECTOR, "SEED": int(seed)}.items():
        if _plain(now := _value(written, key)) != _plain(value):
            raise ValueError(
                f"{folder / 'config.yaml'}: {key} is {now!r}, not {value!r}: other settings than {COMMAND}'s"
            )
    numbers = json.loads((folder / EVALUATION).read_text())
    lines = read_json_lines(folder / "metrics.jsonl")
    times = [line["seconds_per_iteration"] for line in lines if "seconds_per_iteration" in line]
    return {
        "start": LABELS[start], "norm": STARTS[start]["MODEL.RESNETS.NORM"], "seed": int(seed),
        **{key: numbers["bbox"][key] for key in METRICS}, "voc_AP50": numbers["voc"]["AP50"],
        "iterations": DETECTOR["SOLVER.MAX_ITER"], "side": DETECTOR["INPUT.MIN_SIZE_TEST"],
        "seconds_per_iteration": statistics.median(times), "origin": origin_of(folder),
    }  # fmt: skip


def _value(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def _plain(value: Any) -> Any:
    """Lists of one number as Detectron2 writes them, and as they are typed."""
    read = yaml.safe_load(value.replace("(", "[").replace(",)", "]")) if isinstance(value, str) else value
    return read[0] if isinstance(read, (list, tuple)) and len(read) == 1 else read


def _put(name: str, new: Sequence[Run], keys: Sequence[str], results: Path) -> None:
    runs = merged(read(results).get(name), new, keys)
    seeds = sorted({run["seed"] for run in runs})
    what, settings, note = ABOUT[name]
    put(make_entry(name, what, COMMAND, runs, settings=settings, seeds=seeds, note=note), path=results)


OF_RUN = "Each run says on what and at which commit it ran (`origin`). Other work ran beside: seconds measure no speed."
ABOUT: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "imagenette": (
        "ResNet-18 and plain-18 from scratch on 1,500 images of ten ImageNet classes, by one recipe.",
        {"recipes": list(RECIPES.values())},
        "None of the paper's experiments. The error is that of the last iteration on all 500 validation images, one "
        f"centre crop, never the lowest. {OF_RUN}",
    ),
    "imagenette-bccd": (
        "Faster R-CNN R18-FPN on BCCD from random weights, from imagenette's ResNet-18 and from ImageNet's.",
        {"config": START, "starts": STARTS, **DETECTOR},
        "BCCD trainval (292 photographs) to test (72), a short schedule at a small size. Norms differ: fixed batch "
        "norms need weights, so random ones have group norm in backbone and pyramid (four images are too few for batch "
        f"norm); all layers are trained. {OF_RUN}",
    ),
}
