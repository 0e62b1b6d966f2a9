"""From a name and options to a network; options that do not fit the network are refused, never ignored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resnet_backbone.models.network import Network, NetworkConfig
from resnet_backbone.models.norms import Norm
from resnet_backbone.models.resnet import ResNet
from resnet_backbone.models.variants import SHORTCUTS, Shortcut, Variant, find_variant
from resnet_backbone.models.vgg import VGG


def network_config(
    name: str,
    *,
    num_classes: int | None = None,
    out_features: Sequence[str] = (),
    stride_in_1x1: bool = True,
    shortcut: Shortcut | None = None,
    pad_before: bool = False,
    norm: Norm = "BN",
    norm_eps: float = 1e-5,
    freeze_at: int = 0,
    in_channels: int = 3,
    mean_image: int | None = None,
    groups: int | None = None,
    width_per_group: int | None = None,
    stem_out_channels: int | None = None,
    res2_out_channels: int | None = None,
    res5_dilation: int = 1,
    zero_init_last_norm: bool = False,
    drop_path: float = 0.0,
    checkpoint_stages: Sequence[str] = (),
) -> NetworkConfig:
    """The checked configuration of a network of the table.

    Args:
        name: one of `list_variants()`, or `cifar_resnet{6n+2}` / `cifar_plain{6n+2}` for any n.
        num_classes: size of the classifier's output; None leaves the classifier out.
        out_features: feature maps to return, "stem", "res2" .. "res5" (VGG: "conv1" .. "conv5", "pool5").
            Later layers are not built.
        stride_in_1x1: where a bottleneck strides: True is the paper's v1, False torchvision's v1.5.
        shortcut: option A, B or C of Sec. 3.3, or "none"; default is the variant's own.
        pad_before: option A pads half of the new channels before the old ones instead of all behind.
        norm: "BN", "FrozenBN", "SyncBN", "GN", "" (none), or a function from channels to a module.
        norm_eps: epsilon of the batch norms; part of a weight's record.
        freeze_at: parts to take out of training from the input on: 1 the stem, 2 also res2, ...
        in_channels: channels of the input.
        mean_image: side of a buffer `mean_image` that is subtracted from the normalised input, which then has that
            side (the mean of each pixel over the training images, Sec. 4.2); None for no such buffer.
        groups, width_per_group: of the bottleneck's 3x3 convolution in res2 (ResNeXt, Wide ResNet).
        stem_out_channels, res2_out_channels: widths, doubled from stage to stage after res2.
        res5_dilation: 2 keeps res5 at stride 16 and dilates all its blocks (Detectron2's DC5).
        zero_init_last_norm: residual branches start as zero; not for plain networks, which would be zero.
        drop_path: stochastic depth rate of the last block, falling linearly to 0 at the first.
        checkpoint_stages: stages whose activations are computed again in the backward pass to save memory.

    Raises:
        ValueError: an unknown name, feature, shortcut or norm, or an option that this network has no use for.
    """
    variant = find_variant(name)
    _check(variant, shortcut, res5_dilation, drop_path, in_channels, mean_image, num_classes, freeze_at)
    _check_unused(
        variant, groups, width_per_group, stem_out_channels, res2_out_channels, zero_init_last_norm,
        drop_path, tuple(checkpoint_stages), res5_dilation,
    )  # fmt: skip
    _check_branches(variant, shortcut or variant.shortcut, norm, zero_init_last_norm, drop_path)
    width = 16 if variant.family == "cifar" else 64
    return NetworkConfig(
        variant=variant,
        num_classes=num_classes,
        out_features=tuple(out_features),
        stride_in_1x1=stride_in_1x1 and variant.block == "bottleneck",
        shortcut=shortcut or variant.shortcut,
        pad_before=pad_before,
        norm=norm,
        norm_eps=norm_eps,
        freeze_at=freeze_at,
        in_channels=in_channels,
        mean_image=mean_image,
        groups=groups or variant.groups,
        width_per_group=width_per_group or variant.width_per_group,
        stem_out_channels=stem_out_channels or width,
        res2_out_channels=res2_out_channels or width * (4 if variant.block == "bottleneck" else 1),
        res5_dilation=res5_dilation,
        zero_init_last_norm=zero_init_last_norm,
        drop_path=drop_path,
        checkpoint_stages=tuple(checkpoint_stages),
    )


def build_network(name: str, **options: Any) -> Network:
    """A network of the table with fresh weights (He initialisation).

    Args:
        name, options: as `network_config` takes them.

    Raises:
        ValueError: an unknown name or an option that does not fit the network.
    """
    config = network_config(name, **options)
    return VGG(config) if config.variant.family == "vgg" else ResNet(config)


def _check(
    variant: Variant,
    shortcut: str | None,
    res5_dilation: int,
    drop_path: float,
    in_channels: int,
    mean_image: int | None,
    num_classes: int | None,
    freeze_at: int,
) -> None:
    if shortcut is not None and shortcut not in SHORTCUTS:
        raise ValueError(f"shortcut {shortcut!r}: use one of {', '.join(SHORTCUTS)}")
    if variant.name.startswith(("plain", "cifar_plain")) and shortcut not in (None, "none"):
        raise ValueError(
            f"shortcut {shortcut!r}: {variant.name} is plain; build {_residual_twin(variant)} for shortcuts"
        )
    if res5_dilation not in (1, 2):
        raise ValueError(f"res5_dilation {res5_dilation}: use 1 (stride 32) or 2 (DC5, stride 16)")
    if not 0.0 <= drop_path < 1.0:
        raise ValueError(f"drop_path {drop_path}: use a rate from 0 up to, not including, 1")
    if in_channels < 1:
        raise ValueError(f"in_channels {in_channels}: an image has at least one channel")
    if mean_image is not None and mean_image < 1:
        raise ValueError(f"mean_image {mean_image}: the side of an image, or None")
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes {num_classes}: use at least 1, or None for a backbone without classifier")
    if not 0 <= freeze_at <= len(variant.depths) + 1:
        raise ValueError(f"freeze_at {freeze_at}: {variant.name} has {len(variant.depths) + 1} parts to freeze")


def _residual_twin(variant: Variant) -> str:
    return variant.name.replace("plain", "resnet")


def _check_unused(
    variant: Variant,
    groups: int | None,
    width_per_group: int | None,
    stem_out_channels: int | None,
    res2_out_channels: int | None,
    zero_init_last_norm: bool,
    drop_path: float,
    checkpoint_stages: tuple[str, ...],
    res5_dilation: int,
) -> None:
    bottleneck_only = {"groups": groups not in (None, 1), "width_per_group": width_per_group is not None}
    residual_only = {
        "stem_out_channels": stem_out_channels is not None,
        "res2_out_channels": res2_out_channels is not None,
        "zero_init_last_norm": zero_init_last_norm,
        "drop_path": drop_path > 0,
        "checkpoint_stages": bool(checkpoint_stages),
        "res5_dilation": res5_dilation != 1,
    }
    for option, given in bottleneck_only.items():
        if given and variant.block != "bottleneck":
            raise ValueError(f"{option}: {variant.name} has no bottleneck blocks; leave it out")
    for option, given in residual_only.items():
        if given and variant.family == "vgg":
            raise ValueError(f"{option}: {variant.name} has no residual stages; leave it out")
    if res5_dilation != 1 and variant.family == "cifar":
        raise ValueError(f"res5_dilation: {variant.name} has no res5; leave it out")


def _check_branches(
    variant: Variant, shortcut: Shortcut, norm: Norm, zero_init_last_norm: bool, drop_path: float
) -> None:
    for option, given in {"zero_init_last_norm": zero_init_last_norm, "drop_path": drop_path > 0}.items():
        if given and shortcut == "none":
            raise ValueError(f"{option}: without shortcuts, nothing of {variant.name} would be left; leave it out")
    if zero_init_last_norm and norm == "":
        raise ValueError(f"zero_init_last_norm: {variant.name} has no norms here; leave it out")
