"""Parameters and multiply-adds as the paper counts them (Table 1's FLOPs row)."""

from __future__ import annotations

from math import prod

import torch
from torch import nn


def count_parameters(net: nn.Module) -> int:
    """All weights, biases, and norm weights and biases, frozen ones included; no statistics of images."""
    statistics = ("running_mean", "running_var", "num_batches_tracked", "mean_image")
    return sum(t.numel() for name, t in net.state_dict().items() if not name.endswith(statistics))


@torch.no_grad()
def count_multiply_adds(net: nn.Module, size: tuple[int, int] = (224, 224), in_channels: int = 3) -> int:
    """Multiply-adds of all convolutions and linear layers on one image of `size` (height, width).

    Agrees with the sum of fvcore's `by_operator()` entries conv, linear and addmm.
    """
    total = 0

    def count(module: nn.Module, _: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.in_channels // module.groups * prod(module.kernel_size)
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features

    handles = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    training = net.training
    try:
        reference = next(net.parameters())
        net.eval()(torch.zeros(1, in_channels, *size, device=reference.device, dtype=reference.dtype))
    finally:
        net.train(training)
        for handle in handles:
            handle.remove()
    return total
