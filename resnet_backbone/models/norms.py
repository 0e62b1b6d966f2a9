"""Normalisation layers by name, and the frozen batch norm of a fine-tuned detector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

Norm = str | Callable[[int], nn.Module]


class FrozenBatchNorm2d(nn.Module):
    """Batch norm as the fixed affine map that it is during fine-tuning (paper, Sec. 4.3 and Appendix A).

    Four buffers of shape (C,), no parameter: `weight`, `bias`, `running_mean`, `running_var`. Computes
    `(x - running_mean) / sqrt(running_var + eps) * weight + bias` with the very operations of Detectron2's
    `FrozenBatchNorm2d`, so that outputs and gradients are the same to the last bit. Unlike that class it
    never fills in missing statistics by itself.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features) - eps)

    weight: torch.Tensor
    bias: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor

    def scale_and_shift(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The affine map `x * scale + shift`, both of shape (C,)."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N, C, H, W to the same shape and type."""
        # A trace is one graph, whether or not its maker had gradients on. Older torch refuses an eps of 0.
        affine = (x.requires_grad and not torch.jit.is_tracing()) or self.eps == 0  # type: ignore[attr-defined]
        if affine:
            # F.batch_norm would keep memory for gradients of weight and bias, which nobody asks for.
            scale, shift = self.scale_and_shift()
            return x * scale.reshape(1, -1, 1, 1).to(x.dtype) + shift.reshape(1, -1, 1, 1).to(x.dtype)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"

    @classmethod
    def frozen(cls, norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> FrozenBatchNorm2d:
        """A frozen copy of a batch norm with statistics."""
        copy = cls(norm.num_features, norm.eps).to(norm.weight.device, norm.weight.dtype)
        copy.load_state_dict({name: getattr(norm, name).detach() for name in copy.state_dict()})
        return copy


def freeze_norms(module: nn.Module) -> nn.Module:
    """`module` with every batch norm replaced by its frozen copy; in place, except for a batch norm itself."""
    if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
        return FrozenBatchNorm2d.frozen(module)
    for name, child in module.named_children():
        frozen = freeze_norms(child)
        if frozen is not child:
            module.add_module(name, frozen)
    return module


_NORMS: dict[str, Callable[[int, float], nn.Module]] = {
    "BN": lambda channels, eps: nn.BatchNorm2d(channels, eps=eps),
    "SyncBN": lambda channels, eps: nn.SyncBatchNorm(channels, eps=eps),
    "FrozenBN": lambda channels, eps: FrozenBatchNorm2d(channels, eps=eps),
    # 32 groups as in Group Normalization; the CIFAR nets are too narrow for that many.
    "GN": lambda channels, eps: nn.GroupNorm(32 if channels % 32 == 0 else channels // 4, channels, eps=eps),
}


def make_norm(norm: Norm, channels: int, eps: float = 1e-5) -> nn.Module | None:
    """The norm layer called `norm` for `channels` channels; None for "" (no norm).

    Raises:
        ValueError: an unknown name.
    """
    if callable(norm):
        return norm(channels)
    if norm == "":
        return None
    if norm not in _NORMS:
        raise ValueError(f"unknown norm {norm!r}: use one of {', '.join(_NORMS)}, or a function of the channels")
    return _NORMS[norm](channels, eps)
