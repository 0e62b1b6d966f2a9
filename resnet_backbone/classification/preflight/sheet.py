"""Training images as the network gets them, on one sheet."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from resnet_backbone.classification.data.batch import Batch
from resnet_backbone.classification.data.batches import training_batches
from resnet_backbone.classification.data.splits import Data, Split, Streamed
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.recipe.length import length_of
from resnet_backbone.classification.training.classifier import Classifier, Inputs
from resnet_backbone.engine.preflight import Finding
from resnet_backbone.evaluation.pictures import Picture, contact_sheet, save, titled
from resnet_backbone.models.network import Network

ROWS, COLUMNS = 4, 4
SIDE = 224
"""Pixels of an image on the sheet."""
CPU = torch.device("cpu")


def sheet_finding(config: TrainConfig, data: Data, network: Network, path: Path) -> Finding:
    """Draws batches of four times of the run, a row each: cropped, augmented and mixed, with names and shares."""
    # With all views of each image: the first images of a batch are others, as in a large one.
    small = dataclasses.replace(config, batch_size=COLUMNS * config.repeats, accumulate=1, workers=0, device="cpu")
    classifier = Classifier(network, Inputs(small, CPU), small, len(data.classes))
    pictures: list[Picture] = []
    for batch in _batches(data.train, small):
        images, _, targets = classifier.inputs(batch)
        pictures += _row(images[:COLUMNS], targets[:COLUMNS], data.classes, small)
    save(path, contact_sheet(pictures, columns=COLUMNS, width=COLUMNS * (SIDE + 16)))
    return Finding("ok", f"{len(pictures)} training images as the network gets them, a row for each quarter: {path}")


def _batches(split: Split, config: TrainConfig) -> Iterator[Batch]:
    """One of each quarter of the run; of shards, of which much is read before a first image comes, the first ones."""
    if isinstance(split, Streamed):
        yield from itertools.islice(training_batches(split, config, 0, CPU), ROWS)
        return
    total = length_of(config, len(split)).total
    for iteration in np.linspace(0, total - 1, ROWS).round().astype(int).tolist():
        yield next(training_batches(split, config, iteration, CPU))


def _row(images: torch.Tensor, targets: torch.Tensor, names: tuple[str, ...], config: TrainConfig) -> Iterator[Picture]:
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (config.mean, config.std))
    pixels = (images * std + mean).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    for picture, target in zip(pixels, targets, strict=True):
        # Small ones with their pixels to be seen.
        shown = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        yield titled(np.asarray(shown), _answer(target, names))


def _answer(target: torch.Tensor, names: tuple[str, ...]) -> str:
    if not target.dim():
        return names[int(target)]
    shares = sorted(((float(target[k]), names[k]) for k in target.nonzero().flatten().tolist()), reverse=True)
    return ", ".join(f"{100 * share:.0f} % {name}" for share, name in shares) if len(shares) > 1 else shares[0][1]
