"""The one table of networks: every name that `build` understands, as rows of the paper's Table 1 and its kin."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

Family = Literal["resnet", "cifar", "vgg"]
Block = Literal["basic", "bottleneck", ""]
Shortcut = Literal["A", "B", "C", "none"]

SHORTCUTS: tuple[Shortcut, ...] = ("A", "B", "C", "none")


@dataclass(frozen=True)
class Variant:
    """One network of the table.

    Attributes:
        name: what `build` is called with.
        family: "resnet" (ImageNet stem, strides 4 to 32), "cifar" (3x3 stem, strides 1 to 4) or "vgg".
        block: residual block, "" for VGG. A plain network is a basic one with `shortcut` "none".
        depths: blocks (VGG: convolutions) per stage.
        shortcut: the option of Sec. 3.3 that is used unless another is asked for. ImageNet networks
            use B, as all weights in circulation do; CIFAR networks use A, as Sec. 4.2 does.
        groups, width_per_group: of the 3x3 convolution of a bottleneck in res2 (ResNeXt, Wide ResNet).
        batch_norm: whether a VGG has batch norm; residual networks always have a norm.
    """

    name: str
    family: Family
    block: Block
    depths: tuple[int, ...]
    shortcut: Shortcut = "B"
    groups: int = 1
    width_per_group: int = 64
    batch_norm: bool = True

    @property
    def depth(self) -> int:
        """Number of layers with weights on the longest path, as in the network's name."""
        if self.family == "vgg":
            return sum(self.depths) + 3
        return sum(self.depths) * (3 if self.block == "bottleneck" else 2) + 2

    @property
    def stage_names(self) -> tuple[str, ...]:
        """ "res2" onwards for residual networks, "conv1" onwards for VGG."""
        first, prefix = (1, "conv") if self.family == "vgg" else (2, "res")
        return tuple(f"{prefix}{first + i}" for i in range(len(self.depths)))


_D34, _D50, _D101, _D152 = (3, 4, 6, 3), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)
_VGG16, _VGG19 = (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)

_IMAGENET = (
    Variant("resnet18", "resnet", "basic", (2, 2, 2, 2)),
    Variant("resnet34", "resnet", "basic", _D34),
    Variant("resnet50", "resnet", "bottleneck", _D50),
    Variant("resnet101", "resnet", "bottleneck", _D101),
    Variant("resnet152", "resnet", "bottleneck", _D152),
    Variant("plain18", "resnet", "basic", (2, 2, 2, 2), "none"),
    Variant("plain34", "resnet", "basic", _D34, "none"),
    Variant("resnext50_32x4d", "resnet", "bottleneck", _D50, groups=32, width_per_group=4),
    Variant("resnext101_32x8d", "resnet", "bottleneck", _D101, groups=32, width_per_group=8),
    Variant("resnext101_64x4d", "resnet", "bottleneck", _D101, groups=64, width_per_group=4),
    Variant("resnext152_32x8d", "resnet", "bottleneck", _D152, groups=32, width_per_group=8),
    Variant("wide_resnet50_2", "resnet", "bottleneck", _D50, width_per_group=128),
    Variant("wide_resnet101_2", "resnet", "bottleneck", _D101, width_per_group=128),
    Variant("vgg16", "vgg", "", _VGG16, "none", batch_norm=False),
    Variant("vgg19", "vgg", "", _VGG19, "none", batch_norm=False),
    Variant("vgg16_bn", "vgg", "", _VGG16, "none"),
    Variant("vgg19_bn", "vgg", "", _VGG19, "none"),
)


def _cifar(name: str, layers: int) -> Variant:
    n = (layers - 2) // 6
    return Variant(name, "cifar", "basic", (n, n, n), "none" if "plain" in name else "A", width_per_group=16)


_CIFAR = tuple(
    _cifar(f"cifar_{kind}{layers}", layers) for kind in ("resnet", "plain") for layers in (20, 32, 44, 56, 110, 1202)
)

_TABLE = {variant.name: variant for variant in (*_IMAGENET, *_CIFAR)}


def list_variants() -> list[str]:
    """Names of all networks of the table; `cifar_resnet{6n+2}` and `cifar_plain{6n+2}` exist for any n besides."""
    return list(_TABLE)


def find_variant(name: str) -> Variant:
    """The row called `name`.

    Raises:
        ValueError: there is none; the message names the nearest, or why a CIFAR depth is impossible.
    """
    if name in _TABLE:
        return _TABLE[name]
    cifar = re.fullmatch(r"cifar_(?:resnet|plain)(\d+)", name)
    if cifar:
        layers = int(cifar[1])
        if layers < 8 or (layers - 2) % 6:
            raise ValueError(
                f"unknown network {name!r}: CIFAR networks have 6n+2 layers (8, 14, 20, 26, ...), not {layers}"
            )
        return _cifar(name, layers)
    near = difflib.get_close_matches(name.lower().replace("-", ""), _TABLE, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else "resnet_backbone.list_variants() names all"
    raise ValueError(f"unknown network {name!r}: {hint}")


_TITLES = {"resnet": "ResNet-", "cifar_resnet": "ResNet-", "plain": "plain-", "cifar_plain": "plain-", "vgg": "VGG-"}


def title(name: str) -> str:
    """A network as the paper writes it: "resnet50" is "ResNet-50", "cifar_plain20" is "plain-20"."""
    family = name.rstrip("0123456789")
    return _TITLES.get(family, family) + name[len(family) :]
