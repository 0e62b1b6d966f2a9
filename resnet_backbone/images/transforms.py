"""A classifier's view of an image, by the record of its weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resize_shorter_side(image: Image.Image, size: int, interpolation: str = "bilinear") -> Image.Image:
    """Scales so that the shorter side is `size`; the longer one is cut to whole pixels, as torchvision does."""
    width, height = image.size
    target = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    return image if target == image.size else image.resize(target, FILTERS[interpolation])


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """The central square of side `size`; an image smaller than that is framed in black, as torchvision does."""
    width, height = image.size
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return image.crop((left, top, left + size, top + size))


def central_view(image: Image.Image, resize: int | None, size: int, interpolation: str = "bilinear") -> torch.Tensor:
    """The test-time view: shorter side to `resize` (None leaves the size), central square of `size`.

    Returns:
        3, size, size of pixel values 0..255 in RGB, uint8.
    """
    if resize is not None:
        image = resize_shorter_side(image, resize, interpolation)
    return torch.from_numpy(np.asarray(centre_crop(image, size)).transpose(2, 0, 1).copy())


def normalise(
    pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float], channel_order: str = "RGB"
) -> torch.Tensor:
    """RGB pixels N,3,H,W of 0..255 to a network's input; `mean` and `std` are in `channel_order`, in pixel units."""
    pixels = pixels if channel_order == "RGB" else pixels.flip(-3)
    shape = (-1, 1, 1)
    # One new tensor, changed in place: memory that is not in use yet costs more than the arithmetic.
    made = pixels.to(torch.float32, copy=True)
    return made.sub_(torch.tensor(mean).view(shape)).div_(torch.tensor(std).view(shape))
