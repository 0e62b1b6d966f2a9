"""A network with its loss: from a batch as it was read to what a step lowers."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from resnet_backbone.classification.data.batch import Batch
from resnet_backbone.classification.data.streams import Stream, generator
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.training.mixing import classification_loss, mix
from resnet_backbone.models.build import build_network
from resnet_backbone.models.network import Network


def build_classifier(config: TrainConfig, num_classes: int) -> Network:
    """The network of a recipe with fresh weights.

    Raises:
        ValueError: an option that the network has no use for.
    """
    network = build_network(
        config.network,
        num_classes=num_classes,
        stem_out_channels=config.stem_out_channels,
        res2_out_channels=config.res2_out_channels,
        stride_in_1x1=config.stride_in_1x1,
        shortcut=config.shortcut,
        pad_before=config.pad_before,
        norm=config.norm,
        norm_eps=config.norm_eps,
        zero_init_last_norm=config.zero_init_last_norm,
        drop_path=config.drop_path,
        mean_image=config.size if config.mean_image else None,
        checkpoint_stages=config.checkpoint_stages,
    )
    if config.pad_before and network.config.shortcut != "A":
        raise ValueError(f"pad_before: {config.network} has no shortcut of option A, which alone pads; leave it out")
    return network


class Inputs:
    """uint8 images to a network's input, on its device."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self._config, self.device = config, device
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(config.mean, device=device).view(shape)
        self._std = torch.tensor(config.std, device=device).view(shape)
        self._layout = torch.channels_last if config.channels_last else torch.contiguous_format

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """N,3,H,W uint8 RGB to float, normalised."""
        pixels = images.to(self.device, non_blocking=True).float()
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
        classes: how many there are.

    Attributes:
        counts: wrong and all images since `take_errors`, on the device, which nobody waits for in a step.
    """

    def __init__(self, network: Network, inputs: Inputs, config: TrainConfig, classes: int) -> None:
        super().__init__()
        self.network, self._inputs, self._config, self._classes = network, inputs, config, classes
        self.counts = torch.zeros(2, dtype=torch.int64, device=inputs.device)

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the network gets: normalised and mixed images, their labels, and what it shall answer.

        Answers are labels, or N,classes that sum to 1.
        """
        config, images = self._config, self._inputs.of(batch)
        labels = batch.labels.to(images.device, non_blocking=True)
        if not (config.mixup or config.cutmix):
            return images, labels, labels
        images, targets = mix(
            images, labels, self._classes,
            mixup=config.mixup, cutmix=config.cutmix, seed=config.seed, iteration=batch.iteration,
        )  # fmt: skip
        return images, labels, targets

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        config, (images, labels, targets) = self._config, self.inputs(batch)
        logits: torch.Tensor = self.network(images)
        self.counts[0] += (logits.detach().argmax(1) != labels).sum()
        self.counts[1] += len(batch)
        return {
            "loss": classification_loss(logits.float(), targets, kind=config.loss, smoothing=config.label_smoothing)
        }

    def take_errors(self) -> tuple[int, int]:
        """(wrong, all) images since the last call; under mixup, of the image that has kept its label."""
        wrong, seen = self.counts.tolist()
        self.counts.zero_()
        return wrong, seen
