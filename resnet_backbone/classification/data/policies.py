"""torchvision's policies in two steps: what is drawn for an image, and what that does to images."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import TypeVar

import torch
from PIL import Image
from torchvision.transforms import v2

from resnet_backbone.classification.recipe.config import Policy

Operation = tuple[str, float]
"""torchvision's name of an operation, and its magnitude."""
Pictures = TypeVar("Pictures", Image.Image, torch.Tensor)


class Operations:
    """What "randaugment" (`count` operations of `magnitude` 0 to 30) or "trivial_augment" (one, of any) can do.

    Args:
        fill: RGB, 0 to 255, of pixels that an operation leaves without any.
    """

    def __init__(self, policy: Policy, count: int, magnitude: int, fill: tuple[int, int, int]) -> None:
        options = {"interpolation": v2.InterpolationMode.BILINEAR, "fill": list(fill)}
        if policy == "randaugment":
            self._transform: v2.Transform = v2.RandAugment(count, magnitude, **options)
        else:
            self._transform = v2.TrivialAugmentWide(**options)
        # Goes through all draws, but notes operations instead of doing them.
        self._drawn: list[Operation] = []
        self._drawing = copy.copy(self._transform)
        self._drawing._apply_image_or_video_transform = self._note

    def draw(self, height: int, width: int) -> tuple[Operation, ...]:
        """For one image of this size, by torch's numbers on the CPU."""
        self._drawn.clear()
        self._drawing(torch.empty(3, height, width, device="meta"))
        return tuple(self._drawn)

    def apply(self, pictures: Pictures, operation: Operation) -> Pictures:
        """`operation` done to an image of Pillow's, or to each of N,3,H,W uint8 on any device."""
        name, magnitude = operation
        how = {"interpolation": self._transform.interpolation, "fill": self._transform._fill}
        return self._transform._apply_image_or_video_transform(pictures, name, magnitude, **how)

    def _note(self, image: torch.Tensor, name: str, magnitude: float, **how: object) -> torch.Tensor:
        self._drawn.append((name, magnitude))
        return image


operations_of = lru_cache(maxsize=4)(Operations)
