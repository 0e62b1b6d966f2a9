"""A batch of labelled images, and where they are from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_backbone.classification.data.augmentation import Changes


@dataclass
class Batch:
    """Images and labels of one process, and where they are from.

    Attributes:
        images: N,3,H,W: uint8 RGB, or float and normalised (`ready`).
        labels: N.
        iteration: which batch of the run it is, from 0.
        name: of the image of an index.
        indices: N.
        ready: nothing is left to be done to the images.
        broken: (name, what is wrong) of images that could not be read and that others replace.
        changes: N, what has still to be done to the images; empty: nothing.
    """

    images: torch.Tensor
    labels: torch.Tensor
    iteration: int
    indices: NDArray[np.int64]
    name: Callable[[int], str] = str  # not from a worker, which would send the whole split along
    ready: bool = False
    broken: tuple[tuple[str, str], ...] = ()
    changes: tuple[Changes, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> Batch:
        return Batch(
            self.images[part], self.labels[part], self.iteration, self.indices[part], self.name, self.ready,
            changes=self.changes[part],
        )  # fmt: skip

    def pin_memory(self) -> Batch:
        """As data loaders ask for; `name` stays."""
        self.images, self.labels = self.images.pin_memory(), self.labels.pin_memory()
        return self


def first_error(samples: Sequence[Any]) -> ValueError | None:
    """Of what workers gave back in the place of samples."""
    return next((sample for sample in samples if isinstance(sample, ValueError)), None)


def collate(samples: Sequence[Any]) -> Any:
    """(image, label, index, broken) of several images as a batch; the first error among them in its place.

    In training each has a fifth part: the changes that are left to be made, or None.
    """
    error = first_error(samples)
    if error is not None:
        return error
    images, labels, indices, broken, *changes = zip(*samples, strict=True)
    said = tuple(one for several in broken for one in several)
    left = tuple(one for several in changes for one in several if one is not None)
    return Batch(torch.stack(images), torch.tensor(labels), 0, np.array(indices), broken=said, changes=left)
