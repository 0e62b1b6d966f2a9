"""COCO's and VOC's numbers from files alone: anyone's detections against anyone's annotations."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tabulate import tabulate

from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.guard import guarded
from resnet_backbone.evaluation.class_ids import find_class_ids, how_read, is_json
from resnet_backbone.evaluation.coco import METRICS, CocoResult, evaluate_coco, has_mask, to_rle
from resnet_backbone.evaluation.coco_backends import IouType, Rle
from resnet_backbone.evaluation.explain import explain
from resnet_backbone.evaluation.mask_findings import check_mask_sizes, mask_findings
from resnet_backbone.evaluation.results_files import Found, read_found
from resnet_backbone.evaluation.truth import GroundTruth, read_truth
from resnet_backbone.evaluation.voc import Rounding, VocDetections, VocResult, evaluate_voc

What = Literal["bbox", "segm", "auto"]


@dataclass(frozen=True)
class EvaluateOptions:
    """What the command line says.

    Attributes:
        results: COCO results JSON, a VOC results file, or a folder of those.
        annotations: a COCO JSON file, or a folder in VOC's layout.
        split: of such a folder.
        iou_type: "auto" measures boxes and masks as far as both files have them.
        voc_rounding: see `evaluate_voc`.
        json: where to write the numbers.
        classes: of a folder in VOC's layout, in the order of the results' category ids from 1; empty takes what
            stands beside the results, else VOC's or the folder's own.
    """

    results: Path
    annotations: Path
    split: str = ""
    iou_type: What = "auto"
    voc_rounding: Rounding = "none"
    json: Path | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """The numbers, in percent, and what explains those that are 0 or nan.

    Attributes:
        coco: by "bbox" and "segm", as far as measured.
        voc: the same, at an overlap of 0.5.
        remarks: one line each; what was left out in reading comes first.
    """

    coco: dict[IouType, CocoResult]
    voc: dict[IouType, VocResult]
    remarks: list[str]

    def numbers(self) -> dict[str, dict[str, float]]:
        """By the names that `DetectionEvaluator` gives them."""
        flat: dict[str, dict[str, float]] = {
            task: {**one.metrics, **{f"AP-{name}": ap for name, ap in one.per_class.items()}}
            for task, one in self.coco.items()
        }
        for kind, voc in self.voc.items():
            of_classes = {f"AP50-{name}": one.ap for name, one in voc.classes.items()}
            flat["voc" if kind == "bbox" else "voc-segm"] = {"AP50": voc.ap, "AP50-11pt": voc.ap11, **of_classes}
        return flat


def start(options: EvaluateOptions) -> int:
    """Evaluates and prints; returns 0, or 1 after one sentence on what is wrong."""
    return guarded(lambda: _run(options), memory_remedy="fewer images a file, or more memory")


def _run(options: EvaluateOptions) -> int:
    if options.json is not None and options.json.is_dir():
        raise ValueError(f"--json {options.json}: is a folder; name a file")
    class_ids = find_class_ids(options.results, options.annotations, options.classes)
    truth = read_truth(options.annotations, options.split, class_ids)
    found = read_found(options.results, truth, options.split)
    if not truth.annotated:
        raise ValueError(
            f"{options.annotations}: has images but no annotations, as test sets have: nothing to measure; the "
            f"{len(found.results)} detections are readable and of its images and classes"
        )
    evaluation = evaluate_files(truth, found, options.iou_type, options.voc_rounding)
    print(f"{len(found.results)} detections, {len(truth.coco['images'])} images, {len(truth.classes)} classes")
    if options.annotations.is_dir() and is_json(options.results):
        print(how_read(class_ids, truth.category_ids, truth.classes))
    print(report(evaluation))
    if options.json is not None:
        plain = {
            task: {k: None if math.isnan(v) else v for k, v in n.items()} for task, n in evaluation.numbers().items()
        }
        text = json.dumps({**plain, "remarks": evaluation.remarks}, indent=1, ensure_ascii=False) + "\n"
        write_atomically(options.json, lambda file: file.write(text.encode()))
    return 0


def evaluate_files(truth: GroundTruth, found: Found, what: What = "auto", rounding: Rounding = "none") -> Evaluation:
    """Everything that both sides have.

    Raises:
        ValueError: boxes or masks are asked for that are not there, or masks are not of their image's size.
    """
    kinds = _kinds(truth, found, what)
    images, detections = truth.coco["images"], found.voc
    if "segm" in kinds:
        check_mask_sizes(truth.coco.get("annotations") or (), "ANNOTATIONS: annotation", images)
        check_mask_sizes(found.results, "RESULTS: detection", images)
        detections = replace(detections, masks=_masks(truth, found))
    coco = {kind: evaluate_coco(truth.coco, found.results, kind) for kind in kinds}
    voc = {kind: _voc(truth, detections, kind, rounding) for kind in kinds}
    masked = sum(has_mask(one.get("segmentation")) for one in found.results)
    remarks = [*truth.notes, *found.notes]
    if what == "auto" and truth.has_masks and masked and not found.has_masks:
        remarks.append(f"masks are not measured: {len(found.results) - masked} of the detections have none")
    remarks += explain(truth, detections)
    if len(voc) == 2:
        remarks += mask_findings(detections, voc["bbox"].ap, voc["segm"].ap)
    return Evaluation(coco, voc, remarks)


def _masks(truth: GroundTruth, found: Found) -> list[Rle]:
    sizes = {image["id"]: (image.get("height"), image.get("width")) for image in truth.coco["images"]}
    made = [to_rle(one["segmentation"], *sizes[one["image_id"]]) for one in found.results]
    return [mask for mask in made if mask is not None]


def _voc(truth: GroundTruth, found: VocDetections, kind: IouType, rounding: Rounding) -> VocResult:
    """Detectron2's rounding is one of boxes."""
    rounding = rounding if kind == "bbox" else "none"
    return evaluate_voc(truth.as_voc(kind), found, truth.classes, rounding=rounding, iou_type=kind)


def _kinds(truth: GroundTruth, found: Found, what: What) -> list[IouType]:
    """What to measure; no detections are as good as boxes and masks."""
    if what == "segm" and not truth.has_masks:
        raise ValueError("--iou-type segm: the annotations have no masks; use bbox")
    for kind, there, field in (
        ("bbox", found.has_boxes, "bbox"),
        ("segm", found.has_masks, "segmentation that is a mask (polygons have three points or more)"),
    ):
        if what == kind and not there:
            raise ValueError(f"--iou-type {what}: a detection has no {field}; take the other type, or auto")
    if what != "auto":
        return [what]
    kinds: list[IouType] = ["bbox"] if found.has_boxes else []
    if found.has_masks and truth.has_masks:
        kinds.append("segm")
    if not kinds:
        raise ValueError("the detections have neither boxes throughout nor masks that the annotations have, too")
    return kinds


def report(evaluation: Evaluation) -> str:
    """Tables of the means and of every class, and the remarks, as text."""
    parts = []
    if evaluation.coco:
        rows = [[f"COCO {kind}", *(_text(one.metrics[m]) for m in METRICS)] for kind, one in evaluation.coco.items()]
        parts.append(tabulate(rows, headers=["", *METRICS], stralign="right", disable_numparse=True))
    for kind, voc in evaluation.voc.items():
        parts.append(f"VOC {kind} at {voc.iou:g}: all points {_text(voc.ap)}, 11 points {_text(voc.ap11)}")
    parts.append(_class_table(evaluation))
    parts += [f"note: {remark}" for remark in evaluation.remarks]
    return "\n\n".join(parts)


def _class_table(evaluation: Evaluation) -> str:
    columns: dict[str, list[str]] = {
        f"AP {k}": list(map(_text, o.per_class.values())) for k, o in evaluation.coco.items()
    }
    names = list(next(iter(evaluation.coco.values())).per_class)
    for kind, voc in evaluation.voc.items():
        columns[f"VOC {kind}"] = [_text(one.ap) for one in voc.classes.values()]
        columns[f"VOC11 {kind}"] = [_text(one.ap11) for one in voc.classes.values()]
    for voc in list(evaluation.voc.values())[:1]:
        classes = list(voc.classes.values())
        columns["objects"] = [str(one.objects) for one in classes]
        columns["detections"] = [str(one.detections) for one in classes]
    rows = [[name, *(column[n] for column in columns.values())] for n, name in enumerate(names)]
    align = ("left", *("right" for _ in columns))
    return tabulate(rows, headers=["class", *columns], colalign=align if rows else None, disable_numparse=True)


def _text(value: float) -> str:
    return "nan" if math.isnan(value) else f"{value:.2f}"
