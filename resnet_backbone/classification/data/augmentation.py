"""What is done to random views after the crop: drawn from one generator, applied to a view or to a batch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from resnet_backbone.classification.data.boxes import Rectangle, random_part
from resnet_backbone.classification.data.policies import Operation, Operations, operations_of
from resnet_backbone.classification.data.streams import torch_drawing_from
from resnet_backbone.classification.recipe.config import Policy

Pixels = NDArray[np.uint8]
"""H,W,3 RGB."""

# Principal components of ImageNet's RGB values (0..1), as AlexNet's colour shift uses them.
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
_EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])

# Zhong et al. 2017, as torchvision and timm have it.
_ERASED_AREA = (0.02, 0.33)
_ERASED_RATIO = 3.3


@dataclass(frozen=True)
class Changes:
    """What is done to one view after the crop, in this order.

    Attributes:
        mirrored: left is right.
        operations: names and magnitudes of torchvision's policies.
        shift: RGB levels that are added to all pixels.
        erased: left, top, right and bottom of a rectangle that is painted over.
    """

    mirrored: bool = False
    operations: tuple[Operation, ...] = ()
    shift: tuple[float, float, float] | None = None
    erased: Rectangle | None = None


@dataclass(frozen=True)
class Augmentation:
    """What is done to views after the crop.

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

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Changes:
        """What shall be done to a view of this size."""
        mirrored = self.flip and rng.random() < 0.5
        operations: tuple[Operation, ...] = ()
        if self.policy != "none":
            with torch_drawing_from(rng):
                operations = self._operations.draw(height, width)
        shift = drawn_shift(self.colour_shift, rng) if self.colour_shift else None
        erased = drawn_rectangle(height, width, rng) if self.erasing and rng.random() < self.erasing else None
        return Changes(mirrored, operations, shift, erased)

    def apply(self, view: Pixels, changes: Changes) -> Pixels:
        """A view of the same shape, changed; on Pillow's images the operations take half their time on tensors."""
        if changes.mirrored:
            view = view[:, ::-1]
        if changes.operations:
            image = Image.fromarray(view)
            for operation in changes.operations:
                image = self._operations.apply(image, operation)
            view = np.asarray(image)
        if changes.shift is not None:
            view = np.clip(np.rint(view + np.array(changes.shift)), 0, 255).astype(np.uint8)
        if changes.erased is not None:
            left, top, right, bottom = changes.erased
            view = view.copy()
            view[top:bottom, left:right] = self.fill
        return view

    def apply_to_batch(self, images: torch.Tensor, changes: Sequence[Changes]) -> torch.Tensor:
        """What `apply` does, to all images of a batch where they lie: a GPU does it beside the network's work.

        The same but for roundings: a level of colours at most (and from which level on Solarize inverts), and pixels
        along the edges of what is turned or sheared.

        Args:
            images: N,3,H,W uint8; stays as it is.
            changes: N.
        """
        mirrored = _moved([one.mirrored for one in changes], images)
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        for turn in range(max((len(one.operations) for one in changes), default=0)):
            images = self._operate_together(images, [one.operations[turn] for one in changes])
        if any(one.shift is not None for one in changes):
            shifts = _moved([one.shift or (0.0, 0.0, 0.0) for one in changes], images)
            images = (images + shifts[:, :, None, None]).round_().clamp_(0, 255).byte()
        if any(one.erased is not None for one in changes):
            images = self._erase_together(images, changes)
        return images

    def _operate_together(self, images: torch.Tensor, operations: Sequence[Operation]) -> torch.Tensor:
        """One operation on each image; those with the same one are neighbours for it."""
        order = sorted(range(len(operations)), key=operations.__getitem__)
        place = _moved(order, images)
        images = images[place]
        start = 0
        for operation, group in itertools.groupby(order, operations.__getitem__):
            stop = start + len(list(group))
            images[start:stop] = self._operations.apply(images[start:stop], operation)
            start = stop
        return images[place.argsort()]

    def _erase_together(self, images: torch.Tensor, changes: Sequence[Changes]) -> torch.Tensor:
        height, width = images.shape[2:]
        edges = _moved([one.erased or (0, 0, 0, 0) for one in changes], images)[:, :, None, None]
        rows, columns = (torch.arange(size, device=images.device) for size in (height, width))
        rows = rows[:, None]
        painted = (edges[:, 0] <= columns) & (columns < edges[:, 2]) & (edges[:, 1] <= rows) & (rows < edges[:, 3])
        return torch.where(painted[:, None], _moved(self.fill, images)[:, None, None].byte(), images)

    @property
    def _operations(self) -> Operations:
        return operations_of(self.policy, self.operations, self.magnitude, self.fill)


def drawn_shift(deviation: float, rng: np.random.Generator) -> tuple[float, float, float]:
    """AlexNet's augmentation (Krizhevsky et al. 2012, Sec. 4.1): one shift of RGB for all pixels, in levels."""
    red, green, blue = (_EIGENVECTORS @ (_EIGENVALUES * rng.normal(0, deviation, 3)) * 255).tolist()
    return red, green, blue


def drawn_rectangle(height: int, width: int, rng: np.random.Generator) -> Rectangle | None:
    """2 to 33 % of the area; None where ten tries have failed."""
    return random_part(height, width, _ERASED_AREA, _ERASED_RATIO, rng)


def _moved(values: Sequence[Any], images: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, device=images.device)
