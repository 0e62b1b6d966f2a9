"""What the workers leave to the device: whole batches are augmented there, beside the network's work."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from resnet_backbone.classification.data.batch import Batch
from resnet_backbone.classification.data.views import augmentation_of
from resnet_backbone.classification.recipe.config import TrainConfig


def augments_there(config: TrainConfig, device: torch.device) -> bool:
    """Whether images are augmented on the device instead of in the workers, as `augment_on` says."""
    return config.augment_on == "device" or (config.augment_on == "auto" and device.type != "cpu")


def augmented_there(batches: Iterator[Batch], config: TrainConfig, device: torch.device) -> Iterator[Batch]:
    """Batches of views that are cut out, brought to the device and augmented there; they stay uint8."""
    augmentation = augmentation_of(config)
    # In a stream of its own a copy to the GPU, of which there are many, does not wait for the network's step.
    beside = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None
    for batch in batches:
        with torch.cuda.stream(beside):
            images = batch.images.to(device, non_blocking=True)
            batch.images, batch.changes = augmentation.apply_to_batch(images, batch.changes), ()
        if beside is not None:
            network = torch.cuda.current_stream(device)
            network.wait_stream(beside)
            batch.images.record_stream(network)
        yield batch
