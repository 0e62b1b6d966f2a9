"""Detections made from ground truth: shifted, doubled, mislabelled, with tied scores; always the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as masks

from resnet_backbone.evaluation.coco import to_rle
from resnet_backbone.evaluation.voc import VocDetections


def perturbed_boxes(
    images: list[Any], classes: np.ndarray, boxes: np.ndarray, number_of_classes: int, seed: int = 0
) -> tuple[list[Any], np.ndarray, np.ndarray, np.ndarray]:
    """Images, classes, XYXY float32 boxes and float32 scores, scores tied in tenths for a third of them."""
    rng = np.random.default_rng(seed)
    picks = np.concatenate(
        [rng.permutation(len(boxes))[: int(0.8 * len(boxes))], rng.integers(0, len(boxes), len(boxes))]
    )
    sides = np.tile(boxes[picks, 2:] - boxes[picks, :2], 2)
    moved = boxes[picks] + rng.normal(0, 0.12, (len(picks), 4)) * sides * rng.integers(0, 3, (len(picks), 1))
    moved = np.concatenate([np.minimum(moved[:, :2], moved[:, 2:]), np.maximum(moved[:, :2], moved[:, 2:])], axis=1)
    labels = np.where(rng.random(len(picks)) < 0.15, rng.integers(0, number_of_classes, len(picks)), classes[picks])
    scores = rng.random(len(picks))
    tied = rng.random(len(picks)) < 0.33
    scores[tied] = np.round(scores[tied], 1)
    return [images[i] for i in picks], labels, moved.astype(np.float32), scores.astype(np.float32)


def write_as_detectron2(file: Path, found: VocDetections, index: int) -> None:
    """One class's detections in VOC's text format with the decimals of Detectron2's evaluator."""
    lines = [
        f"{image} {score:.3f} {box[0] + 1:.1f} {box[1] + 1:.1f} {box[2]:.1f} {box[3]:.1f}\n"
        for image, label, box, score in zip(found.images, found.classes, found.boxes, found.scores.tolist())
        if label == index
    ]
    file.write_text("".join(lines))


def perturbed_results(truth: dict[str, Any], *, with_masks: bool, seed: int = 0) -> list[dict[str, Any]]:
    """COCO results for a COCO ground truth; a mask is the object's own, shifted."""
    rng = np.random.default_rng(seed)
    sizes = {i["id"]: (i["height"], i["width"]) for i in truth["images"]}
    categories = [c["id"] for c in truth["categories"]]
    results = []
    for n in rng.permutation(np.tile(np.arange(len(truth["annotations"])), 2))[: int(1.6 * len(truth["annotations"]))]:
        one = truth["annotations"][n]
        x, y, w, h = one["bbox"]
        shift = rng.normal(0, 0.1, 2) * (w, h) * rng.integers(0, 3)
        result = {
            "image_id": one["image_id"],
            "category_id": one["category_id"] if rng.random() < 0.85 else int(rng.choice(categories)),
            "bbox": [float(v) for v in (x + shift[0], y + shift[1], w * rng.uniform(0.8, 1.2), h)],
            "score": float(np.round(rng.random(), rng.integers(1, 6))),
        }
        if with_masks:
            mask = masks.decode(to_rle(one["segmentation"], *sizes[one["image_id"]]))
            mask = np.roll(mask, (int(shift[1]), int(shift[0])), (0, 1))
            rle = masks.encode(np.asfortranarray(mask))
            result["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
        results.append(result)
    return results
