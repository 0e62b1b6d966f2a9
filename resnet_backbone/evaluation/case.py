"""Truth and detections as arrays that can be measured again under another reading of boxes, classes or images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from resnet_backbone.evaluation.json_files import is_side
from resnet_backbone.evaluation.truth import GroundTruth
from resnet_backbone.evaluation.voc import Bools, Floats, Ints, VocDetections, VocTruth, evaluate_voc

LOW = 10.0
"""Percent: from this AP at 0.5 on a detector is taken for one that works."""
TIMES = 4.0
"""So many times the AP is what undoing a mistake must give, and at least `LOW`."""
OBJECTS = 20
"""To be found, from which on another reading is evidence: on a handful some reading of random boxes looks better."""
MORE = 5
"""So many more objects must be found under another reading."""
SAMPLE = 400
"""Images that are looked at; more would cost time and show the same."""


@dataclass(frozen=True)
class Case:
    """What was there and what was found, in at most `SAMPLE` images.

    Attributes:
        names: by class index.
        sizes: I,2 width and height of every image of the data set, in its order; nan where it is not known.
        chosen: I flags of the images that are looked at.
        truth_images, truth_classes, truth_boxes, difficult: G; images by their place, boxes XYXY from 0.
        images, classes, boxes, scores: D, of all images.
    """

    names: tuple[str, ...]
    sizes: Floats
    chosen: Bools
    truth_images: Ints
    truth_classes: Ints
    truth_boxes: Floats
    difficult: Bools
    images: Ints
    classes: Ints
    boxes: Floats
    scores: Floats

    def ap50(self) -> Floats:
        """AP at 0.5 of every class, percent, in the chosen images; nan for classes without objects there."""
        mine = np.flatnonzero(self._inside())
        truth = VocTruth(self.truth_images.tolist(), self.truth_classes, self.truth_boxes, self.difficult)
        found = VocDetections(self.images[mine].tolist(), self.classes[mine], self.boxes[mine], self.scores[mine])
        # Class names may be double; their places are not.
        result = evaluate_voc(truth, found, [str(n) for n in range(len(self.names))])
        return np.array([one.ap for one in result.classes.values()])

    def mean(self) -> float:
        """Mean AP at 0.5 of the classes with objects; 0 where there are none."""
        return mean_of(self.ap50())

    def explained_by(self, other: Case) -> bool:
        """Whether another reading of the same detections finds more objects than chance would."""
        return len(self.truth_images) >= OBJECTS and other.hits() >= self.hits() + MORE

    def hits(self) -> int:
        """Objects that are found as what they are: by the best-scored of the detections on them."""
        detections, objects = self.matches()
        return int((self.classes[detections] == self.truth_classes[objects]).sum())

    def of_one_class(self) -> Case:
        """The same as if all objects were of one class."""
        zeros = (np.zeros_like(self.truth_classes), np.zeros_like(self.classes))
        return replace(self, names=("object",), truth_classes=zeros[0], classes=zeros[1])

    def with_classes(self, table: Ints) -> Case:
        """Class index n read as table[n]; -1 takes its detections out."""
        classes = table[self.classes]
        return replace(self._only(classes >= 0), classes=classes[classes >= 0])

    def with_images(self, shift: int) -> Case:
        """Detections read as those of the image `shift` places further on."""
        images = self.images + shift
        kept = (images >= 0) & (images < len(self.sizes))
        return replace(self._only(kept), images=images[kept])

    def matches(self) -> tuple[Ints, Ints]:
        """Indices of detections and of objects that overlap by half or more, whatever their classes.

        Each object has one detection at most, the best-scored of those that overlap it more than any other.
        """
        pairs: dict[int, int] = {}
        by_image = np.argsort(self.images, kind="stable")
        starts = np.searchsorted(self.images[by_image], np.arange(len(self.sizes) + 1))
        for image in np.unique(self.truth_images).tolist():
            objects = np.flatnonzero(self.truth_images == image)
            mine = by_image[starts[image] : starts[image + 1]]
            mine = mine[np.argsort(self.scores[mine], kind="stable")]
            overlap = overlaps(self.boxes[mine], self.truth_boxes[objects])
            best = overlap.argmax(axis=1)
            hit = overlap.max(axis=1) >= 0.5
            pairs |= zip(objects[best[hit]].tolist(), mine[hit].tolist())  # the best-scored are last, and stay
        return np.array(list(pairs.values()), np.int64), np.array(list(pairs), np.int64)

    def _inside(self) -> Bools:
        return self.chosen[self.images]

    def _only(self, kept: Bools) -> Case:
        return replace(
            self, images=self.images[kept], classes=self.classes[kept], boxes=self.boxes[kept], scores=self.scores[kept]
        )


def mean_of(values: Floats) -> float:
    """Mean of what is known; 0 where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0


def make_case(truth: GroundTruth, found: VocDetections) -> Case:
    """Images with objects are looked at, spread evenly over the data set."""
    images = truth.coco["images"]
    places = {image["id"]: n for n, image in enumerate(images)}
    sizes = [[image.get(s) if is_side(image.get(s)) else np.nan for s in ("width", "height")] for image in images]
    voc = truth.as_voc()
    truth_images = np.array([places[i] for i in voc.images], np.int64)
    with_objects = np.unique(truth_images)
    spread = np.linspace(0, len(with_objects) - 1, min(SAMPLE, len(with_objects))).round().astype(np.int64)
    chosen = np.zeros(len(images), bool)
    chosen[with_objects[spread]] = True
    mine = chosen[truth_images]
    return Case(
        truth.classes,
        np.array(sizes, np.float64).reshape(-1, 2),
        chosen,
        truth_images[mine],
        np.asarray(voc.classes, np.int64)[mine],
        np.asarray(voc.boxes, np.float64)[mine],
        np.asarray(voc.difficult, bool)[mine],
        np.array([places[i] for i in found.images], np.int64),
        np.asarray(found.classes, np.int64),
        np.asarray(found.boxes, np.float64).reshape(-1, 4),
        np.asarray(found.scores, np.float64),
    )


def overlaps(found: Floats, objects: Floats) -> Floats:
    """D,G: intersection over union of boxes XYXY."""
    low = np.maximum(found[:, None, :2], objects[None, :, :2])
    high = np.minimum(found[:, None, 2:], objects[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=2)
    areas = [np.prod(np.maximum(b[:, 2:] - b[:, :2], 0.0), axis=1) for b in (found, objects)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
