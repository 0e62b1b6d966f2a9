"""Tests classifiers on labelled images, as the records of their weights say."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resnet_backbone.classification.data.splits import Files, Streamed
from resnet_backbone.classification.testing.answers import Answers
from resnet_backbone.classification.testing.images import TOGETHER, LabelledImages, read_views
from resnet_backbone.classification.testing.protocols import Protocol, probabilities
from resnet_backbone.engine.progress import Progress
from resnet_backbone.models.build import build_network
from resnet_backbone.models.network import Network
from resnet_backbone.weights.compare import options_of
from resnet_backbone.weights.load import load_weights, read_source
from resnet_backbone.weights.naming import facts_of
from resnet_backbone.weights.record import WeightRecord
from resnet_backbone.weights.verify import check_class_folders


def load_classifier(weights: str | Path, images: LabelledImages) -> tuple[Network, WeightRecord]:
    """The classifier that a file of weights is of, as its record says, ready to be tested on `images`.

    Raises:
        ValueError: as `load_network`, or a classifier with other classes than the images.
    """
    network, record = load_network(weights)
    count = network.config.num_classes or 0
    if images.classes and isinstance(images.split, Files):
        check_class_folders(weights, count, len(images.classes))
    if images.classes and len(images.classes) != count:
        raise ValueError(
            f"{weights}: {count} classes, but the images are of {len(images.classes)}; give the data that it was "
            "trained for"
        )
    other = record.other_class(images.classes) if isinstance(images.split, (Files, Streamed)) else None
    if other:
        raise ValueError(
            f"{weights}: its classes have {other}; give images of its classes, or name the folders as then"
        )
    if not images.classes and (largest := int(images.labels.max())) >= count:
        raise ValueError(f"{weights}: {count} classes, but an image has the label {largest}")
    return network, record


def load_network(weights: str | Path) -> tuple[Network, WeightRecord]:
    """The classifier that a file of weights is of, as its record says, in evaluation mode.

    Raises:
        ValueError: a backbone or a detector, or an unknown network.
    """
    source = read_source(weights)
    record, count = source.record, facts_of(source.state).num_classes
    if source.detector or source.for_torchvision:
        raise ValueError(f"{weights}: these are a detector's weights; tools/train_net.py --eval-only tests detectors")
    if count is None or record.variant is None:
        missing = "classifier (only a backbone)" if count is None else "network of the family that they belong to"
        raise ValueError(f"{weights}: there is no {missing} in these weights")
    network = build_network(record.variant, **options_of(source.state, record))
    load_weights(network, source)
    return network.eval(), record


def check_protocol(weights: str | Path, network: Network, protocol: Protocol) -> None:
    """Refuses to see whole images, of whatever size, by a network that knows one size alone.

    Raises:
        ValueError: it subtracts a mean image.
    """
    side = network.config.mean_image
    if side is not None and protocol.everywhere:
        raise ValueError(
            f"{weights}: the network subtracts a mean image of {side} x {side} pixels, so {protocol.name} cannot show "
            "it other sizes; take --protocols 1-crop"
        )


def run_protocol(
    network: Network,
    record: WeightRecord,
    images: LabelledImages,
    protocol: Protocol,
    *,
    batch: int = 32,
    workers: int = 0,
    label: str = "testing",
) -> Answers:
    """What a network answers to all images; a line of progress on standard error.

    Raises:
        ValueError: an image that cannot be read; names it.
    """
    progress = Progress(len(images), label)
    found, labels, numbers = [], list[int](), list[int]()
    size = max(TOGETHER, batch)
    for seen in progress.waiting(read_views(images, protocol, record, workers=workers, size=size)):
        views = [views for views, _, _, _ in seen]
        found.append(probabilities(network, record, views, protocol.everywhere, batch=batch).numpy())
        labels += [label for _, label, _, _ in seen]
        numbers += [number for _, _, number, _ in seen]
        for _ in seen:
            progress.step()
    order = np.argsort(numbers)  # workers read shards side by side
    return Answers(images, np.concatenate(found)[order], np.array(labels)[order])
