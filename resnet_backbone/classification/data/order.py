"""The order in which a run sees its images: position to index, without state."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from resnet_backbone.classification.data.streams import Stream, generator
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.engine import group

Indices = NDArray[np.int64]


@lru_cache(maxsize=4)  # an epoch of ImageNet takes 10 MB
def _permutation(count: int, seed: int, epoch: int) -> Indices:
    order = generator(Stream.ORDER, seed, epoch).permutation(count)
    order.flags.writeable = False
    return order


class Order:
    """An endless stream of shuffled epochs; epoch e stands at positions e * count to (e + 1) * count.

    With `repeats`, each image stands `repeats` times in a row (repeated augmentation, Hoffer et al. 2020), and an
    epoch, as long as ever, shows count / repeats of the images: the law of DeiT's `RASampler` and of timm's
    `RepeatAugSampler`. Processes that take every n-th position see different views of the same images.

    Args:
        count: images of the split.
        seed: of the shuffles.
        repeats: views of an image in a row.
    """

    def __init__(self, count: int, seed: int, repeats: int = 1) -> None:
        self.count, self.seed, self.repeats = count, seed, repeats

    def indices(self, start: int, stop: int) -> Indices:
        """Images at the positions from `start` up to, not including, `stop`: one index each, 0 to count - 1."""
        epochs, places = np.divmod(np.arange(start, stop), self.count)
        result = np.empty(len(places), np.int64)
        for epoch in np.unique(epochs).tolist():
            of_epoch = epochs == epoch
            result[of_epoch] = _permutation(self.count, self.seed, epoch)[places[of_epoch] // self.repeats]
        return result


def share(config: TrainConfig, iteration: int) -> Indices:
    """Places in the run of this process's images of a batch.

    Parts of all processes are cut the same way: two processes see, each in one part, what one process sees in two.
    """
    parts = group.world() * config.accumulate
    places = np.arange(iteration * config.batch_size, (iteration + 1) * config.batch_size)
    if parts < config.repeats:
        # Views of one image would follow each other in a part, and mixup, which mixes neighbours, would mix them.
        places = places[np.argsort(places % config.repeats, kind="stable")]
    own = range(group.rank() * config.accumulate, (group.rank() + 1) * config.accumulate)
    return np.concatenate([places[part::parts] for part in own])


def indices_of(order: Order, places: Indices) -> Indices:
    """The images at some places of a batch."""
    first = int(places.min())
    return order.indices(first, int(places.max()) + 1)[places - first]
