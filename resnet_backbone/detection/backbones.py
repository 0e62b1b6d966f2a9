"""Our networks as Detectron2 backbones: the same module, with Detectron2's base class and shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import Backbone

from resnet_backbone.detection.load_guard import guard_loading
from resnet_backbone.models.build import network_config
from resnet_backbone.models.fast import speed_up
from resnet_backbone.models.network import NetworkConfig
from resnet_backbone.models.resnet import ResNet
from resnet_backbone.models.vgg import VGG


class ResidualBackbone(ResNet, Backbone):
    """A residual or plain network for Detectron2; state-dict names and outputs are those of its own ResNet.

    Loading weights that do not fill every parameter raises `WeightsError`, also from the stock checkpointer.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        guard_loading(self, f"the {config.variant.name} backbone")

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {name: ShapeSpec(channels=s.channels, stride=s.stride) for name, s in super().output_shape().items()}


class VGGBackbone(VGG, Backbone):
    """VGG for Detectron2, features conv1 .. conv5 and pool5."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        guard_loading(self, f"the {config.variant.name} backbone")

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {name: ShapeSpec(channels=s.channels, stride=s.stride) for name, s in super().output_shape().items()}


def residual_backbone(
    name: str,
    *,
    out_features: Sequence[str],
    norm: Any = "FrozenBN",
    freeze_at: int = 2,
    fold_norms: bool = False,
    channels_last: bool = False,
    compile: bool = False,
    **options: Any,
) -> ResidualBackbone | VGGBackbone:
    """A backbone from Python or LazyConfig: `L(residual_backbone)(name="resnet50", out_features=[...])`.

    Args:
        name, out_features, norm, freeze_at, options: as `network_config` takes them; the defaults of norm and
            freeze_at are Detectron2's for fine-tuning.
        fold_norms, channels_last, compile: as `speed_up` takes them.

    Raises:
        ValueError: what `network_config` or `speed_up` refuses.
    """
    config = network_config(name, out_features=out_features, norm=norm, freeze_at=freeze_at, **options)
    backbone = VGGBackbone(config) if config.variant.family == "vgg" else ResidualBackbone(config)
    return speed_up(backbone, fold_norms=fold_norms, channels_last=channels_last, compile=compile)
