"""Our networks in torchvision's detectors, with torchvision's own FPN; works without Detectron2."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

from resnet_backbone.models.build import build_network, network_config
from resnet_backbone.models.network import Network
from resnet_backbone.models.norms import Norm
from resnet_backbone.models.variants import Variant, find_variant
from resnet_backbone.weights.compare import check_network, settled_options, unit_statistics
from resnet_backbone.weights.errors import WeightsError
from resnet_backbone.weights.load import GUESSED, Source, load_weights, read_source
from resnet_backbone.weights.record import WeightRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """One of torchvision's detectors.

    Attributes:
        build: torchvision's class.
        one_stage: its pyramid starts at stride 8 and ends in p6 and p7, made from p5; else 4, and a max-pooled p6.
    """

    build: type[nn.Module]
    one_stage: bool


KINDS = {
    "faster_rcnn": Kind(detection.FasterRCNN, one_stage=False),
    "mask_rcnn": Kind(detection.MaskRCNN, one_stage=False),
    "keypoint_rcnn": Kind(detection.KeypointRCNN, one_stage=False),
    "retinanet": Kind(detection.RetinaNet, one_stage=True),
    "fcos": Kind(detection.FCOS, one_stage=True),
}

# Settled by the detector, or parameters of `torchvision_detector` itself.
_NOT_NETWORK = {"name", "num_classes", "out_features", "in_channels", "norm", "freeze_at", "res5_dilation"}
_NETWORK = set(inspect.signature(network_config).parameters) - _NOT_NETWORK
_NOT_DETECTOR = {"backbone", "num_classes", "kwargs"}
_REMEDIES = {
    "trainable_backbone_layers": "say freeze_at, which is 5 minus it",
    "weights_backbone": "say weights",
    "in_channels": "these detectors take RGB images",
    "out_features": "the kind settles them",
    "res5_dilation": "a pyramid wants strides up to 32",
}


class Pyramid(nn.Module):
    """A network of ours and torchvision's FPN on it: the `backbone` of a torchvision detector.

    State-dict names are those of torchvision's BackboneWithFPN, `body.` and `fpn.`, with ours inside the body.

    Attributes:
        record: of the weights that were loaded, in the channel order that the detector takes (RGB).
    """

    def __init__(self, body: Network, out_channels: int, one_stage: bool) -> None:
        super().__init__()
        extra = LastLevelP6P7(out_channels, out_channels) if one_stage else LastLevelMaxPool()
        channels = [shape.channels for shape in body.output_shape().values()]
        self.body = body
        self.fpn = FeaturePyramidNetwork(channels, out_channels, extra)
        self.out_channels = out_channels
        self.record: WeightRecord | None = None

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Normalised images N,3,H,W to the levels "0", "1", ... from fine to coarse, then "pool", or "p6" and "p7"."""
        return self.fpn({str(level): feature for level, feature in enumerate(self.body(x).values())})


def torchvision_detector(
    name: str,
    *,
    num_classes: int | None,
    kind: str = "faster_rcnn",
    weights: str | Path | None = None,
    fine_tune: bool = False,
    norm: Norm | None = None,
    freeze_at: int | None = None,
    fpn_channels: int = 256,
    **options: Any,
) -> nn.Module:
    """A detector of torchvision's with a network of the table as backbone; images are RGB, values 0..1, as there.

    Args:
        name: one of `list_variants()`, residual, plain or VGG (levels conv3, conv4, conv5, pool5), not CIFAR's.
        num_classes: as torchvision counts, background included (91 for COCO); None beside a predictor of your own.
        kind: "faster_rcnn", "mask_rcnn", "keypoint_rcnn", "retinanet" or "fcos".
        weights: of a classifier or backbone, or a whole detector: torchvision's checkpoint, or one of this function
            written with its record (`write_weights(path, detector.state_dict(), detector.backbone.record)`). The
            record settles image_mean, image_std, stride_in_1x1, shortcut and norm_eps; BGR weights are turned
            round for RGB images, which is exact. None starts at random.
        fine_tune: lets last layers start anew where a detector's file has another number of classes.
        norm: of the backbone; default "FrozenBN" with weights, "BN" without.
        freeze_at: parts out of training, from the input on; default 2 with weights (torchvision's
            trainable_backbone_layers=3), 0 without.
        fpn_channels: of the pyramid.
        options: what `network_config` takes (shortcut, drop_path, ...) or torchvision's class of the kind
            (min_size, rpn_anchor_generator, box_score_thresh, ...).

    Raises:
        ValueError: an unknown kind, name or option, or a network without the levels of a pyramid.
        WeightsError: weights that are not certainly right for this detector, or an option that contradicts them.
    """
    chosen, variant = _chosen(kind, num_classes), find_variant(name)
    features = _features(variant, chosen)
    network, detector = _split_options(kind, options)
    source = None if weights is None else _readable(read_source(weights)).in_rgb()
    if source is not None:
        network = settled_options(variant, source.record, network)
        detector = {**unit_statistics(source.record), **detector}
    # Frozen norms and first layers make sense on trained weights alone.
    usual: tuple[Norm, int] = ("BN", 0) if source is None else ("FrozenBN", 2)
    norm, freeze_at = usual[0] if norm is None else norm, usual[1] if freeze_at is None else freeze_at
    body = build_network(name, out_features=features, norm=norm, freeze_at=freeze_at, **network)
    pyramid = Pyramid(body, fpn_channels, chosen.one_stage)
    if source is not None:
        check_network(body, source.named)
    model = chosen.build(pyramid, num_classes=num_classes, **detector)
    if source is not None:
        report = load_weights(model, source, fine_tune=fine_tune or not source.detector)
        logger.info("%s", report)
        pyramid.record = _detectors(report.record, name)
    return model


def _detectors(record: WeightRecord, name: str) -> WeightRecord:
    """What holds of a detector begun with weights of `record`; what was assumed of them is now how it is fed."""
    assumed = (f"the input was assumed from the {record.naming} names in {record.source}",) if record.assumed else ()
    return replace(
        record,
        naming="resnet_backbone",
        variant=name,
        top1=None,
        top5=None,
        num_classes=None,
        classes=(),
        sha256=None,
        notes=(*record.notes, *assumed),
        assumed=False,
    )


def _chosen(kind: str, num_classes: int | None) -> Kind:
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"kind {kind!r}: {hint}torchvision_detector knows {', '.join(KINDS)}")
    if num_classes is None and KINDS[kind].one_stage:
        raise ValueError(f"num_classes None: {kind} needs a number, with the background counted")
    if num_classes is not None and num_classes < 2:
        raise ValueError(f"num_classes {num_classes}: torchvision counts the background too; use at least 2")
    return KINDS[kind]


def _features(variant: Variant, kind: Kind) -> tuple[str, ...]:
    """The feature maps of strides 4 to 32, or 8 to 32."""
    if variant.family == "cifar":
        raise ValueError(
            f"{variant.name}: its strides are 1 to 4, a detector's pyramid has 4 to 32; use resnet18 or another "
            "network of ImageNet's kind"
        )
    names = ("conv3", "conv4", "conv5", "pool5") if variant.family == "vgg" else variant.stage_names
    return names[1:] if kind.one_stage else names


def _split_options(kind: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of our network, and those of torchvision's class, which itself drops unknown ones in silence."""
    signatures = (inspect.signature(c).parameters for c in (KINDS[kind].build, GeneralizedRCNNTransform))
    known = {name for parameters in signatures for name in parameters} - _NOT_DETECTOR
    for name in options:
        if name not in known | _NETWORK:
            near = difflib.get_close_matches(name, known | _NETWORK, n=1)
            remedy = _REMEDIES.get(name) or (f"did you mean {near[0]}?" if near else "leave it out")
            raise ValueError(f"{name} is no option of {kind} or its backbone: {remedy}")
    network = {key: value for key, value in options.items() if key in _NETWORK}
    return network, {key: value for key, value in options.items() if key not in _NETWORK}


def _readable(source: Source) -> Source:
    """Refuses detectors whose heads are not torchvision's, and those of ours that do not say what they were fed."""
    where = source.named.source
    if source.detector and not source.for_torchvision:
        raise WeightsError(f"{where}: a Detectron2 detector, whose heads are not torchvision's; name a backbone's file")
    if source.for_torchvision and GUESSED in source.record.notes:
        raise WeightsError(
            f"{where}: a detector of ours without its record, so that its input and stride are unknown. Write it "
            "with write_weights(path, detector.state_dict(), detector.backbone.record), or build the detector as it "
            "was built then and call load_weights(detector, path)"
        )
    return source
