"""Frozen batch norm inside the convolution before it: conv(x, w * scale, shift) is the same map in fewer passes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from resnet_backbone.models.norms import FrozenBatchNorm2d

Weights = tuple[torch.Tensor, torch.Tensor]


def fold(weight: torch.Tensor, bias: torch.Tensor | None, norm: FrozenBatchNorm2d) -> Weights:
    """Weight and bias of the one convolution that equals convolution and norm; differentiable in `weight` and `bias`.

    Args:
        weight: O, I, height, width; keeps its type and memory format.
        bias: (O,), or None.
    """
    # In half precision the scale would be rounded before it multiplies; the norm itself computes in float32.
    dtype = torch.promote_types(weight.dtype, torch.float32)
    buffers = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    gamma, beta, mean, variance = (buffer.to(dtype) for buffer in buffers)
    scale = gamma * (variance + norm.eps).rsqrt()
    shift = beta - mean * scale if bias is None else beta + (bias - mean) * scale
    return (weight * scale.reshape(-1, 1, 1, 1)).to(weight.dtype), shift.to(weight.dtype)


class _Kept(NamedTuple):
    weights: Weights
    state: tuple[object, ...]
    # Held so that no new tensor can come by the id of an old one.
    sources: tuple[torch.Tensor | None, ...]


class Folding:
    """The folded weights of one convolution.

    Where a gradient of the weight is asked for they are computed anew for every pass. Elsewhere they are kept,
    and used only while the tensors that they came from are the same objects on the same storage in the same
    version, which loading, an optimiser's step, moving and writing in place all end. A write through `.data`
    alone leaves no such mark: `train()` and `eval()` forget in any case.

    Attributes:
        outside: a compiled graph cannot compare versions; True where the caller refreshes before it enters one.
    """

    def __init__(self) -> None:
        self.outside = False
        self._kept: _Kept | None = None

    def forget(self) -> None:
        """The next pass folds again."""
        self._kept = None

    def __call__(self, conv: nn.Conv2d, norm: FrozenBatchNorm2d, x: torch.Tensor) -> Weights | None:
        """What `fold` gives, in autocast's type under autocast; None where the norm by itself is as fast or faster.

        Args:
            x: the input of `conv`.
        """
        if torch.compiler.is_compiling():
            # The compiler fuses the norm with what follows it.
            trusted = self.outside and not _needs_gradient(conv)
            return self._kept.weights if trusted and self._kept is not None else None
        if not _needs_gradient(conv):
            return self.refresh(conv, norm)
        # Folding passes over the weights as often as it spares passes over the output.
        pixels = x.shape[0] * x.shape[2] * x.shape[3] // (conv.stride[0] * conv.stride[1])
        return fold(conv.weight, conv.bias, norm) if conv.weight[0].numel() < pixels else None

    def refresh(self, conv: nn.Conv2d, norm: FrozenBatchNorm2d) -> Weights | None:
        """The kept weights, made anew where they are no longer true; None where nothing can be kept."""
        sources = (conv.weight, conv.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        # Tensors made in inference mode count no versions.
        if _needs_gradient(conv) or any(t is not None and t.is_inference() for t in sources):
            self.forget()
            return None
        dtype = _autocast_type(conv.weight)
        state = (dtype, norm.eps, *((id(t), t.data_ptr(), t._version) for t in sources if t is not None))
        kept = self._kept
        if kept is None or kept.state != state:
            # Kept tensors may meet a later pass with gradients, where inference tensors are refused.
            with torch.inference_mode(False), torch.no_grad():
                folded = fold(conv.weight, conv.bias, norm)
            self._kept = kept = _Kept((folded[0].to(dtype), folded[1].to(dtype)), state, sources)
        return kept.weights

    def __reduce__(self) -> tuple[type[Folding], tuple[()]]:
        # Copies and files hold none of it: what is kept belongs to the tensors of this very module.
        return Folding, ()


def _needs_gradient(conv: nn.Conv2d) -> bool:
    trained = conv.weight.requires_grad or (conv.bias is not None and conv.bias.requires_grad)
    return trained and torch.is_grad_enabled()


def _autocast_type(weight: torch.Tensor) -> torch.dtype:
    """The type that a convolution under the present autocast reads `weight` in; its own where there is none."""
    device = weight.device.type
    if weight.dtype == torch.float64 or not torch.amp.is_autocast_available(device):
        return weight.dtype
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
