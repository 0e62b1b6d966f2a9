"""Which part of an image is seen or painted over, drawn from one generator."""

from __future__ import annotations

import math

import numpy as np

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels, as Pillow's `resize` takes it."""
Rectangle = tuple[int, int, int, int]
"""The same, of whole pixels."""


def resized_crop(height: int, width: int, scale: tuple[float, float], ratio: float, rng: np.random.Generator) -> Box:
    """A part of whole pixels, by the law of torchvision's `RandomResizedCrop`.

    Args:
        scale: lowest and highest share of the area.
        ratio: highest width to height, and height to width.
    """
    box = random_part(height, width, scale, ratio, rng)
    if box is not None:
        return box
    # Ten tries have failed: the middle, cut to the ratio.
    w, h = min(width, round(height * ratio)), min(height, round(width * ratio))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def random_part(
    height: int, width: int, scale: tuple[float, float], ratio: float, rng: np.random.Generator
) -> Rectangle | None:
    """Like `resized_crop`, but None where ten tries have failed."""
    limit = math.log(ratio)
    for _ in range(10):
        area, stretch = height * width * rng.uniform(*scale), math.exp(rng.uniform(-limit, limit))
        w, h = round(math.sqrt(area * stretch)), round(math.sqrt(area / stretch))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
            return left, top, left + w, top + h
    return None


def shorter_side(height: int, width: int, sides: tuple[int, int], size: int, rng: np.random.Generator) -> Box:
    """The paper's crop (Sec. 3.4): a square of `size` whole pixels once the shorter side is one drawn from `sides`.

    Resizing this box to `size` x `size` is resizing the image and cropping then.
    """
    side, shorter = int(rng.integers(sides[0], sides[1] + 1)), min(height, width)
    scaled_height, scaled_width = int(side * height / shorter), int(side * width / shorter)
    top, left = int(rng.integers(0, scaled_height - size + 1)), int(rng.integers(0, scaled_width - size + 1))
    x, y = width / scaled_width, height / scaled_height
    return left * x, top * y, min((left + size) * x, width), min((top + size) * y, height)
