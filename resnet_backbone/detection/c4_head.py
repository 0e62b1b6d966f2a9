"""Layers of conv5_x on each region (paper, Appendix A), for any network of the family."""

from __future__ import annotations

from typing import Any

from detectron2.modeling.roi_heads import Res5ROIHeads

from resnet_backbone.detection.from_config import fast_settings, residual_config
from resnet_backbone.detection.load_guard import guard_loading
from resnet_backbone.models.fast import speed_up
from resnet_backbone.models.resnet import Stage, make_stage


class ResidualRes5ROIHeads(Res5ROIHeads):  # type: ignore[misc]
    """Detectron2's `Res5ROIHeads` with as many and such blocks as the depth has in conv5_x.

    Detectron2 always builds three bottleneck blocks, so its ResNet-18 and -34 have no C4. With a bottleneck
    network of three blocks in conv5_x (50, 101, 152 layers) the state dict is the stock one.
    """

    @classmethod
    def _build_res5_block(cls, cfg: Any) -> tuple[Stage, int]:
        config = residual_config(cfg, 3, out_features=("res5",), freeze_at=0)
        in_channels = config.res2_out_channels * 4
        res5 = make_stage(config, 3, in_channels)
        settings = fast_settings(cfg)
        frozen = cfg.MODEL.RESNETS.NORM == "FrozenBN"
        speed_up(res5, fold_norms=settings["fold_norms"] and frozen, channels_last=settings["channels_last"])
        guard_loading(res5, f"res5 of {config.variant.name} in the region head")
        return res5, in_channels * 2
