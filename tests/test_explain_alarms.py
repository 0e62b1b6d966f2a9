"""Small sets and chance: no mistake is named that nobody made."""

from __future__ import annotations

import numpy as np
import pytest

from resnet_backbone.evaluation.explain import explain
from resnet_backbone.evaluation.truth import GroundTruth
from resnet_backbone.evaluation.voc import VocDetections

MISTAKES = ("classes shifted", "another order", "one image off", "read so")


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """XYXY in an image of 200 x 100 pixels, large as objects of small sets often are."""
    sides = rng.uniform((15, 15), (120, 70), (count, 2))
    corners = rng.uniform(0, 1, (count, 2)) * ((200, 100) - sides)
    return np.concatenate([corners, corners + sides], axis=1)


def made(
    rng: np.random.Generator, images: int, objects: int, classes: int, *, right_boxes: bool
) -> tuple[GroundTruth, VocDetections]:
    """Objects at random; detections of random classes on them, or five random ones in each image."""
    boxes, labels = random_boxes(rng, images * objects), rng.integers(0, classes, images * objects)
    places = np.repeat(np.arange(images), objects)
    coco = {
        "images": [{"id": n, "width": 200, "height": 100} for n in range(images)],
        "categories": [{"id": n + 1, "name": f"c{n}"} for n in range(classes)],
        "annotations": [
            {"id": n, "image_id": int(image), "category_id": int(label) + 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            for n, (image, label, (x0, y0, x1, y1)) in enumerate(zip(places, labels, boxes.tolist()))
        ],
    }
    names = tuple(f"c{n}" for n in range(classes))
    truth = GroundTruth(coco, names, tuple(range(1, classes + 1)), True)
    if not right_boxes:
        boxes, places = random_boxes(rng, 5 * images), np.repeat(np.arange(images), 5)
    found = rng.integers(0, classes, len(boxes))
    return truth, VocDetections(places.tolist(), found, boxes, rng.random(len(boxes)))


@pytest.mark.parametrize(
    ("images", "objects", "classes", "right_boxes"),
    [(5, 2, 1, False), (3, 1, 1, False), (8, 3, 10, False), (5, 2, 10, True), (3, 1, 3, True), (15, 4, 10, False)],
)
def test_chance_is_no_mistake(images: int, objects: int, classes: int, right_boxes: bool) -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        lines = explain(*made(rng, images, objects, classes, right_boxes=right_boxes))
        assert not [line for line in lines if any(mistake in line for mistake in MISTAKES)]
