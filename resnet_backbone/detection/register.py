"""What `import resnet_backbone` adds to Detectron2's registries; a second call changes nothing."""

from __future__ import annotations

from detectron2.modeling import BACKBONE_REGISTRY, ROI_HEADS_REGISTRY

from resnet_backbone.detection import builders
from resnet_backbone.detection.c4_head import ResidualRes5ROIHeads
from resnet_backbone.detection.path_handlers import register_handlers

BACKBONES = (
    builders.build_residual_backbone,
    builders.build_residual_fpn_backbone,
    builders.build_residual_retinanet_fpn_backbone,
    builders.build_vgg_backbone,
    builders.build_vgg_fpn_backbone,
)


def register() -> None:
    """Registers backbones and heads."""
    for registry, parts in ((BACKBONE_REGISTRY, BACKBONES), (ROI_HEADS_REGISTRY, (ResidualRes5ROIHeads,))):
        for part in parts:
            # fvcore's registry raises on a second registration of a name.
            if part.__name__ not in registry:
                registry.register(part)
    register_handlers()
