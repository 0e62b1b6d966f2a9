"""A network with its loss: from a batch as it was read to what a step lowers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from resnet_backbone.classification.batches import Batch
from resnet_backbone.classification.config import TrainConfig
from resnet_backbone.classification.streams import Stream, generator
from resnet_backbone.models.build import build_network
from resnet_backbone.models.network import Network


def build_classifier(config: TrainConfig, num_classes: int) -> Network:
    """The network of a recipe with fresh weights.

    Raises:
        ValueError: an option that the network has no use for.
    """
    return build_network(
        config.network,
        num_classes=num_classes,
        stem_out_channels=config.stem_out_channels,
        res2_out_channels=config.res2_out_channels,
        stride_in_1x1=config.stride_in_1x1,
        shortcut=config.shortcut,
        norm=config.norm,
        norm_eps=config.norm_eps,
        zero_init_last_norm=config.zero_init_last_norm,
        drop_path=config.drop_path,
        mean_image=config.size if config.mean_image else None,
        checkpoint_stages=config.checkpoint_stages,
    )


class Inputs:
    """uint8 images to a network's input, on its device."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self._config, self._device = config, device
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(config.mean, device=device).view(shape)
        self._std = torch.tensor(config.std, device=device).view(shape)
        self._layout = torch.channels_last if config.channels_last else torch.contiguous_format

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """N,3,H,W uint8 RGB to float, normalised."""
        pixels = images.to(self._device, non_blocking=True).float()
        return ((pixels - self._mean) / self._std).contiguous(memory_format=self._layout)

    def of(self, batch: Batch) -> torch.Tensor:
        """The images of a training batch, at a side drawn from `batch_sides`."""
        images = batch.images.contiguous(memory_format=self._layout) if batch.ready else self(batch.images)
        sides = self._config.batch_sides
        side = int(generator(Stream.SIDES, self._config.seed, batch.iteration).choice(sides)) if sides else 0
        if not side or side == images.shape[-1]:
            return images
        return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False, antialias=True)


class Classifier(nn.Module):
    """Gives the losses of a batch, as `TrainStep` asks for them, and counts its errors.

    Args:
        loss: of logits N,classes and labels N.
    """

    def __init__(
        self, network: Network, inputs: Inputs, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> None:
        super().__init__()
        self.network, self._inputs, self._loss = network, inputs, loss
        self._errors: list[torch.Tensor] = []
        self._seen = 0

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        images = self._inputs.of(batch)
        labels = batch.labels.to(images.device, non_blocking=True)
        logits: torch.Tensor = self.network(images)
        self._errors.append((logits.detach().argmax(1) != labels).sum())
        self._seen += len(batch)
        return {"loss": self._loss(logits, labels)}

    def take_errors(self) -> tuple[int, int]:
        """(wrong, all) images since the last call."""
        wrong, seen = int(sum(self._errors)), self._seen
        self._errors, self._seen = [], 0
        return wrong, seen


def cross_entropy(label_smoothing: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The mean over a batch."""
    return lambda logits, labels: F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)
