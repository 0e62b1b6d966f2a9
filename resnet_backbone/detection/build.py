"""A detector from a config; a part that does not exist is one sentence with the nearest name."""

from __future__ import annotations

import difflib
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    build_model,
)
from torch import nn

from resnet_backbone.engine.guard import MEMORY

REGISTRIES: dict[str, Any] = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.PROPOSAL_GENERATOR.NAME": PROPOSAL_GENERATOR_REGISTRY,
    "MODEL.ROI_HEADS.NAME": ROI_HEADS_REGISTRY,
    "MODEL.ROI_BOX_HEAD.NAME": ROI_BOX_HEAD_REGISTRY,
    "MODEL.ROI_MASK_HEAD.NAME": ROI_MASK_HEAD_REGISTRY,
}
NORMS = ("RESNETS", "FPN", "ROI_BOX_HEAD", "ROI_MASK_HEAD", "RETINANET")


def build_detector(cfg: CfgNode) -> nn.Module:
    """Detectron2's `build_model`.

    Raises:
        ValueError: a registered name that nothing has, a feature that the backbone has not, or any other key that
            Detectron2 cannot build from.
        RuntimeError: memory is full.
    """
    try:
        model: nn.Module = build_model(cfg)
    except (KeyError, IndexError, AssertionError, TypeError, ZeroDivisionError, ImportError, RuntimeError) as error:
        if any(sign in str(error) for sign in MEMORY):
            raise
        raise ValueError(_reason(cfg, error)) from error
    return model


def _reason(cfg: CfgNode, error: Exception) -> str:
    for key, registry in REGISTRIES.items():
        node = cfg
        for part in key.split("."):
            node = node[part]
        names = [name for name, _ in registry]
        if node and str(node) not in names and repr(str(node)) in str(error):
            near = difflib.get_close_matches(str(node), names, n=1, cutoff=0.4) or names[:1]
            return f"{key}: nothing is registered as {str(node)!r}; did you mean {near[0]!r}?"
    for key in NORMS:
        norm = cfg.MODEL[key].NORM
        if isinstance(error, KeyError) and error.args == (norm,):
            return f"MODEL.{key}.NORM: {norm!r} is no norm; use FrozenBN, BN, SyncBN, GN or ''"
    said = (str(error).splitlines() or [""])[0]
    return (
        f"the detector cannot be built: {type(error).__name__} {said}; look at MODEL.*.IN_FEATURES, which must name "
        "features of the backbone or neck, and at the sizes that go with them"
    )
