"""What `import resnet_backbone` registers in Detectron2: backbones under MODEL.BACKBONE.NAME.

The builders read Detectron2's own keys (MODEL.RESNETS, MODEL.FPN, MODEL.BACKBONE), so that changing
MODEL.BACKBONE.NAME in a stock configuration is enough; our keys (MODEL.RESIDUAL) are optional.
"""

from __future__ import annotations

from typing import Any, TypeVar

from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7

from resnet_backbone.detection.backbones import ResidualBackbone, VGGBackbone
from resnet_backbone.detection.from_config import fast_settings, norm_of, option, residual_config
from resnet_backbone.detection.prepare import check_config
from resnet_backbone.models.build import network_config
from resnet_backbone.models.fast import speed_up

B = TypeVar("B", bound=Backbone)


def build_residual_backbone(cfg: Any, input_shape: ShapeSpec) -> ResidualBackbone:
    """C4, C5 or DC5 (MODEL.RESNETS.RES5_DILATION 2) as `build_resnet_backbone`, for every depth."""
    return _fast(cfg, _residual(cfg, input_shape))


def build_residual_fpn_backbone(cfg: Any, input_shape: ShapeSpec) -> FPN:
    """FPN with a max-pooled p6, as `build_resnet_fpn_backbone`."""
    return _fpn(cfg, _residual(cfg, input_shape), LastLevelMaxPool())


def build_residual_retinanet_fpn_backbone(cfg: Any, input_shape: ShapeSpec) -> FPN:
    """FPN with p6 and p7 from res5, as `build_retinanet_resnet_fpn_backbone`."""
    bottom_up = _residual(cfg, input_shape)
    shapes = bottom_up.output_shape()
    if "res5" not in shapes:
        raise ValueError(f"MODEL.RESNETS.OUT_FEATURES {list(shapes)}: RetinaNet's p6 and p7 need res5; add it")
    return _fpn(cfg, bottom_up, LastLevelP6P7(shapes["res5"].channels, cfg.MODEL.FPN.OUT_CHANNELS))


def build_vgg_backbone(cfg: Any, input_shape: ShapeSpec) -> VGGBackbone:
    """VGG-16 (MODEL.RESIDUAL.VGG "vgg19", "vgg16_bn", ... for others); its last map is conv5, stride 16.

    MODEL.RESNETS.OUT_FEATURES names the features where it has VGG's names; otherwise conv5 alone.
    """
    named = tuple(f for f in cfg.MODEL.RESNETS.OUT_FEATURES if f.startswith(("conv", "pool")))
    return _fast(cfg, _vgg(cfg, input_shape, named or ("conv5",)))


def build_vgg_fpn_backbone(cfg: Any, input_shape: ShapeSpec) -> FPN:
    """FPN on conv3, conv4, conv5 and pool5 (strides 4 to 32), with a max-pooled p6.

    Raises:
        ValueError: MODEL.FPN.IN_FEATURES names features that VGG has not.
    """
    features = tuple(cfg.MODEL.FPN.IN_FEATURES)
    if not all(f.startswith(("conv", "pool")) for f in features):
        raise ValueError(
            f"MODEL.FPN.IN_FEATURES {list(features)}: VGG has conv1 .. conv5 and pool5; "
            'use ["conv3", "conv4", "conv5", "pool5"]'
        )
    return _fpn(cfg, _vgg(cfg, input_shape, features), LastLevelMaxPool())


def _residual(cfg: Any, input_shape: ShapeSpec) -> ResidualBackbone:
    features = tuple(cfg.MODEL.RESNETS.OUT_FEATURES)
    check_config(cfg)
    config = residual_config(cfg, input_shape.channels, out_features=features, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)
    return ResidualBackbone(config)


def _vgg(cfg: Any, input_shape: ShapeSpec, features: tuple[str, ...]) -> VGGBackbone:
    check_config(cfg)
    config = network_config(
        option(cfg, "VGG", "vgg16"),
        out_features=features,
        norm=norm_of(cfg.MODEL.RESNETS.NORM),
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        in_channels=input_shape.channels,
    )
    return VGGBackbone(config)


def _fpn(cfg: Any, bottom_up: ResidualBackbone | VGGBackbone, top_block: Any) -> FPN:
    fpn = FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
    return _fast(cfg, fpn)


def _fast(cfg: Any, backbone: B) -> B:
    """Under MODEL.RESIDUAL's FOLD_NORMS, CHANNELS_LAST and COMPILE: other speed, same outputs and state dict."""
    settings = fast_settings(cfg)
    try:
        return speed_up(backbone, **settings)
    except ValueError as error:
        name, rest = str(error).split(" ", 1)
        raise ValueError(f"MODEL.RESIDUAL.{name.upper()} {rest}") from None
