"""Detectron2's keys to a network: MODEL.RESNETS as Detectron2 reads it, MODEL.RESIDUAL where it is there."""

from __future__ import annotations

from typing import Any

from detectron2.layers import get_norm

from resnet_backbone.models.build import network_config
from resnet_backbone.models.network import NetworkConfig
from resnet_backbone.models.norms import Norm

DEPTHS = (18, 34, 50, 101, 152)
OURS = ("BN", "SyncBN", "FrozenBN", "GN", "")


def option(cfg: Any, key: str, default: Any) -> Any:
    """MODEL.RESIDUAL.`key` where the configuration has our keys, else `default`."""
    return cfg.MODEL.get("RESIDUAL", {}).get(key, default)


def fast_settings(cfg: Any) -> dict[str, bool]:
    """FOLD_NORMS, CHANNELS_LAST and COMPILE as `speed_up` takes them; all False unless MODEL.RESIDUAL says otherwise.

    Raises:
        ValueError: a value that is neither True nor False.
    """
    values = {key: option(cfg, key, False) for key in ("FOLD_NORMS", "CHANNELS_LAST", "COMPILE")}
    for key, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"MODEL.RESIDUAL.{key} {value!r}: use True or False")
    return {key.lower(): value for key, value in values.items()}


def norm_of(name: str) -> Norm:
    """Our norm, or Detectron2's for the names that only it has (naiveSyncBN, LN, ...)."""
    return name if name in OURS else lambda channels: get_norm(name, channels)


def residual_config(cfg: Any, channels: int, *, out_features: tuple[str, ...], freeze_at: int) -> NetworkConfig:
    """The network that MODEL.RESNETS describes.

    Raises:
        ValueError: a value that no network of the family has; the message names the key.
    """
    keys = cfg.MODEL.RESNETS
    depth = keys.DEPTH
    if depth not in DEPTHS:
        raise ValueError(f"MODEL.RESNETS.DEPTH {depth}: use one of {', '.join(map(str, DEPTHS))}")
    if any(keys.DEFORM_ON_PER_STAGE):
        raise ValueError(
            f"MODEL.RESNETS.DEFORM_ON_PER_STAGE {list(keys.DEFORM_ON_PER_STAGE)}: the paper's networks have no "
            "deformable convolution; set it to [False, False, False, False] or use build_resnet_backbone"
        )
    basic = depth < 50
    if basic and keys.RES2_OUT_CHANNELS == 256:  # Detectron2's default, which is a bottleneck's
        raise ValueError(
            f"MODEL.RESNETS.RES2_OUT_CHANNELS 256: ResNet-{depth} has basic blocks; set it to 64, or to another "
            "width for a narrower or wider network"
        )
    widths: dict[str, Any] = {} if basic else {"groups": keys.NUM_GROUPS, "width_per_group": keys.WIDTH_PER_GROUP}
    if basic and keys.NUM_GROUPS != 1:
        raise ValueError(f"MODEL.RESNETS.NUM_GROUPS {keys.NUM_GROUPS}: ResNet-{depth} has no groups; set it to 1")
    return network_config(
        f"resnet{depth}",
        out_features=out_features,
        stride_in_1x1=keys.STRIDE_IN_1X1,
        shortcut=option(cfg, "SHORTCUT", "B"),
        norm=norm_of(keys.NORM),
        norm_eps=option(cfg, "NORM_EPS", 1e-5),
        freeze_at=freeze_at,
        in_channels=channels,
        stem_out_channels=keys.STEM_OUT_CHANNELS,
        res2_out_channels=keys.RES2_OUT_CHANNELS,
        res5_dilation=keys.RES5_DILATION,
        drop_path=option(cfg, "DROP_PATH", 0.0),
        checkpoint_stages=tuple(option(cfg, "CHECKPOINT_STAGES", ())),
        **widths,
    )
