"""Stems, residual blocks and shortcuts (paper, Sec. 3.2, 3.3 and Figure 5); state-dict names are Detectron2's."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from resnet_backbone.models.folding import Folding
from resnet_backbone.models.norms import FrozenBatchNorm2d, Norm, freeze_norms, make_norm
from resnet_backbone.models.variants import Shortcut


class ConvNorm(nn.Conv2d):
    """A convolution without bias and the norm behind it, kept as its child `norm`.

    Attributes:
        folding: where it is set, a frozen norm is computed inside the convolution; see `speed_up`.
    """

    folding: Folding | None = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        norm: Norm = "BN",
        eps: float = 1e-5,
    ) -> None:
        padding = dilation * (kernel_size - 1) // 2
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.norm = make_norm(norm, out_channels, eps)
        # He initialisation, as in the paper (its reference 13); fan-out keeps the gradient's variance.
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.folding is not None and isinstance(self.norm, FrozenBatchNorm2d):
            folded = self.folding(self, self.norm, x)
            if folded is not None:
                return self._conv_forward(x, *folded)
        x = super().forward(x)
        return x if self.norm is None else self.norm(x)

    def train(self, mode: bool = True) -> ConvNorm:
        self._forget_folded()
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> ConvNorm:
        self._forget_folded()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._forget_folded()
        super()._load_from_state_dict(*arguments)

    def _forget_folded(self) -> None:
        if self.folding is not None:
            self.folding.forget()


class ZeroPadShortcut(nn.Module):
    """Option A: subsample by `stride` and pad the added channels with zeros; no parameter.

    Args:
        before: how many of the added channels stand before the old ones. The paper does not say; 0 puts
            all behind, (out - in) // 2 is what several CIFAR code bases do.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, before: int = 0) -> None:
        super().__init__()
        self.stride = stride
        self.before = before
        self.after = out_channels - in_channels - before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, before={self.before}, after={self.after}"


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training, drops a sample's residual with probability `p`."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0.0:
            return x
        keep = x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(1.0 - self.p)
        return x * keep / (1.0 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def make_shortcut(
    option: Shortcut, in_channels: int, out_channels: int, stride: int, norm: Norm, eps: float, pad_before: bool
) -> nn.Module | None:
    """The shortcut of a block under an option of Sec. 3.3; None is the identity."""
    same = in_channels == out_channels and stride == 1
    if option == "C" or (option == "B" and not same):
        return ConvNorm(in_channels, out_channels, 1, stride=stride, norm=norm, eps=eps)
    if option == "A" and not same:
        return ZeroPadShortcut(
            in_channels, out_channels, stride, (out_channels - in_channels) // 2 if pad_before else 0
        )
    return None


class ResidualBlock(nn.Module):
    """`relu(F(x) + shortcut(x))`; a plain block is `relu(F(x))`. Subclasses give F as `residual`."""

    last_norm_of: str  # the convolution whose norm closes F: the one that zero initialisation starts from

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        shortcut: Shortcut,
        norm: Norm,
        eps: float,
        drop_path: float,
        pad_before: bool,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride
        self.plain = shortcut == "none"
        self.shortcut = make_shortcut(shortcut, in_channels, out_channels, stride, norm, eps, pad_before)
        self.drop_path = DropPath(drop_path) if drop_path else None

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.residual(x)
        if self.plain:
            return F.relu_(out)
        if self.drop_path is not None:
            out = self.drop_path(out)
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)

    def zero_last_norm(self) -> None:
        """Starts the block as the identity (Goyal et al. 2017): the last norm's weight becomes zero."""
        norm = getattr(self, self.last_norm_of).norm
        if norm is not None and getattr(norm, "weight", None) is not None:
            nn.init.zeros_(norm.weight)

    def freeze(self) -> ResidualBlock:
        """No gradient, batch norms fixed; as Detectron2's `CNNBlockBase.freeze`."""
        freeze(self)
        return self


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions (Figure 5, left). With `dilation`, both are dilated, for a DC5 of ResNet-18/34."""

    last_norm_of = "conv2"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        shortcut: Shortcut = "B",
        norm: Norm = "BN",
        eps: float = 1e-5,
        drop_path: float = 0.0,
        pad_before: bool = False,
    ) -> None:
        super().__init__(
            in_channels, out_channels, stride=stride, shortcut=shortcut, norm=norm, eps=eps,
            drop_path=drop_path, pad_before=pad_before,
        )  # fmt: skip
        self.conv1 = ConvNorm(in_channels, out_channels, 3, stride=stride, dilation=dilation, norm=norm, eps=eps)
        self.conv2 = ConvNorm(out_channels, out_channels, 3, dilation=dilation, norm=norm, eps=eps)

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(F.relu_(self.conv1(x)))


class BottleneckBlock(ResidualBlock):
    """1x1, 3x3, 1x1 (Figure 5, right).

    Args:
        bottleneck_channels: width of the 3x3 convolution.
        stride_in_1x1: where a down-sampling block strides: True in the first 1x1 (the original, "v1"),
            False in the 3x3 ("v1.5": torchvision, timm). Same parameters, other network.
    """

    last_norm_of = "conv3"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        groups: int = 1,
        stride_in_1x1: bool = True,
        dilation: int = 1,
        shortcut: Shortcut = "B",
        norm: Norm = "BN",
        eps: float = 1e-5,
        drop_path: float = 0.0,
        pad_before: bool = False,
    ) -> None:
        super().__init__(
            in_channels, out_channels, stride=stride, shortcut=shortcut, norm=norm, eps=eps,
            drop_path=drop_path, pad_before=pad_before,
        )  # fmt: skip
        # The one trap of all weights in circulation: the stride's place is in no tensor's shape.
        stride1, stride3 = (stride, 1) if stride_in_1x1 else (1, stride)
        width = bottleneck_channels
        self.conv1 = ConvNorm(in_channels, width, 1, stride=stride1, norm=norm, eps=eps)
        self.conv2 = ConvNorm(width, width, 3, stride=stride3, dilation=dilation, groups=groups, norm=norm, eps=eps)
        self.conv3 = ConvNorm(width, out_channels, 1, norm=norm, eps=eps)

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv3(F.relu_(self.conv2(F.relu_(self.conv1(x)))))


class Stem(nn.Module):
    """ImageNet: 7x7/2 convolution and 3x3/2 max pool, stride 4. CIFAR: 3x3 convolution, stride 1."""

    def __init__(
        self, in_channels: int, out_channels: int, *, cifar: bool = False, norm: Norm = "BN", eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride = 1 if cifar else 4
        kernel, stride = (3, 1) if cifar else (7, 2)
        self.conv1 = ConvNorm(in_channels, out_channels, kernel, stride=stride, norm=norm, eps=eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu_(self.conv1(x))
        return x if self.stride == 1 else F.max_pool2d(x, kernel_size=3, stride=2, padding=1)

    def freeze(self) -> Stem:
        """No gradient, batch norms fixed."""
        freeze(self)
        return self


def freeze(module: nn.Module) -> None:
    """Takes `module` out of training: no gradient, batch norms replaced by frozen ones."""
    for parameter in module.parameters():
        parameter.requires_grad = False
    freeze_norms(module)
