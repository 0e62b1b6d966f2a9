"""One pass over a test set gives COCO's twelve numbers, VOC's AP at 0.5, and both for every class."""

from __future__ import annotations

import json
import logging
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from numpy.typing import NDArray
from pycocotools import mask as masks
from tabulate import tabulate

from resnet_backbone.detection.data.truth import load_ground_truth
from resnet_backbone.detection.server_files import write_server_files
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.evaluation.class_ids import write_class_ids
from resnet_backbone.evaluation.coco import CocoResult, evaluate_coco
from resnet_backbone.evaluation.coco_backends import Backend, IouType, choose_backend, with_version
from resnet_backbone.evaluation.explain import explain
from resnet_backbone.evaluation.mask_findings import mask_findings
from resnet_backbone.evaluation.truth import GroundTruth
from resnet_backbone.evaluation.voc import Rounding, VocDetections, VocResult, evaluate_voc

logger = logging.getLogger(__name__)

THRESHOLD_KEYS = "MODEL.ROI_HEADS.SCORE_THRESH_TEST, MODEL.RETINANET.SCORE_THRESH_TEST"
RESULTS_FILE = "coco_instances_results.json"


@dataclass(frozen=True)
class ImageDetections:
    """Everything found in one image: N,4 float32 XYXY boxes, N scores, N class indices, N run-length masks."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    rles: list[dict[str, Any]] | None


class DetectionEvaluator(DatasetEvaluator):
    """Evaluates boxes and masks on any data set of Detectron2's catalog.

    `evaluate` gives, in percent, {"bbox": COCO's twelve and "AP-<class>", "segm": the same, "voc": "AP50" of
    all points, "AP50-11pt", and "AP50-<class>" of all points, "voc-segm": the same by the overlap of masks};
    "segm" and "voc-segm" where the model gives masks and the data have some. Numbers of what the data do not
    hold are nan. COCO's numbers take VOC's difficult objects for ordinary ones, as Detectron2's COCOEvaluator
    does; VOC's ignore them, and COCO's crowds.

    Args:
        dataset_name: in Detectron2's catalog.
        output_dir: gets `coco_instances_results.json`, with the category ids of the data set, what these are in
            `coco_categories.json`, and for data in VOC's layout the devkit's files in `results`; None writes nothing.
        distributed: gathers what all processes found; they all have to call `evaluate`.
        voc_rounding: of "voc", see `evaluate_voc`; masks, which Detectron2 cannot compare so, are never rounded.
        coco_backend: see `evaluate_coco`.
        model_classes: names of the classes that the model was trained on, where they are known; to explain an
            AP of 0.

    Raises:
        ValueError: a backend that is unknown or not installed.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | Path | None = None,
        *,
        distributed: bool = True,
        voc_rounding: Rounding = "none",
        model_classes: Sequence[str] = (),
        coco_backend: Backend = "auto",
    ) -> None:
        self.dataset_name = dataset_name
        self._output_dir = Path(output_dir) if output_dir is not None else None
        self._distributed = distributed
        self._voc_rounding: Rounding = voc_rounding
        self._model_classes = model_classes
        self._backend: Backend = choose_backend(coco_backend)
        self._truth = load_ground_truth(dataset_name)
        self._image_ids = [image["id"] for image in self._truth.coco["images"]]
        self._known = set(self._image_ids)
        self.reset()

    def reset(self) -> None:
        """Forgets all detections."""
        self._found: dict[Any, ImageDetections] = {}
        self._not_finite = 0

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Takes a batch; an image that comes again is left out, as samplers pad with doubles.

        Raises:
            ValueError: an image that the data set does not have.
        """
        for one, output in zip(inputs, outputs, strict=True):
            if one["image_id"] not in self._known:
                raise ValueError(
                    f"image {one['image_id']!r} is not in the data set {self.dataset_name!r}; evaluate with the "
                    "data set that the loader reads"
                )
            if one["image_id"] not in self._found:
                detections, dropped = _to_arrays(output["instances"])
                self._found[one["image_id"]] = detections
                self._not_finite += dropped

    def evaluate(self) -> dict[str, dict[str, float]]:
        """All numbers; an empty dict in every process but the first."""
        found, not_finite = self._gathered()
        if not comm.is_main_process() and self._distributed:
            return {}
        if not_finite:
            logger.warning("%d detections with a box or score that is no number left out", not_finite)
        if len(found) < len(self._known):
            logger.warning(
                "%d of the %d images of %s were not seen; their objects count as missed",
                len(self._known) - len(found), len(self._known), self.dataset_name,
            )  # fmt: skip
        results = _coco_results(found, self._image_ids, self._truth)
        voc = _voc_detections(found, self._image_ids)
        if self._output_dir is not None:
            write_atomically(self._output_dir / RESULTS_FILE, lambda file: _write_json(file, results))
            write_class_ids(self._output_dir, self._truth.category_ids, self._truth.classes)
            write_server_files(self.dataset_name, self._output_dir, voc, self._truth.classes)
        if not self._truth.annotated:
            logger.info("%s has no annotations: nothing to measure", self.dataset_name)
            return {}
        scored = self._scored(results, voc)
        for task, numbers in scored.items():
            logger.info("%s on %s:\n%s", task, self.dataset_name, _table(numbers))
        lines = explain(self._truth, voc, model_classes=self._model_classes, threshold=THRESHOLD_KEYS)
        if "voc-segm" in scored:
            lines += mask_findings(voc, scored["voc"]["AP50"], scored["voc-segm"]["AP50"])
        for line in lines:
            logger.warning("%s: %s", self.dataset_name, line)
        return scored

    def _scored(self, results: list[dict[str, Any]], voc: VocDetections) -> dict[str, dict[str, float]]:
        kinds: tuple[IouType, ...] = ("bbox", "segm") if voc.masks is not None and self._truth.has_masks else ("bbox",)
        scored: dict[str, dict[str, float]] = OrderedDict()
        for kind in kinds:
            scored[kind] = _coco_numbers(evaluate_coco(self._truth.coco, results, kind, backend=self._backend))
        logger.info("COCO's numbers on %s are by %s", self.dataset_name, with_version(self._backend))
        for kind, task in zip(kinds, ("voc", "voc-segm")):
            truth, rounding = self._truth.as_voc(kind), self._voc_rounding if kind == "bbox" else "none"
            result = evaluate_voc(truth, voc, self._truth.classes, rounding=rounding, iou_type=kind)
            scored[task] = _voc_numbers(result)
        return scored

    def _gathered(self) -> tuple[dict[Any, ImageDetections], int]:
        if not self._distributed:
            return self._found, self._not_finite
        parts = comm.gather((self._found, self._not_finite), dst=0)
        found: dict[Any, ImageDetections] = {}
        for part, _ in reversed(parts):
            found.update(part)  # the lowest rank's stay
        return found, sum(dropped for _, dropped in parts)


def _to_arrays(instances: Any) -> tuple[ImageDetections, int]:
    """Arrays of what is finite, and how many were not."""
    instances = instances.to("cpu")
    boxes = instances.pred_boxes.tensor.detach().float().numpy()
    scores = instances.scores.detach().float().numpy()
    keep = np.isfinite(scores) & np.isfinite(boxes).all(axis=1)
    rles = None
    if instances.has("pred_masks"):
        chosen = (mask for mask, kept in zip(instances.pred_masks, keep) if kept)
        rles = [masks.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in chosen]
    classes = instances.pred_classes.numpy().astype(np.int64)
    return ImageDetections(boxes[keep], scores[keep], classes[keep], rles), int((~keep).sum())


def _coco_results(
    found: dict[Any, ImageDetections], image_ids: Sequence[Any], truth: GroundTruth
) -> list[dict[str, Any]]:
    """COCO results in the order of the data set's images, which is the same however many processes ran."""
    results: list[dict[str, Any]] = []
    for image_id in (i for i in image_ids if i in found):
        one = found[image_id]
        boxes = one.boxes.copy()
        boxes[:, 2:] -= boxes[:, :2]
        for n, (box, score, label) in enumerate(zip(boxes.tolist(), one.scores.tolist(), one.classes.tolist())):
            if not 0 <= label < len(truth.category_ids):
                raise ValueError(
                    f"the model found class {label}, but the data set has {len(truth.classes)} classes; set "
                    "MODEL.ROI_HEADS.NUM_CLASSES (MODEL.RETINANET.NUM_CLASSES) to that and train again"
                )
            category = truth.category_ids[label]
            result = {"image_id": image_id, "category_id": category, "bbox": box, "score": score}
            if one.rles is not None:
                rle = one.rles[n]
                result["segmentation"] = {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}
            results.append(result)
    return results


def _write_json(file: BinaryIO, results: list[dict[str, Any]]) -> None:
    file.write(json.dumps(results).encode())


def _voc_detections(found: dict[Any, ImageDetections], image_ids: Sequence[Any]) -> VocDetections:
    ids = [i for i in image_ids if i in found]
    parts = [found[i] for i in ids] or [_nothing()]
    with_masks = any(p.rles is not None for p in parts)
    return VocDetections(
        [i for i in ids for _ in found[i].scores],
        np.concatenate([p.classes for p in parts]),
        np.concatenate([p.boxes for p in parts]),
        np.concatenate([p.scores for p in parts]),
        [rle for p in parts for rle in p.rles or ()] if with_masks else None,
    )


def _nothing() -> ImageDetections:
    return ImageDetections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), None)


def _coco_numbers(result: CocoResult) -> dict[str, float]:
    return {**result.metrics, **{f"AP-{name}": ap for name, ap in result.per_class.items()}}


def _voc_numbers(result: VocResult) -> dict[str, float]:
    classes = {f"AP50-{name}": one.ap for name, one in result.classes.items()}
    return {"AP50": result.ap, "AP50-11pt": result.ap11, **classes}


def _table(numbers: dict[str, float], columns: int = 6) -> str:
    cells = [(name, "nan" if math.isnan(value) else f"{value:.2f}") for name, value in numbers.items()]
    rows = [[text for cell in cells[at : at + columns] for text in cell] for at in range(0, len(cells), columns)]
    return str(tabulate(rows, tablefmt="plain"))
