"""Tests classifiers on labelled images: one or several weights, one or several protocols, errors class by class."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from resnet_backbone.classification.data.cifar import is_cifar
from resnet_backbone.classification.data.shard_index import INDEX
from resnet_backbone.classification.testing.evaluate import Accuracy
from resnet_backbone.classification.testing.protocols import Protocol, Views, probabilities
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.progress import Progress
from resnet_backbone.images.decode import open_image
from resnet_backbone.images.listing import class_names
from resnet_backbone.models.build import build_network
from resnet_backbone.models.network import Network
from resnet_backbone.models.variants import find_variant
from resnet_backbone.weights.compare import settled_options
from resnet_backbone.weights.load import load_weights, read_source
from resnet_backbone.weights.naming import facts_of
from resnet_backbone.weights.record import WeightRecord
from resnet_backbone.weights.verify import labelled_images

TOGETHER = 16
"""Images that are read before their views go through the network."""


@dataclass(frozen=True)
class LabelledImages:
    """Files with their labels, and the names of the classes where folders give them."""

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    def name(self, label: int) -> str:
        """A class for people."""
        return self.classes[label] if self.classes else f"class {label}"


def find_images(folder: str | Path, limit: int | None = None) -> LabelledImages:
    """Images of class folders (also below `folder`/val), or of a `labels.txt` with lines of name and class index.

    Args:
        limit: only so many, spread evenly over all.

    Raises:
        ValueError: neither is there, or a line or file is wrong.
    """
    folder = Path(folder)
    if (folder / "val").is_dir():
        folder /= "val"
    if is_cifar(folder) or (folder / INDEX).is_file():
        what = "tar shards" if (folder / INDEX).is_file() else "no folder of images"
        said = "this tests class folders; on CIFAR and shards the run itself tests (metrics.jsonl)"
        raise ValueError(f"{folder}: {what}; {said}")
    pairs = labelled_images(folder)
    named = not (folder / "labels.txt").is_file()
    classes = class_names(folder) if named else ()
    if limit is not None and limit < len(pairs):
        if limit < 1:
            raise ValueError(f"--limit {limit}: at least 1 image")
        pairs = [pairs[i] for i in np.linspace(0, len(pairs) - 1, limit).round().astype(int)]
    files, labels = zip(*pairs)
    return LabelledImages(files, labels, classes)


def load_classifier(weights: str | Path, images: LabelledImages) -> tuple[Network, WeightRecord]:
    """The classifier that a file of weights is of, as its record says, ready to be tested on `images`.

    Raises:
        ValueError: as `load_network`, or a classifier with other classes than the images.
    """
    network, record = load_network(weights)
    count = network.config.num_classes or 0
    if images.classes and len(images.classes) != count:
        raise ValueError(
            f"{weights}: {count} classes, but the images lie in {len(images.classes)} class folders; give all classes "
            "a folder each, or a labels.txt with lines of file name and class index"
        )
    if max(images.labels) >= count:
        raise ValueError(f"{weights}: {count} classes, but an image has the label {max(images.labels)}")
    return network, record


def load_network(weights: str | Path) -> tuple[Network, WeightRecord]:
    """The classifier that a file of weights is of, as its record says, in evaluation mode.

    Raises:
        ValueError: a backbone or a detector, or an unknown network.
    """
    source = read_source(weights)
    record, facts = source.record, facts_of(source.state)
    count = facts.num_classes
    if source.detector or source.for_torchvision:
        raise ValueError(f"{weights}: these are a detector's weights; tools/train_net.py --eval-only tests detectors")
    if count is None or record.variant is None:
        missing = "classifier (only a backbone)" if count is None else "network of the family that they belong to"
        raise ValueError(f"{weights}: there is no {missing} in these weights")
    variant = find_variant(record.variant)
    options: dict[str, Any] = {"num_classes": count}
    if variant.family != "vgg":  # narrower networks have the same names
        options |= {"stem_out_channels": facts.stem_out_channels, "res2_out_channels": facts.res2_out_channels}
    options = settled_options(variant, record, options)
    network = build_network(record.variant, **options)
    load_weights(network, source)
    return network.eval(), record


class _Viewed(Dataset[Views | ValueError]):
    """Images as a protocol sees them; one that cannot be read is its error, which has to leave a worker whole."""

    def __init__(self, files: Sequence[Path], protocol: Protocol, record: WeightRecord) -> None:
        self.files, self.protocol, self.record = files, protocol, record

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Views | ValueError:
        try:
            return self.protocol.views(open_image(self.files[index]), self.record)
        except ValueError as error:
            return error


def run_protocol(
    network: Network,
    record: WeightRecord,
    images: LabelledImages,
    protocol: Protocol,
    *,
    batch: int = 32,
    workers: int = 0,
    label: str = "testing",
) -> NDArray[np.float32]:
    """Class probabilities of all images, N,num_classes; a line of progress on standard error.

    Raises:
        ValueError: an image that cannot be read; names it.
    """
    count = len(images.files)
    chunks = [list(range(start, min(start + TOGETHER, count))) for start in range(0, count, TOGETHER)]
    progress, found = Progress(count, label), []
    for views in progress.waiting(read_views(images.files, protocol, record, chunks, workers)):
        found.append(probabilities(network, record, views, protocol.everywhere, batch=batch).numpy())
        for _ in views:
            progress.step()
    return np.concatenate(found)


def read_views(
    files: Sequence[Path], protocol: Protocol, record: WeightRecord, chunks: Sequence[list[int]], workers: int
) -> Iterator[list[Views]]:
    """The views of the files of every chunk, read by `workers` processes.

    Raises:
        ValueError: an image that cannot be read; names it.
    """
    workers = min(workers, os.cpu_count() or 1)
    viewed = _Viewed(files, protocol, record)
    loader: DataLoader[Any] = DataLoader(viewed, batch_sampler=chunks, num_workers=workers, collate_fn=list)
    for batch in loader:
        for views in batch:
            if isinstance(views, ValueError):
                raise views
        yield batch


def accuracy(found: NDArray[np.float32], labels: Sequence[int]) -> Accuracy:
    """Right answers among the first and the first five; of equal probabilities the lower class comes first."""
    order = np.argsort(-found, axis=1, kind="stable")[:, :5] == np.asarray(labels)[:, None]
    return Accuracy(len(labels), int(order[:, 0].sum()), int(order.sum()) if found.shape[1] > 5 else None)


def class_errors(found: NDArray[np.float32], images: LabelledImages) -> list[tuple[str, int, int]]:
    """(class, images, wrong answers) of every class that has images, the worst share first."""
    labels, answers = np.asarray(images.labels), found.argmax(1)
    rows = [
        (images.name(int(label)), int((labels == label).sum()), int((answers[labels == label] != label).sum()))
        for label in np.unique(labels)
    ]
    return sorted(rows, key=lambda row: -row[2] / row[1])


def confusions(found: NDArray[np.float32], images: LabelledImages) -> list[tuple[str, str, int]]:
    """(class, taken for, how often), the most frequent first."""
    labels, answers = np.asarray(images.labels), found.argmax(1)
    pairs, counts = np.unique(np.stack([labels, answers])[:, labels != answers], axis=1, return_counts=True)
    rows = [(images.name(int(a)), images.name(int(b)), int(n)) for (a, b), n in zip(pairs.T, counts)]
    return sorted(rows, key=lambda row: -row[2])


def write_tables(folder: Path, name: str, found: NDArray[np.float32], images: LabelledImages) -> list[Path]:
    """`name`-classes.csv, `name`-confusions.csv and `name`-answers.csv in `folder`; returns the files.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    answers = [
        (str(file), images.name(label), images.name(int(row.argmax())), f"{row.max():.4f}")
        for file, label, row in zip(images.files, images.labels, found)
    ]
    tables: dict[str, tuple[Sequence[str], Sequence[Sequence[object]]]] = {
        "classes": (("class", "images", "wrong"), class_errors(found, images)),
        "confusions": (("class", "taken for", "times"), confusions(found, images)),
        "answers": (("file", "class", "answer", "probability"), answers),
    }
    return [_write_csv(folder / f"{name}-{what}.csv", *table) for what, table in tables.items()]


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))
    return path
