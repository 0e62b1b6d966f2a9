"""Figure 7: how strongly each 3x3 layer of a classifier responds to test images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_backbone.classification.data.cifar import is_cifar, read_cifar
from resnet_backbone.classification.testing.protocols import protocol
from resnet_backbone.classification.testing.testing import LabelledImages, find_images
from resnet_backbone.images.decode import open_image
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
        classes: how many; None where a labels.txt does not say.
        pixels: of CIFAR, N,3,32,32 uint8; None for files.
        files: images of class folders; None for CIFAR.
    """

    name: str
    classes: int | None
    pixels: NDArray[np.uint8] | None = None
    files: LabelledImages | None = None

    def __len__(self) -> int:
        return len(self.pixels) if self.pixels is not None else len(self.files.files) if self.files is not None else 0

    def fit(self, network: Network) -> bool:
        """Whether `network` was made for such images."""
        if self.pixels is not None and network.variant.family != "cifar":
            return False
        return self.classes in (None, network.config.num_classes)

    def batches(self, record: WeightRecord) -> Iterator[torch.Tensor]:
        """N,3,H,W as the network's input; of files the central crop.

        Raises:
            ValueError: an image that cannot be read; names it.
        """
        for start in range(0, len(self), BATCH):
            if self.pixels is not None:
                views = torch.from_numpy(self.pixels[start : start + BATCH])
            else:
                assert self.files is not None
                crop = protocol("1-crop").views
                views = torch.cat([
                    torch.stack(crop(open_image(file), record)) for file in self.files.files[start : start + BATCH]
                ])  # fmt: skip
            yield normalise(views, record.mean, record.std, record.channel_order)


def read_images(path: str | Path, limit: int) -> ResponseImages:
    """At most `limit` test images, spread evenly over all: CIFAR, as `read_cifar` takes it, or class folders.

    Raises:
        ValueError: neither is there, or it is damaged.
    """
    path = Path(path)
    if limit < 1:
        raise ValueError(f"--limit {limit}: at least 1 image")
    if is_cifar(path):
        cifar = read_cifar(path)
        count = min(limit, len(cifar.test))
        chosen = np.linspace(0, len(cifar.test) - 1, count).round().astype(int)
        return ResponseImages(f"CIFAR-{len(cifar.classes)}", len(cifar.classes), cifar.test.pixels[chosen])
    files = find_images(path, limit)
    return ResponseImages(path.name, len(files.classes) or None, files=files)


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
