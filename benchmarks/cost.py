"""What a classifier's training must compute and move, an image: the ground on which its speed is to be read.

Counted from the layers' shapes. Weights are left out: over a batch of 256 and more they do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from resnet_backbone.models.blocks import ResidualBlock
from resnet_backbone.models.build import build_network
from resnet_backbone.models.counting import count_multiply_adds

BYTES = 2
"""Of a bfloat16."""


@dataclass(frozen=True)
class Cost:
    """Of one image.

    Attributes:
        gmac: products and sums of the forward pass, 1e9.
        train_gflop: forward and backward; the first convolution needs no gradient of its input.
        moved_mb: megabytes (1e6) of activations that pass through the device's memory, by how kernels are joined:
            "eager", "compiled" or "fused".
    """

    gmac: float
    train_gflop: float
    moved_mb: dict[str, float]


def cost_of(network: str, side: int, *, num_classes: int = 1000, stride_in_1x1: bool = False) -> Cost:
    """Of a residual network of `list_variants()` at a square input.

    Element passes, with I and O the inputs and outputs of convolutions and A those of additions. Convolutions read I
    and write O, and backward, for both gradients, read and write 2 (I + O), less the first input's gradient. Around
    them, eager: batch norm reads O twice and writes it, ReLU reads and writes it, an addition reads two and writes
    one; backward 5 O, 3 O and 3 A. Compiled: the statistics read O, one kernel applies norm, ReLU and addition
    (2 O + A), backward 5 O + 2 A. Fused: norm and ReLU happen inside the convolutions' own reads and writes, which
    no PyTorch kernel does: 5 O + 4 I + 2 A in all.
    """
    with torch.device("meta"):
        net = build_network(network, num_classes=num_classes, stride_in_1x1=stride_in_1x1).eval()
    convolutions, a = _shapes(net, side)
    i, o = sum(x.numel() for _, x, _ in convolutions), sum(y.numel() for _, _, y in convolutions)
    first, read, written = convolutions[0]
    around = 3 * (i + o) - read.numel()
    elements = {
        "eager": around + 13 * o + 6 * a,
        "compiled": around + 8 * o + 3 * a,
        "fused": 5 * o + 4 * i + 2 * a - 2 * read.numel(),
    }
    macs, first_macs = count_multiply_adds(net, (side, side)), written.numel() * first.weight[0].numel()
    moved = {name: BYTES * count / 1e6 for name, count in elements.items()}
    return Cost(macs / 1e9, (6 * macs - 2 * first_macs) / 1e9, moved)


Convolution = tuple[nn.Conv2d, torch.Tensor, torch.Tensor]


@torch.no_grad()
def _shapes(net: nn.Module, side: int) -> tuple[list[Convolution], int]:
    """All convolutions with input and output, and the elements of the additions' outputs."""
    convolutions: list[Convolution] = []
    added = 0

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal added
        if isinstance(module, nn.Conv2d):
            convolutions.append((module, inputs[0], output))
        else:
            added += output.numel()

    for module in net.modules():
        if isinstance(module, (nn.Conv2d, ResidualBlock)):
            module.register_forward_hook(note)
    net(torch.zeros(1, 3, side, side, device="meta"))
    return convolutions, added
