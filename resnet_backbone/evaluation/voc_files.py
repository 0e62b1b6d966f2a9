"""VOC's results files, one per class, as the devkit and the evaluation server read them: comp4_det_test_cat.txt.

A line is: image id, score, xmin, ymin, xmax, ymax; pixels count from 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.evaluation.voc import VocDetections

COMPETITION = "comp4"
"""Detection trained on any data; comp3 is for those trained on VOC alone, which ImageNet's weights exclude."""


@dataclass(frozen=True)
class VocLine:
    """One detection; the box is XYXY from 0, as in `VocDetections`; `where` is file and line for messages."""

    image: str
    score: float
    box: tuple[float, float, float, float]
    where: str


def file_name(class_name: str) -> str:
    """The class as a part of a file's name."""
    return re.sub(r"[/\\\0]", "_", class_name)


def write_class_files(folder: Path, split: str, detections: VocDetections, classes: Sequence[str]) -> list[Path]:
    """One file for every class, also for those of which nothing was found; read back, they give the same numbers.

    Args:
        folder: of the devkit's layout: results/VOC2012/Main.
        split: as in the files' names.
        detections: with class indices into `classes`; kept in their order, which decides ties.
        classes: names by class index.

    Raises:
        OSError: the files cannot be written.
    """
    boxes = np.asarray(detections.boxes, np.float64).reshape(-1, 4) + np.array([1.0, 1.0, 0.0, 0.0])
    scores = np.asarray(detections.scores, np.float64)
    files = []
    for index, name in enumerate(classes):
        # repr is the shortest text that reads back as the same number.
        lines = [
            f"{detections.images[n]} {' '.join(map(repr, [scores[n].item(), *boxes[n].tolist()]))}\n"
            for n in np.flatnonzero(np.asarray(detections.classes) == index).tolist()
        ]
        files.append(folder / f"{COMPETITION}_det_{split}_{file_name(name)}.txt")
        data = "".join(lines).encode()
        write_atomically(files[-1], lambda file, data=data: file.write(data))  # type: ignore[misc]
    return files


def read_class_file(file: Path) -> list[VocLine]:
    """The detections of one class, in the file's order; image ids may have spaces.

    Raises:
        ValueError: the file cannot be read, or a line has not six columns or a value that is no number.
    """
    return [_line(line, f"{file}, line {n}") for n, line in enumerate(read_lines(file), 1) if line.strip()]


def read_lines(file: Path) -> list[str]:
    """Of a text file in UTF-8, with or without the mark that Windows' editors begin it with.

    Raises:
        ValueError: it cannot be read, or is in another encoding.
    """
    try:
        return file.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: is no text in UTF-8 ({error.reason}); save it in that encoding") from error


def _line(text: str, where: str) -> VocLine:
    columns = text.strip().rsplit(maxsplit=5)
    if len(columns) != 6:
        raise ValueError(f"{where}: {len(columns)} columns and not the six of image id, score, xmin, ymin, xmax, ymax")
    try:
        score, x0, y0, x1, y1 = values = [float(value) for value in columns[1:]]
    except ValueError as error:
        raise ValueError(f"{where}: {text.strip()!r:.80}: score or box is not a number") from error
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{where}: {text.strip()!r:.80}: score or box is not a finite number")
    return VocLine(columns[0], score, (x0 - 1, y0 - 1, x1, y1), where)
