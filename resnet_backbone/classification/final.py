"""What a run leaves: batch norms with exact statistics, and weights with a record that says what they expect."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from resnet_backbone.classification.batch_norm import recompute_statistics
from resnet_backbone.classification.batches import training_batches
from resnet_backbone.classification.classifier import Inputs
from resnet_backbone.classification.config import TrainConfig
from resnet_backbone.classification.evaluate import Accuracy
from resnet_backbone.classification.splits import Data
from resnet_backbone.models.variants import find_variant
from resnet_backbone.weights.files import write_weights
from resnet_backbone.weights.record import WeightRecord


def exact_norms(model: nn.Module, config: TrainConfig, data: Data, inputs: Inputs, device: torch.device) -> None:
    """Sets batch norms to their averages over `exact_norm_images` augmented training images (Appendix A).

    The images are those of the run's first batches, whatever was trained after them.
    """
    count = math.ceil(config.exact_norm_images / config.batch_size)

    def views() -> Iterator[torch.Tensor]:
        for batch in itertools.islice(training_batches(data.train, config, 0, device), count):
            yield inputs.of(batch)

    recompute_statistics(model, views())


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
    measured = () if accuracy is None else (f"accuracy measured on {accuracy.images} validation images of {data.name}",)
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
        num_classes=len(data.classes),
        mean_image=config.size if config.mean_image else None,
        notes=(*measured, *notes),
    )
    write_weights(path, model.state_dict(), record)
