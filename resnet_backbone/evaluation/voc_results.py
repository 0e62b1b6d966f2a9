"""Detections out of VOC's text files, which name images by their files and classes by their names."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resnet_backbone.engine.text import some
from resnet_backbone.evaluation.ids import image_remedy
from resnet_backbone.evaluation.truth import GroundTruth
from resnet_backbone.evaluation.voc import VocDetections
from resnet_backbone.evaluation.voc_files import VocLine, file_name, read_class_file


def read_class_files(files: Sequence[Path], truth: GroundTruth, split: str = "") -> tuple[VocDetections, list[str]]:
    """Detections of one split, in the order of the truth's classes, so that it does not depend on the files' names.

    Args:
        files: one for each class at most.
        truth: whose images and classes they are of.
        split: where it is known, what stands between `_det_` and the class in their names is not guessed.

    Returns:
        The detections, and a line on files whose class was guessed.

    Raises:
        ValueError: one sentence with file, line and remedy for whatever cannot be read, is of no class or image of
            the truth, or of more than one.
    """
    lines: list[tuple[int, VocLine]] = []
    of_class: dict[int, Path] = {}
    guessed: list[str] = []
    for index, file in sorted((_class_of(file, truth.classes, split), file) for file in files):
        if of_class.setdefault(index, file) != file:
            raise ValueError(
                f"{file}: {of_class[index]} is of the same class, {truth.classes[index]!r}; give a folder with the "
                "files of one split"
            )
        lines += [(index, line) for line in read_class_file(file)]
        if _is_guessed(file, truth.classes[index], split):
            guessed.append(f"{file.name} for {truth.classes[index]!r}")
    image_of = _images(truth)
    ids = [image_of(line) for _, line in lines]
    for (index, line), identity in zip(lines, ids):
        if identity is None:
            raise ValueError(
                f"{line.where} (class {truth.classes[index]!r}): image {line.image!r} is not among the annotated "
                f"ones; {image_remedy([one.image for _, one in lines], truth)}"
            )
    found = VocDetections(
        ids,
        np.array([index for index, _ in lines], np.int64),
        np.array([line.box for _, line in lines], np.float64).reshape(-1, 4),
        np.array([line.score for _, line in lines], np.float64),
    )
    return found, [f"text files are taken for classes by the ends of their names: {some(guessed)}"] if guessed else []


def _images(truth: GroundTruth) -> Callable[[VocLine], Any]:
    """The id of a line's image, by its file's name without ending, else by its id; None where there is none."""
    named: defaultdict[str, list[Any]] = defaultdict(list)
    for image in truth.coco["images"]:
        if image.get("file_name"):
            named[Path(str(image["file_name"])).stem].append(image)
    numbered = {str(image["id"]): image for image in truth.coco["images"]}

    def image_of(line: VocLine) -> Any:
        by_name = named.get(line.image, [])
        fitting = [*by_name, *(one for one in [numbered.get(line.image)] if one and one not in by_name)]
        if len(fitting) > 1:
            known = " and ".join(f"{one.get('file_name')!r} of id {one['id']!r}" for one in fitting[:2])
            raise ValueError(
                f"{line.where}: image {line.image!r} may be {known}; give JSON results, whose ids tell them apart"
            )
        return fitting[0]["id"] if fitting else None

    return image_of


def _class_of(file: Path, classes: Sequence[str], split: str) -> int:
    """The class whose name stands behind the split, or else ends the file's; of "bed" and "sun_bed" the longer one."""
    known = _after_split(file, split)
    fitting = [
        n
        for n, name in enumerate(classes)
        if (known == file_name(name) if known else f"_{file.stem}".endswith(f"_{file_name(name)}"))
    ]
    if not fitting:
        said = known or file.stem.split("_")[-1]
        near = difflib.get_close_matches(said, classes, 1)
        remedy = f"did you mean {near[0]!r}?" if near else f"the classes there are {', '.join(classes[:20])}"
        raise ValueError(f"{file}: its name ends in no class of the annotations; {remedy}")
    return max(fitting, key=lambda n: len(classes[n]))


def _after_split(file: Path, split: str) -> str:
    """What stands behind `_det_<split>_`; empty where the name is another one."""
    return file.stem.partition(f"_det_{split}_")[2] if split else ""


def _is_guessed(file: Path, class_name: str, split: str) -> bool:
    """Whether more than a split of one word stands before the class, so that it may be a part of the class's name."""
    behind = file.stem.partition("_det_")[2].partition("_")[2]
    return bool(behind) and behind != file_name(class_name) and not _after_split(file, split)
