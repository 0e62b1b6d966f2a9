"""`build` with weights: the record decides what the tensors cannot say."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from resnet_backbone.models.build import build_network
from resnet_backbone.models.network import Network
from resnet_backbone.models.variants import find_variant
from resnet_backbone.weights.compare import settled_options
from resnet_backbone.weights.load import load_weights, read_source

logger = logging.getLogger(__name__)


def build(name: str, *, weights: str | Path | None = None, **options: Any) -> Network:
    """A classifier (`num_classes`) or a backbone (`out_features`) of the paper, with verified weights if asked for.

    Args:
        name: one of `list_variants()`.
        weights: what MODEL.WEIGHTS takes: torchvision://, timm://, detectron2://, http(s):// or a path. Its
            record settles stride_in_1x1, shortcut and norm_eps unless they are given; contradictions raise.
        options: as `resnet_backbone.models.build.network_config` documents them.

    Raises:
        ValueError: a name or option that does not exist or fit.
        WeightsError: weights that are not certainly right for this network.
    """
    if weights is None:
        return build_network(name, **options)
    source = read_source(weights)
    network = build_network(name, **settled_options(find_variant(name), source.record, options))
    logger.info("%s", load_weights(network, source))
    return network
