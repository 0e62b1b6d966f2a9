"""What a classifier answered to labelled images: how much of it is right, and where it is wrong."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_backbone.classification.testing.evaluate import Accuracy
from resnet_backbone.classification.testing.images import LabelledImages
from resnet_backbone.engine.atomic import write_atomically


@dataclass(frozen=True)
class Answers:
    """Of one classifier, or of several together.

    Attributes:
        found: class probabilities N,num_classes, in the order of `images`.
        labels: N, as they were read with the images.
    """

    images: LabelledImages
    found: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def taken_for(self) -> NDArray[np.int64]:
        """N, the most probable class; of equal probabilities the lower one."""
        return self.found.argmax(1)

    def accuracy(self) -> Accuracy:
        """Right answers among the first and the first five; of equal probabilities the lower class comes first."""
        right = np.argsort(-self.found, axis=1, kind="stable")[:, :5] == self.labels[:, None]
        five = int(right.sum()) if self.found.shape[1] > 5 else None
        return Accuracy(len(self.labels), int(right[:, 0].sum()), five)

    def class_errors(self) -> list[tuple[str, int, int]]:
        """(class, images, wrong answers) of every class that has images, the worst share first."""
        wrong = self.taken_for != self.labels
        rows = [
            (self.images.name(int(label)), int((self.labels == label).sum()), int(wrong[self.labels == label].sum()))
            for label in np.unique(self.labels)
        ]
        return sorted(rows, key=lambda row: -row[2] / row[1])

    def confusions(self) -> list[tuple[str, str, int]]:
        """(class, taken for, how often), the most frequent first."""
        both = np.stack([self.labels, self.taken_for])
        pairs, counts = np.unique(both[:, both[0] != both[1]], axis=1, return_counts=True)
        rows = [(self.images.name(int(a)), self.images.name(int(b)), int(n)) for (a, b), n in zip(pairs.T, counts)]
        return sorted(rows, key=lambda row: -row[2])

    def write_tables(self, folder: Path, name: str) -> list[Path]:
        """`name`-classes.csv, `name`-confusions.csv and `name`-answers.csv in `folder`; returns the files.

        Raises:
            OSError: a file cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        images = self.images
        answers = [
            (images.split.name(number), images.name(label), images.name(int(row.argmax())), f"{row.max():.4f}")
            for number, label, row in zip(images.numbers.tolist(), self.labels.tolist(), self.found)
        ]
        tables: dict[str, tuple[Sequence[str], Sequence[Sequence[object]]]] = {
            "classes": (("class", "images", "wrong"), self.class_errors()),
            "confusions": (("class", "taken for", "times"), self.confusions()),
            "answers": (("file", "class", "answer", "probability"), answers),
        }
        return [_write_csv(folder / f"{name}-{what}.csv", *table) for what, table in tables.items()]


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))
    return path
