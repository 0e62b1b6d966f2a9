"""What a network sees of one image: a random view by a recipe, or the view of the test."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from resnet_backbone.classification.data.augmentation import Augmentation, Changes
from resnet_backbone.classification.data.boxes import Rectangle, resized_crop, shorter_side
from resnet_backbone.classification.data.streams import Stream, generator
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.recipe.length import side_at
from resnet_backbone.images.decode import open_image
from resnet_backbone.images.transforms import central_view
from resnet_backbone.images.views import view_of, view_of_pixels

Pixels = NDArray[np.uint8]
"""H,W,3 RGB."""


class Views:
    """Makes views of images that come as a file's bytes or decoded; what is drawn depends on seed and place alone.

    Args:
        total: iterations of the run, for sides that grow.
        cut: training's views are only cut out; what else is to be done to them is said.
    """

    def __init__(self, config: TrainConfig, total: int, cut: bool = False) -> None:
        self._config, self._total, self._cut = config, total, cut
        self._augmentation = augmentation_of(config)

    def training(
        self, image: bytes | Pixels, place: int, iteration: int, name: str
    ) -> tuple[torch.Tensor, Changes | None]:
        """A random view, 3,side,side uint8, and what has still to be done to it.

        Args:
            place: of the image in the run.
            name: for messages.

        Raises:
            ValueError: the image cannot be read; names it.
        """
        rng = generator(Stream.VIEW, self._config.seed, place)
        side, plain, choose = side_at(self._config, iteration, self._total), self._plain, self._choose(rng)
        if isinstance(image, bytes):
            view = view_of(image, choose, side, plain=plain, name=name)
        else:
            view = view_of_pixels(image, choose(*image.shape[:2]), side, plain=plain)
        changes = self._augmentation.draw(side, side, rng)
        if self._cut:
            return view, changes
        augmented = self._augmentation.apply(view.permute(1, 2, 0).numpy(), changes)
        return torch.from_numpy(np.ascontiguousarray(augmented.transpose(2, 0, 1))), None

    def testing(self, image: bytes | Pixels, name: str) -> torch.Tensor:
        """The central view, 3,side,side uint8, by Pillow.

        Raises:
            ValueError: the image cannot be read; names it.
        """
        return central_view(opened(image, name), self._config.test_resize, self._config.test_size)

    @property
    def _plain(self) -> bool:
        return self._config.reader == "plain"

    def _choose(self, rng: np.random.Generator) -> Callable[[int, int], Rectangle]:
        config = self._config

        def choose(height: int, width: int) -> Rectangle:
            if config.augmentation == "resized_crop":
                box = resized_crop(height, width, config.scale, config.ratio, rng)
            else:
                box = shorter_side(height, width, config.shorter_sides, config.size, rng)
            left, top, right, bottom = (round(edge) for edge in box)  # decoders cut at whole pixels
            # Of an image of few pixels a crop may be less than one.
            left, top = min(left, width - 1), min(top, height - 1)
            return left, top, max(right, left + 1), max(bottom, top + 1)

        return choose


def opened(image: bytes | Pixels, name: str) -> Image.Image:
    """An image out of a split, in RGB; `name` is for messages.

    Raises:
        ValueError: it cannot be read; names it.
    """
    return open_image(io.BytesIO(image), name) if isinstance(image, bytes) else Image.fromarray(image)


def augmentation_of(config: TrainConfig) -> Augmentation:
    """What a recipe does to a view after the crop."""
    red, green, blue = (round(value) for value in config.mean)
    return Augmentation(
        flip=config.flip,
        policy=config.policy,
        colour_shift=config.colour_shift,
        erasing=config.erasing,
        fill=(red, green, blue),
    )
