"""--smoke: a config shrunk to about a minute on a CPU, on a few of its images or on generated ones.

The network keeps its depth and its heads; everything that only costs time is made small. The numbers that come out
say nothing: that the whole path ran, from settling to the final weights, is the result.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.common import DatasetFromList

from resnet_backbone.detection.data.catalog import find_root
from resnet_backbone.detection.training.config import value_of
from resnet_backbone.detection.training.sets import missing_path
from resnet_backbone.weights.sources import on_disk

TRAIN_IMAGES, TEST_IMAGES = 8, 4
CLASSES_UNKNOWN = ("one", "two", "three")
"""Of generated data, where neither the config nor the catalog names classes."""

SHRUNK: dict[str, Any] = {
    "SOLVER.MAX_ITER": 6,  # enough for warm-up, a step of the rate and what follows it
    "SOLVER.STEPS": (4,),  # inside MAX_ITER
    "SOLVER.WARMUP_ITERS": 2,  # ends before the step
    "SOLVER.CHECKPOINT_PERIOD": 6,  # one checkpoint: VGG's takes a gigabyte
    "SOLVER.BASE_LR": 0.001,  # no rate for a large batch and pretrained weights
    "SOLVER.REFERENCE_WORLD_SIZE": 0,  # the schedule is not scaled again
    "INPUT.MIN_SIZE_TRAIN": (64, 96),  # time goes with the area
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "choice",  # of the two
    "INPUT.MAX_SIZE_TRAIN": 160,
    "INPUT.MIN_SIZE_TEST": 96,
    "INPUT.MAX_SIZE_TEST": 160,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 32,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 100,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 100,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 20,  # C4 heads run conv5 on each
    "MODEL.RPN.POST_NMS_TOPK_TEST": 20,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,  # so that an untrained detector gives something to evaluate
    "MODEL.RETINANET.SCORE_THRESH_TEST": 0.0,
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": 50,
    "MODEL.RESIDUAL.COMPILE": False,  # compiling alone takes the minute
    "DATALOADER.NUM_WORKERS": 0,  # workers take longer to start than the images to read
    "TEST.DETECTIONS_PER_IMAGE": 10,
    "TEST.PICTURES": TEST_IMAGES,
    "TEST.PICTURE_THRESH": 0.0,  # an untrained detector is sure of nothing
    "TEST.PRECISE_BN.NUM_ITER": 2,
    "TEST.EXPECTED_RESULTS": [],  # are those of a whole training
}  # fmt: skip
"""The keys that --smoke changes, whatever the config, unless the command line sets them."""


def shrink(cfg: CfgNode, given: Collection[str], processes: int = 1) -> list[str]:
    """Brings a config (not frozen) to smoke size, in place: `SHRUNK`, the batch, and weights that are not here.

    Args:
        given: keys of the command line; they stay as given.
        processes: how many train together.

    Returns:
        Lines for the user.
    """
    wanted = dict(SHRUNK)
    # As few images as one step can have: two, or one for every process and micro-batch.
    wanted["SOLVER.IMS_PER_BATCH"] = max(2, processes * cfg.SOLVER.ACCUMULATE)
    if cfg.TEST.EVAL_PERIOD:
        wanted["TEST.EVAL_PERIOD"] = 3  # one in the middle, as the config has some
    for key, value in wanted.items():
        if key not in given:
            path, _, last = key.rpartition(".")
            value_of(cfg, path)[last] = value
    solver = cfg.SOLVER
    lines = [
        f"--smoke: {solver.MAX_ITER} iterations of {solver.IMS_PER_BATCH} images of {cfg.INPUT.MIN_SIZE_TEST} pixels: "
        "the numbers say nothing"
    ]
    random = _random_weights(cfg, given)
    return [*lines, random] if random else lines


def use_generated(cfg: CfgNode, explicit: Collection[str]) -> str | None:
    """Points DATA.* to a tiny generated data set where the config's is not on this machine.

    The folder is temporary and goes with the process.

    Args:
        cfg: not frozen.
        explicit: keys that the user set.

    Returns:
        A line for the user; None where the data are there.
    """
    absent = _absent_data(cfg)
    if absent is None:
        return None
    classes = _class_names(cfg, explicit)
    folder = Path(tempfile.mkdtemp(prefix="smoke-data-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_data(folder, classes)
    data = cfg.DATA
    data.FORMAT, data.ROOT, data.NAME = "coco", str(folder), "generated"
    data.TRAIN, data.TEST, data.TRAIN_IMAGES, data.TEST_IMAGES = "train.json", "test.json", "images", "images"
    # One test set has no name in front of its metrics.
    cfg.TEST.BEST_METRIC = "/".join(cfg.TEST.BEST_METRIC.split("/")[-2:])
    masks = " and masks" if cfg.MODEL.MASK_ON else ""
    return (
        f"{absent} is not here: {TRAIN_IMAGES + TEST_IMAGES} generated images, boxes{masks} of {len(classes)} classes"
    )


def use_few_images(cfg: CfgNode) -> None:
    """Replaces the settled data sets by the first images of each, those with objects first (`cfg` not frozen)."""
    for key, count in (("TRAIN", TRAIN_IMAGES), ("TEST", TEST_IMAGES)):
        cfg.DATASETS[key] = tuple(_few(name, count) for name in cfg.DATASETS[key])
    metric = cfg.TEST.BEST_METRIC.split("/")
    if len(metric) == 3:
        cfg.TEST.BEST_METRIC = "/".join([f"{metric[0]}_smoke", *metric[1:]])


def write_data(folder: Path, classes: Sequence[str], seed: int = 0) -> None:
    """`folder`/images, train.json and test.json in COCO's format: every class in turn, two or three objects an image.

    Objects are ellipses of a colour for each class, on noise; with boxes and polygons.
    """
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    colours = rng.integers(90, 256, (len(classes), 3))
    for split, count in (("train", TRAIN_IMAGES), ("test", TEST_IMAGES)):
        label = 0
        images: list[dict[str, Any]] = []
        objects: list[dict[str, Any]] = []
        for number in range(1, count + 1):
            height, width = (96, 128) if number % 3 else (128, 96)
            image = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
            for _ in range(2 + number % 2):
                drawn = _ellipse(image, colours[label % len(classes)].tolist(), rng)
                objects.append({"id": len(objects) + 1, "image_id": number, "category_id": label % len(classes) + 1,
                                "iscrowd": 0, **drawn})  # fmt: skip
                label += 1
            name = f"{split}{number}.png"
            cv2.imwrite(str(folder / "images" / name), image)
            images.append({"id": number, "file_name": name, "height": height, "width": width})
        categories = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
        content = {"info": {}, "images": images, "annotations": objects, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(content))


def _ellipse(image: np.ndarray[Any, Any], colour: list[int], rng: np.random.Generator) -> dict[str, Any]:
    """Draws one inside the image; its polygon, box and area as COCO writes them."""
    height, width = image.shape[:2]
    a, b = (int(v) for v in rng.integers(10, 24, 2))
    middle = (int(rng.integers(a, width - a)), int(rng.integers(b, height - b)))
    outline = np.asarray(cv2.ellipse2Poly(middle, (a, b), 0, 0, 360, 20))
    cv2.fillPoly(image, [outline], colour)
    (x0, y0), (x1, y1) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
    area = float(cv2.contourArea(outline))
    return {"segmentation": [outline.ravel().tolist()], "bbox": [x0, y0, x1 - x0, y1 - y0], "area": area}


def _random_weights(cfg: CfgNode, given: Collection[str]) -> str | None:
    """Empties MODEL.WEIGHTS where its file is not on this machine; a path of the command line has to be there."""
    source = str(cfg.MODEL.WEIGHTS)
    if not source or on_disk(source) or ("MODEL.WEIGHTS" in given and "://" not in source):
        return None
    cfg.MODEL.WEIGHTS = ""
    line = f"MODEL.WEIGHTS {source} is not on this machine: random weights"
    if cfg.MODEL.RESNETS.NORM == "FrozenBN" and cfg.MODEL.BACKBONE.NAME.startswith("build_residual"):
        # Fixed norms of a random network scale nothing: a deep one overflows.
        cfg.MODEL.RESNETS.NORM, cfg.MODEL.BACKBONE.FREEZE_AT = "GN", 0
        line += ", so MODEL.RESNETS.NORM GN, MODEL.BACKBONE.FREEZE_AT 0"
    return line


def _absent_data(cfg: CfgNode) -> str | None:
    """Which data are not here; None where all are, or where their names are wrong (`use_data` says so)."""
    if cfg.DATA.ROOT:
        try:
            find_root(cfg.DATA.ROOT)
        except ValueError:
            return f"DATA.ROOT {cfg.DATA.ROOT}"
        return None
    known = set(DatasetCatalog.list())
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if not known.issuperset(names):
        return None
    return next((name for name in names if missing_path(name)), None)


def _class_names(cfg: CfgNode, explicit: Collection[str]) -> list[str]:
    """As the config or the catalog names them, else as many as the config counts."""
    if cfg.DATA.CLASSES:
        return list(cfg.DATA.CLASSES)
    if not cfg.DATA.ROOT:
        return list(MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes)
    name = "RETINANET" if cfg.MODEL.META_ARCHITECTURE in ("RetinaNet", "FCOS") else "ROI_HEADS"
    if f"MODEL.{name}.NUM_CLASSES" in explicit:
        return [f"class {i}" for i in range(1, cfg.MODEL[name].NUM_CLASSES + 1)]
    return list(CLASSES_UNKNOWN)


def _few(name: str, count: int) -> str:
    """Registers the first `count` records of a data set, annotated ones first; returns the new name."""
    chosen = sorted(DatasetCatalog.get(name), key=lambda r: not r.get("annotations"))[:count]
    new = f"{name}_smoke"
    if new in DatasetCatalog.list():
        DatasetCatalog.remove(new)
        MetadataCatalog.remove(new)
    records = DatasetFromList(chosen, copy=False)
    DatasetCatalog.register(new, lambda: list(records))
    # Without `json_file`, which lists all images: evaluation reads the records.
    kept = {k: v for k, v in MetadataCatalog.get(name).as_dict().items() if k not in ("name", "json_file", "year")}
    MetadataCatalog.get(new).set(**kept)
    return new
