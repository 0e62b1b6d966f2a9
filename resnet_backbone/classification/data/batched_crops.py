"""CIFAR's augmentation (Sec. 4.2) for whole batches of a data set that lies in the device's memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from resnet_backbone.classification.data.streams import Stream, generator

PADDING = 4
"""Pixels on each side."""


@dataclass(frozen=True)
class Crops:
    """Where the crops of a batch lie.

    Attributes:
        offsets: N,2: top and left in the padded image, 0 to 2 * `padding`.
        mirrored: N: whether the crop is mirrored.
        padding: pixels on each side.
    """

    offsets: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    padding: int

    def __getitem__(self, part: slice | NDArray[np.int64]) -> Crops:
        return Crops(self.offsets[part], self.mirrored[part], self.padding)


def draw_crops(seed: int, iteration: int, count: int, padding: int = PADDING) -> Crops:
    """Random crops and mirror images for the `count` images of an iteration; a process takes its part of them."""
    rng = generator(Stream.CROPS, seed, iteration)
    return Crops(rng.integers(0, 2 * padding + 1, (count, 2)), rng.random(count) < 0.5, padding)


def pack(indices: NDArray[np.int64], crops: Crops) -> NDArray[np.int64]:
    """Image, top, left and whether it is mirrored, N,4: one copy brings all to a device."""
    return np.column_stack([indices, crops.offsets, crops.mirrored])


def crop_batch(
    images: torch.Tensor, packed: torch.Tensor, padding: int, mean: torch.Tensor, std: torch.Tensor | float = 1.0
) -> torch.Tensor:
    """Normalised crops, padded with zeros behind the normalisation, that is with the mean.

    Args:
        images: N,C,H,W uint8, on the device that computes.
        packed: B,4, which images and which crops of them, as `pack` makes them; on the same device.
        padding: pixels on each side.
        mean: C,H,W (the mean image) or C,1,1; in pixel values, on the same device, as `std` is.
        std: C,1,1 or a number.

    Returns:
        B,C,H,W float; the mean of each pixel was subtracted where it lay before the crop.
    """
    _, channels, height, width = images.shape
    indices, top, left, mirrored = packed.unbind(1)
    rows = top[:, None] + torch.arange(height, device=images.device)
    across = torch.arange(width, device=images.device)
    columns = left[:, None] + torch.where(mirrored[:, None] > 0, across.flip(0), across)
    places = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    batch = (images[indices] - mean) / std
    flat = F.pad(batch, (padding, padding, padding, padding)).flatten(2)
    return flat.gather(2, places.flatten(1)[:, None].expand(-1, channels, -1)).view(-1, channels, height, width)
