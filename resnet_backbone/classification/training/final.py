"""What a run leaves: batch norms with exact statistics, and weights with a record that says what they expect."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from resnet_backbone.classification.data.batch import Batch
from resnet_backbone.classification.data.batches import training_batches
from resnet_backbone.classification.data.order import share
from resnet_backbone.classification.data.splits import Data
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.testing.batch_norm import recompute_statistics
from resnet_backbone.classification.testing.evaluate import Accuracy
from resnet_backbone.classification.training.classifier import Inputs
from resnet_backbone.engine.addresses import without_secrets
from resnet_backbone.models.variants import find_variant
from resnet_backbone.weights.files import write_weights
from resnet_backbone.weights.record import MEASURED_NOTE, STATISTICS_NOTE, WeightRecord


def exact_norms(model: nn.Module, config: TrainConfig, data: Data, inputs: Inputs, device: torch.device) -> int:
    """Sets batch norms to mean and variance over `exact_norm_images` training images, or all there are (Appendix A).

    The views are the training's at the size of its end: drawn anew for each image, without mixing; in the parts that
    batch norm saw in training, so that many processes find what one finds.

    Returns:
        how many images it were, of all processes.
    """
    return recompute_statistics(model, (inputs.of(part) for part in _parts_once(config, data, device)))


def _parts_once(config: TrainConfig, data: Data, device: torch.device) -> Iterator[Batch]:
    """The first images of an epoch; parts of a last batch that is not whole join those before, lest they be too small.

    So every process has as many parts, in each of which SyncBN meets the others.
    """
    config = dataclasses.replace(config, repeats=1, start_size=None)
    images = min(config.exact_norm_images, len(data.train))
    waiting: list[Batch] = []
    for batch in itertools.islice(
        training_batches(data.train, config, 0, device), math.ceil(images / config.batch_size)
    ):
        own = torch.from_numpy(share(config, batch.iteration) < images).to(batch.images.device)
        size = len(batch) // config.accumulate
        parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        for part, counted in zip(parts, own.split(size), strict=True):
            part.images = part.images[counted]
        if (batch.iteration + 1) * config.batch_size > images and waiting:
            for part, more in zip(waiting, parts, strict=True):
                part.images = torch.cat([part.images, more.images])
        else:
            yield from waiting
            waiting = parts
    yield from waiting


def norm_notes(images: int, data: Data) -> tuple[str, ...]:
    """For the record: what `exact_norms` did."""
    whole = "the" if images == len(data.train) else f"{images:,} of the"
    said = f"{STATISTICS_NOTE} over {whole} {len(data.train):,} training images, augmented as in training"
    return (said,) if images else ()


def write_final(
    path: Path,
    model: nn.Module,
    config: TrainConfig,
    data: Data,
    accuracy: Accuracy | None,
    notes: Sequence[str] = (),
) -> None:
    """Writes the weights with their record.

    Args:
        accuracy: on the validation images; None where it is not known.
        notes: of the record.
    """
    variant = find_variant(config.network)
    started = (f"started from {without_secrets(config.weights)}",) if config.weights else ()
    measured = () if accuracy is None else (f"{MEASURED_NOTE} {accuracy.images} validation images of {data.name}",)
    record = WeightRecord(
        naming="resnet_backbone",
        source=f"tools/pretrain_imagenet.py, seed {config.seed}",
        variant=config.network,
        stride_in_1x1=config.stride_in_1x1 if variant.block == "bottleneck" else None,
        channel_order="RGB",
        mean=config.mean,
        std=config.std,
        eps=config.norm_eps,
        input_size=config.test_size,
        resize=config.test_resize,
        top1=None if accuracy is None else accuracy.top1_percent,
        top5=None if accuracy is None else accuracy.top5_percent,
        shortcut=config.shortcut or (variant.shortcut if variant.family != "vgg" else None),
        pad_before=config.pad_before,
        num_classes=len(data.classes),
        classes=data.classes,
        norm="GN" if config.norm == "GN" else None,
        mean_image=config.size if config.mean_image else None,
        notes=(*started, *measured, *notes),
    )
    write_weights(path, model.state_dict(), record)
