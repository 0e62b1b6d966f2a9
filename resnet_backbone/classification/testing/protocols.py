"""The paper's tests of a classifier (Sec. 3.4): one crop, ten crops, fully convolutional at several scales."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image

from resnet_backbone.images.transforms import central_view, normalise, resize_shorter_side
from resnet_backbone.models.network import Network
from resnet_backbone.weights.record import WeightRecord

SCALES = (224, 256, 384, 480, 640)
"""Shorter sides of the paper's multi-scale test."""
Views = list[torch.Tensor]
"""Of one image: 3,H,W uint8 RGB each."""


@dataclass(frozen=True)
class Protocol:
    """What of an image is looked at; the probabilities of all its views are averaged.

    Attributes:
        views: an image, and the record of the weights that say crop, resize and interpolation, to views.
        everywhere: the network is applied fully convolutionally, and its logits averaged over the map.
    """

    name: str
    views: Callable[[Image.Image, WeightRecord], Views]
    everywhere: bool = False


def _one_crop(image: Image.Image, record: WeightRecord) -> Views:
    return [central_view(image, record.resize, record.input_size or 224, record.interpolation)]


def _ten_crops(image: Image.Image, record: WeightRecord) -> Views:
    """Corners and centre, and their mirror images, as AlexNet's test."""
    size = record.input_size or 224
    if record.resize is not None:
        image = resize_shorter_side(image, record.resize, record.interpolation)
    if min(image.size) < size:
        image = resize_shorter_side(image, size, record.interpolation)
    pixels = _pixels(image)
    height, width = pixels.shape[1:]
    top, left = round((height - size) / 2), round((width - size) / 2)
    corners = [(0, 0), (0, width - size), (height - size, 0), (height - size, width - size), (top, left)]
    crops = [pixels[:, y : y + size, x : x + size] for y, x in corners]
    return crops + [crop.flip(2) for crop in crops]


def _whole_at(sides: Sequence[int], image: Image.Image, record: WeightRecord) -> Views:
    whole = [_pixels(resize_shorter_side(image, side, record.interpolation)) for side in sides]
    return [view for pixels in whole for view in (pixels, pixels.flip(2))]


def _pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def protocol(name: str, scales: Sequence[int] = SCALES) -> Protocol:
    """The protocol called "1-crop", "10-crop" or "multi-scale".

    Args:
        scales: shorter sides of "multi-scale"; the image is seen whole at each, and mirrored.

    Raises:
        ValueError: no such protocol, or a side that is too small.
    """
    if name == "1-crop":
        return Protocol(name, _one_crop)
    if name == "10-crop":
        return Protocol(name, _ten_crops)
    if name == "multi-scale":
        if not scales or min(scales) < 32:
            raise ValueError(f"scales {list(scales)}: shorter sides of at least 32 pixels")
        return Protocol(name, partial(_whole_at, tuple(scales)), everywhere=True)
    raise ValueError(f"protocol {name!r}: use 1-crop, 10-crop or multi-scale")


@torch.no_grad()
def probabilities(
    network: Network, record: WeightRecord, views: Sequence[Views], everywhere: bool, *, batch: int = 32
) -> torch.Tensor:
    """Class probabilities of several images: means over their views.

    Args:
        network: in evaluation mode.
        record: how its input is normalised.
        views: of each image; those of one shape go through the network together, `batch` at a time.
        everywhere: see `Protocol`.

    Returns:
        N,num_classes in float32 on the CPU.
    """
    device = next(network.parameters()).device
    by_shape: dict[tuple[int, ...], list[tuple[int, torch.Tensor]]] = defaultdict(list)
    for index, of_image in enumerate(views):
        for view in of_image:
            by_shape[tuple(view.shape)].append((index, view))
    total = torch.zeros(len(views), network.config.num_classes or 0)
    for group in by_shape.values():
        for start in range(0, len(group), batch):
            indices, stacked = zip(*group[start : start + batch])
            images = normalise(torch.stack(stacked), record.mean, record.std, record.channel_order).to(device)
            logits = network.score_map(images).mean((2, 3)) if everywhere else network(images)
            assert isinstance(logits, torch.Tensor)
            total.index_add_(0, torch.tensor(indices), logits.float().softmax(1).cpu())
    return total / torch.tensor([len(of_image) for of_image in views])[:, None]
