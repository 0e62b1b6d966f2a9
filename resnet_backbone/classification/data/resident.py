"""A split whose images lie on the device, where a batch is cut out at once: CIFAR's augmentation (Sec. 4.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_backbone.classification.data.batched_crops import PADDING, crop_batch, draw_crops, pack
from resnet_backbone.classification.data.order import Order, indices_of, share
from resnet_backbone.classification.data.splits import Array, Part, Split
from resnet_backbone.classification.recipe.config import TrainConfig


@dataclass(frozen=True)
class Drawn:
    """What a batch will be of.

    Attributes:
        iteration: which batch of the run it is, from 0.
        indices: N, of the images.
        packed: N,4: these, and their crops, as `pack` puts them.
        name: of the image of an index.
    """

    iteration: int
    indices: NDArray[np.int64]
    packed: NDArray[np.int64]
    name: Callable[[int], str]


class Resident:
    """The images of a split and the crops that a recipe sees of them.

    Raises:
        ValueError: they are files, of several sizes, or of another than the recipe's.
    """

    def __init__(self, split: Split, config: TrainConfig, device: torch.device) -> None:
        array, self._indices = _array(split)
        side = array.images.shape[-1]
        if side != config.size:
            raise ValueError(f"size: {config.size}, but augmentation 'padded_crop' keeps the images' {side}: give that")
        self._config, self._name, self._device = config, array.name, device
        self._order = Order(len(split), config.seed, config.repeats)
        self._images = torch.from_numpy(array.images).to(device)
        self._labels = torch.from_numpy(array.label_array).to(device)
        mean, self._std = (torch.tensor(one, device=device).view(3, 1, 1) for one in (config.mean, config.std))
        self._added = mean_image(split).to(device) if config.mean_image else None
        # Every pixel's own mean is subtracted before the crop; the network, which subtracts it too, gets it back.
        self._mean = mean if self._added is None else self._added * self._std + mean

    def draw(self, iteration: int) -> Drawn:
        """This process's part of a batch: numbers alone, from seed and iteration."""
        places = share(self._config, iteration)
        chosen = self._indices[indices_of(self._order, places)]
        batch_size = self._config.batch_size
        crops = draw_crops(self._config.seed, iteration, batch_size)[places - iteration * batch_size]
        if not self._config.flip:
            crops.mirrored[:] = False
        return Drawn(iteration, chosen, pack(chosen, crops), self._name)

    def views(self, packed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images N,3,H,W, normalised, and labels N, computed on the device alone.

        Args:
            packed: N,4, on the device.
        """
        images = crop_batch(self._images, packed, PADDING, self._mean, self._std)
        return images if self._added is None else images + self._added, self._labels[packed[:, 0]]


def mean_image(split: Split) -> torch.Tensor:
    """The mean of every pixel over a split of images in memory, 3,H,W in 0..1: for mean 0 and std 255.

    Raises:
        ValueError: images of files.
    """
    array, indices = _array(split)
    sums = sum(array.images[part].sum(0, dtype=np.float64) for part in np.array_split(indices, 64) if len(part))
    return torch.from_numpy(np.asarray(sums) / len(indices) / 255).float()


def _array(split: Split) -> tuple[Array, NDArray[np.int64]]:
    if isinstance(split, Part) and isinstance(split.whole, Array):
        return split.whole, split.indices
    if isinstance(split, Array):
        return split, np.arange(len(split))
    raise ValueError("augmentation 'padded_crop' needs images of one size in memory, as CIFAR's; use 'resized_crop'")
