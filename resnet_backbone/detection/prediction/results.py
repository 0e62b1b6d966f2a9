"""What was found, as it is collected: pictures and films at once, results for COCO's tools at the end."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json

from resnet_backbone.detection.drawables import predicted_objects
from resnet_backbone.detection.evaluator import RESULTS_FILE
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.evaluation.pictures import Picture, draw, save

IMAGES_FILE = "images.json"
SMALL = 480
"""Pictures of images whose longer side is below this many pixels are enlarged to it, so that labels have room."""


@dataclass(frozen=True)
class Classes:
    """By class index: names, which may be missing, and the ids that results carry."""

    names: tuple[str, ...]
    ids: tuple[int, ...]

    def name(self, index: int) -> str:
        """As it is drawn, too."""
        return self.names[index] if self.names else f"class {index}"


class Predictions:
    """Collects the detections of one call of the tool; `write` makes the two JSON files.

    `coco_instances_results.json` holds every detection, `images.json` what its ids mean; pycocotools loads both
    together: `COCO("images.json").loadRes("coco_instances_results.json")`.

    Args:
        folder: gets the files, and the pictures in `pictures`.
        threshold: score from which on objects are drawn and counted.
        info: where the detections come from, for `images.json`.

    Attributes:
        counts: objects from the threshold on, by class index.
        seen, empty: images and frames, and those of them without such an object.
        best: the highest score.
    """

    def __init__(self, folder: Path, classes: Classes, threshold: float, info: dict[str, Any]) -> None:
        self.folder, self.classes, self.threshold = folder, classes, threshold
        self.pictures = folder / "pictures"
        self.counts: Counter[int] = Counter()
        self.seen = self.empty = 0
        self.best = 0.0
        self._info = info
        self._images: list[dict[str, Any]] = []
        self._results: list[dict[str, Any]] = []

    def add(self, image_id: int, file_name: str, instances: Any, **more: Any) -> None:
        """Takes what a model found in an image or frame, on the CPU; `more` goes into its entry of `images.json`."""
        height, width = instances.image_size
        self._images.append({"id": image_id, "file_name": file_name, "height": height, "width": width, **more})
        # JSON has no nan.
        finite = instances[instances.scores.isfinite() & instances.pred_boxes.tensor.isfinite().all(dim=1)]
        for result in instances_to_coco_json(finite, image_id):
            self._results.append({**result, "category_id": self.classes.ids[result["category_id"]]})
        shown = finite.pred_classes[finite.scores >= self.threshold].tolist()
        self.counts.update(shown)
        self.seen += 1
        self.empty += not shown
        self.best = max([self.best, *finite.scores.tolist()])

    def draw(self, image: Picture, instances: Any, *, enlarge: bool = True) -> Picture:
        """The RGB image with the objects from the threshold on."""
        scale = max(1.0, SMALL / max(image.shape[:2])) if enlarge else 1.0
        with torch.no_grad():
            objects = predicted_objects(instances, threshold=self.threshold)
        return draw(image, objects, self.classes.names, scale=scale)

    def save_picture(self, name: str, image: Picture, instances: Any) -> None:
        """Writes pictures/NAME.jpg."""
        save(self.pictures / f"{name}.jpg", self.draw(image, instances))

    def write(self) -> None:
        """Writes both JSON files, each whole or not at all.

        Raises:
            OSError: they cannot be written.
        """
        categories = [{"id": number, "name": self.classes.name(at)} for at, number in enumerate(self.classes.ids)]
        described = {"info": self._info, "images": self._images, "categories": categories, "annotations": []}
        for name, content in ((IMAGES_FILE, described), (RESULTS_FILE, self._results)):
            data = json.dumps(content, ensure_ascii=False).encode()
            write_atomically(self.folder / name, lambda file, data=data: file.write(data))  # type: ignore[misc]

    def counted(self) -> str:
        """One sentence: how many objects of which class."""
        if not self.counts:
            best = f"the highest score is {self.best:.2f}, --threshold lowers it" if self.best else "none at any score"
            return f"no object reaches the score {self.threshold:g} in {self.seen} images or frames ({best})"
        found = ", ".join(f"{number} {self.classes.name(index)}" for index, number in self.counts.most_common())
        return (
            f"objects from score {self.threshold:g} on: {found}; in {self.seen - self.empty} of {self.seen} images or "
            "frames"
        )


class Film:
    """An annotated video as it grows; it gets its name when it is closed, also when work on it was interrupted.

    Args:
        path: ending in .mp4.
        rate: frames per second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path = path
        self._part = path.with_name(f".{path.stem}.part{path.suffix}")
        self._rate = rate
        self._writer: Any = None
        self._size = (0, 0)

    def __enter__(self) -> Film:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
            self._part.replace(self.path)

    def write(self, picture: Picture) -> None:
        """Adds an RGB picture; the first one settles the size.

        Raises:
            OSError: this OpenCV cannot write videos, or not here.
        """
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._size = (picture.shape[1], picture.shape[0])
            # MPEG-4: the one codec for .mp4 that every build of OpenCV can write.
            fourcc = cv2.VideoWriter.fourcc(*"mp4v")
            writer = cv2.VideoWriter(str(self._part), fourcc, self._rate, self._size)
            if not writer.isOpened():
                raise OSError(f"{self.path}: OpenCV cannot write this video; --no-pictures does without")
            self._writer = writer
        if (picture.shape[1], picture.shape[0]) != self._size:
            # OpenCV would leave it out and say nothing.
            picture = np.asarray(cv2.resize(picture, self._size), np.uint8)
        self._writer.write(np.ascontiguousarray(picture[:, :, ::-1]))
