"""Figure 7: how strongly each 3x3 layer of a classifier responds to test images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from resnet_backbone.classification.data.splits import Array
from resnet_backbone.classification.testing.images import LabelledImages, find_images, read_views
from resnet_backbone.classification.testing.protocols import protocol
from resnet_backbone.images.transforms import normalise
from resnet_backbone.models.blocks import ConvNorm
from resnet_backbone.models.network import Network
from resnet_backbone.weights.record import WeightRecord

BATCH = 100


@dataclass(frozen=True)
class ResponseImages:
    """Test images, read as the records of different weights ask for.

    Attributes:
        name: of the data, for people.
    """

    name: str
    images: LabelledImages

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> int | None:
        """How many; None where a labels.txt does not say."""
        return len(self.images.classes) or None

    @property
    def of_cifar(self) -> bool:
        """Whether they are images of one small size."""
        return isinstance(self.images.split, Array)

    def fit(self, network: Network) -> bool:
        """Whether `network` was made for such images."""
        if self.of_cifar and network.variant.family != "cifar":
            return False
        return self.classes in (None, network.config.num_classes)

    def batches(self, record: WeightRecord) -> Iterator[torch.Tensor]:
        """N,3,H,W as the network's input; the central crop.

        Raises:
            ValueError: an image that cannot be read; names it.
        """
        for seen in read_views(self.images, protocol("1-crop"), record, size=BATCH):
            pixels = torch.stack([view for (view,), *_ in seen])
            yield normalise(pixels, record.mean, record.std, record.channel_order)


def read_images(path: str | Path, limit: int) -> ResponseImages:
    """At most `limit` test images, spread evenly over all, of whatever `find_images` takes.

    Raises:
        ValueError: nothing of the kind is there, or it is damaged.
    """
    images = find_images(path, limit)
    found = ResponseImages(Path(path).name, images)
    return replace(found, name=f"CIFAR-{found.classes}") if found.of_cifar else found


@torch.no_grad()
def response_deviations(network: Network, batches: Iterable[torch.Tensor]) -> dict[str, float]:
    """Standard deviation of the responses of each 3x3 layer: after its BN, before the ReLU or the addition.

    Taken over all images, channels and places. The paper does not say over what; channels are not taken one by one.

    Args:
        network: in evaluation mode.
        batches: N,3,H,W of normalised pixels each, at least one.

    Returns:
        Name of the layer: deviation, in the order in which data pass the layers.
    """
    layers = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, ConvNorm) and module.kernel_size == (3, 3)
    }
    sums = {name: _Sums() for name in layers}
    hooks = [module.register_forward_hook(partial(_add, sums[name])) for name, module in layers.items()]
    device = next(network.parameters()).device
    try:
        for images in batches:
            network(images.to(device))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: one.deviation for name, one in sums.items()}


@dataclass
class _Sums:
    """Of all values so far."""

    count: int = 0
    values: float = 0.0
    squares: float = 0.0

    @property
    def deviation(self) -> float:
        mean = self.values / self.count
        return math.sqrt(max(self.squares / self.count - mean**2, 0.0))


def _add(sums: _Sums, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    variance, mean = (float(value) for value in torch.var_mean(output.float(), correction=0))
    sums.count += output.numel()
    sums.values += output.numel() * mean
    sums.squares += output.numel() * (variance + mean**2)
