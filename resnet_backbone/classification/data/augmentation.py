"""Random views of one image: which part of it, and what is done to its pixels, drawn from one generator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2

from resnet_backbone.classification.data.streams import torch_drawing_from
from resnet_backbone.classification.recipe.config import Policy

Pixels = NDArray[np.uint8]
"""H,W,3 RGB."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels, as Pillow's `resize` takes it."""

# Principal components of ImageNet's RGB values (0..1), as AlexNet's colour shift uses them.
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
_EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])

# Zhong et al. 2017, as torchvision and timm have it.
_ERASED_AREA = (0.02, 0.33)
_ERASED_RATIO = 3.3


def resized_crop(height: int, width: int, scale: tuple[float, float], ratio: float, rng: np.random.Generator) -> Box:
    """A part of whole pixels, by the law of torchvision's `RandomResizedCrop`.

    Args:
        scale: lowest and highest share of the area.
        ratio: highest width to height, and height to width.
    """
    box = _random_part(height, width, scale, ratio, rng)
    if box is not None:
        return box
    # Ten tries have failed: the middle, cut to the ratio.
    w, h = min(width, round(height * ratio)), min(height, round(width * ratio))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _random_part(
    height: int, width: int, scale: tuple[float, float], ratio: float, rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
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


@dataclass(frozen=True)
class Augmentation:
    """What is done to a view after the crop, in this order.

    Attributes:
        flip: mirrors every second view.
        policy: operations on colour and shape: "randaugment" (`operations` in a row, of `magnitude` 0 to 30) or
            "trivial_augment" (one, of any magnitude), both torchvision's.
        colour_shift: deviation of AlexNet's shift along the principal colours of ImageNet (the paper: 0.1).
        erasing: share of the views in which a rectangle is painted over.
        fill: RGB, 0 to 255, of what is painted or has no pixels; best the mean that is subtracted.
    """

    flip: bool = True
    policy: Policy = "none"
    operations: int = 2
    magnitude: int = 9
    colour_shift: float = 0.0
    erasing: float = 0.0
    fill: tuple[int, int, int] = (124, 116, 104)

    def __call__(self, view: Pixels, rng: np.random.Generator) -> Pixels:
        """A new view, of the same shape."""
        if self.flip and rng.random() < 0.5:
            view = view[:, ::-1]
        if self.policy != "none":
            transform = _transform(self.policy, self.operations, self.magnitude, self.fill)
            # On Pillow's images these operations take half the time that they take on tensors.
            with torch_drawing_from(rng):
                view = np.asarray(transform(Image.fromarray(view)))
        if self.colour_shift:
            view = shift_colours(view, self.colour_shift, rng)
        if self.erasing and rng.random() < self.erasing:
            view = erase(view, self.fill, rng)
        return view


@lru_cache(maxsize=4)
def _transform(policy: Policy, operations: int, magnitude: int, fill: tuple[int, int, int]) -> v2.Transform:
    options = {"interpolation": v2.InterpolationMode.BILINEAR, "fill": list(fill)}
    if policy == "randaugment":
        return v2.RandAugment(operations, magnitude, **options)
    return v2.TrivialAugmentWide(**options)


def shift_colours(view: Pixels, deviation: float, rng: np.random.Generator) -> Pixels:
    """AlexNet's augmentation (Krizhevsky et al. 2012, Sec. 4.1): one shift of RGB for all pixels, cut to 0..255."""
    shift = _EIGENVECTORS @ (_EIGENVALUES * rng.normal(0, deviation, 3)) * 255
    return np.clip(np.rint(view + shift), 0, 255).astype(np.uint8)


def erase(view: Pixels, fill: tuple[int, int, int], rng: np.random.Generator) -> Pixels:
    """A copy with a random rectangle of 2 to 33 % of the area in one colour."""
    box = _random_part(view.shape[0], view.shape[1], _ERASED_AREA, _ERASED_RATIO, rng)
    view = view.copy()
    if box is not None:
        left, top, right, bottom = box
        view[top:bottom, left:right] = fill
    return view
