"""A detector over its test sets: numbers, results for COCO's tools, and pictures beside the ground truth."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog, build_detection_test_loader
from detectron2.data.detection_utils import read_image
from detectron2.utils import comm
from torch import nn

from resnet_backbone.detection.drawables import predicted_objects, record_objects
from resnet_backbone.detection.evaluator import DetectionEvaluator
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.interrupt import obey_parent_alone
from resnet_backbone.engine.progress import Progress
from resnet_backbone.evaluation.coco_backends import choose_backend
from resnet_backbone.evaluation.pictures import Picture, contact_sheet, save, side_by_side, unique_names
from resnet_backbone.evaluation.voc import ROUNDINGS

logger = logging.getLogger(__name__)

Record = dict[str, Any]
Numbers = dict[str, dict[str, float]]


def test(
    cfg: CfgNode, model: nn.Module, output: Path, *, pictures: bool = True, model_classes: Sequence[str] = ()
) -> dict[str, Numbers]:
    """Evaluates on every set of DATASETS.TEST; writes `output`/evaluation and `output`/pictures.

    Args:
        model: unwrapped; left in eval mode.
        pictures: draw TEST.PICTURES images of every set.
        model_classes: see `DetectionEvaluator`.

    Returns:
        For every data set what `DetectionEvaluator.evaluate` gives; empty dicts in all processes but the first.

    Raises:
        ValueError: an image that cannot be read; names the file.
    """
    model.eval()
    results = {}
    for name in cfg.DATASETS.TEST:
        records = DatasetCatalog.get(name)
        folder = output / "evaluation" / name
        keys = {"voc_rounding": cfg.TEST.VOC_ROUNDING, "coco_backend": cfg.TEST.COCO_BACKEND}
        evaluator = DetectionEvaluator(name, folder, model_classes=model_classes, **keys)
        drawn = chosen(records, cfg.TEST.PICTURES if pictures else 0)
        kept = _run(cfg, model, name, records, evaluator, {r["image_id"] for r in drawn})
        results[name] = evaluator.evaluate()
        if comm.is_main_process():
            text = json.dumps(_plain(results[name]), indent=1)
            write_atomically(folder / "metrics.json", lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
            found = [r for r in drawn if r["image_id"] in kept]
            if found:
                _draw(name, found, kept, output / "pictures" / name, cfg.TEST.PICTURE_THRESH)
    return results


def trained_classes(weights: str) -> tuple[str, ...]:
    """The classes of the run that a file of weights lies in; empty where they are not known."""
    try:
        settled = yaml.safe_load(Path(weights).with_name("config.yaml").read_text(encoding="utf-8"))
        return tuple(settled["DATA"]["CLASSES"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return ()  # weights without a run, or of another program


def check_test(cfg: CfgNode) -> None:
    """Refuses before anything runs what would be refused after it.

    Raises:
        ValueError: TEST.COCO_BACKEND is unknown or not installed, TEST.VOC_ROUNDING is unknown, TEST.EXPECTED_RESULTS
            are not as Detectron2 writes them, or images would be of no size.
    """
    choose_backend(cfg.TEST.COCO_BACKEND, key="TEST.COCO_BACKEND")
    if cfg.TEST.VOC_ROUNDING not in ROUNDINGS:
        raise ValueError(f"TEST.VOC_ROUNDING is {cfg.TEST.VOC_ROUNDING!r}, but it must be {' or '.join(ROUNDINGS)}")
    for key, least in (("MIN_SIZE_TEST", 0), ("MAX_SIZE_TEST", 1)):
        if cfg.INPUT[key] < least:
            raise ValueError(
                f"INPUT.{key}: {cfg.INPUT[key]}: pixels, at least {least}; MIN_SIZE_TEST 0 resizes nothing"
            )
    for entry in cfg.TEST.EXPECTED_RESULTS:
        if not _is_expectation(entry):
            raise ValueError(
                f"TEST.EXPECTED_RESULTS: {entry!r} is not [task, metric, value, tolerance], as ['bbox', 'AP', 38, 0.2]"
            )


def _is_expectation(entry: Any) -> bool:
    if not isinstance(entry, (list, tuple)) or len(entry) != 4:
        return False
    numbers = [isinstance(one, (int, float)) and not isinstance(one, bool) and one >= 0 for one in entry[2:]]
    return all(isinstance(one, str) for one in entry[:2]) and all(numbers)


def flat(results: Mapping[str, Numbers]) -> dict[str, float]:
    """One level of names, as "bbox/AP50"; the set's name in front where there are several."""
    several = len(results) > 1
    return {
        f"{name}/{task}/{metric}" if several else f"{task}/{metric}": value
        for name, tasks in results.items()
        for task, numbers in tasks.items()
        for metric, value in numbers.items()
    }


class Readable:
    """A mapper whose failures are values: an exception in a worker would reach the user as a traceback."""

    def __init__(self, mapper: Callable[[Record], Record]) -> None:
        self._mapper = mapper

    def __call__(self, record: Record) -> Record | ValueError:
        try:
            return self._mapper(record)
        except Exception as error:
            return ValueError(f"{record['file_name']}: cannot be tested on ({type(error).__name__}: {error})")


def _run(
    cfg: CfgNode, model: nn.Module, name: str, records: list[Record], evaluator: DetectionEvaluator, keep: set[Any]
) -> dict[Any, Any]:
    """Feeds every image of this process to the evaluator; returns the detections of those to keep."""
    mapper: Any = Readable(DatasetMapper(cfg, False))
    loader = build_detection_test_loader(cfg, name, mapper=mapper)
    loader.worker_init_fn = obey_parent_alone
    evaluator.reset()
    progress = Progress(len(loader), f"testing on {name}", show=comm.is_main_process())
    kept = {}
    for inputs in progress.waiting(loader):
        for one in inputs:
            if isinstance(one, ValueError):
                raise one
        outputs = _detect(model, inputs)
        evaluator.process(inputs, outputs)
        for one, output in zip(inputs, outputs):
            if one["image_id"] in keep:
                found = output["instances"]
                # Only what will be drawn: masks have the image's size, each.
                kept[one["image_id"]] = found[found.scores >= cfg.TEST.PICTURE_THRESH].to("cpu")
        progress.step()
    progress.close()
    return {image: found for part in comm.gather(kept) for image, found in part.items()}


@torch.no_grad()
def _detect(model: nn.Module, inputs: Sequence[Record]) -> list[Record]:
    outputs: list[Record] = model(inputs)
    return outputs


def chosen(records: Sequence[Record], count: int) -> list[Record]:
    """`count` records spread evenly over the set, those with objects first to be taken."""
    annotated = [r for r in records if r.get("annotations")] or list(records)
    places = np.linspace(0, len(annotated) - 1, min(count, len(annotated))).round().astype(int)
    return [annotated[i] for i in dict.fromkeys(places.tolist())]


def _draw(name: str, records: Sequence[Record], kept: Mapping[Any, Any], folder: Path, threshold: float) -> None:
    names = MetadataCatalog.get(name).thing_classes
    files = [record["file_name"] for record in records]
    names_of = dict(zip(files, unique_names(map(Path, files))))
    sheet: list[Picture] = []
    for record, picture in _pictures(records, kept, names, threshold):
        save(folder / f"{names_of[record['file_name']]}.jpg", picture)
        sheet.append(picture)
    on_one = folder.parent / f"{folder.name}.jpg"
    save(on_one, contact_sheet(sheet[:12]))
    logger.info(
        "pictures of %d images of %s: %s; %d on one sheet: %s", len(sheet), name, folder, min(len(sheet), 12), on_one
    )


def _pictures(
    records: Sequence[Record], kept: Mapping[Any, Any], names: Sequence[str], threshold: float
) -> Iterator[tuple[Record, Picture]]:
    for record in records:
        image = read_image(record["file_name"], format="RGB")
        found = predicted_objects(kept[record["image_id"]], threshold=threshold)
        truth = record_objects(record, with_masks=found.masks is not None)
        yield (
            record,
            side_by_side(image, truth, found, names, titles=("ground truth", f"found (score >= {threshold:g})")),
        )


def _plain(numbers: Numbers) -> dict[str, dict[str, float | None]]:
    """JSON has no nan."""
    return {t: {k: None if math.isnan(v) else round(v, 4) for k, v in n.items()} for t, n in numbers.items()}
