"""Weights that a run starts from instead of drawn ones."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.models.network import Network
from resnet_backbone.weights.load import Source, load_weights, read_source
from resnet_backbone.weights.naming import facts_of

logger = logging.getLogger(__name__)

HEADS = ("linear.", "fc8.")
"""The last layers of residual networks and of VGG."""


def load_initial(network: Network, config: TrainConfig, classes: Sequence[str] = ()) -> None:
    """Fills `network` from `config.weights`; with `fresh_head` its last layer stays as it was drawn.

    Args:
        network: of `config`, for the classes of the data.
        classes: their names, where they are class folders.

    Raises:
        ValueError: as `load_weights`; a detector's weights, norms without statistics, a head of other classes, or an
            input normalised otherwise than the recipe's. `network` is unchanged then.
    """
    source = read_source(config.weights).in_rgb()
    if source.detector or source.for_torchvision:
        raise ValueError(f"weights: {config.weights} is a detector; a classifier starts from a classifier's weights")
    if facts_of(source.state).affine_only and config.norm != "GN" and source.record.norm is None:
        command = f"weights recompute-norms {config.weights} OUT.safetensors --images {config.data or 'DATA'}"
        raise ValueError(
            f"weights: {config.weights}: its batch norms are affine only, which a training's first step would undo; "
            f"`resnet-backbone {command}` gives them statistics"
        )
    for key in ("mean", "std"):
        ours, theirs = getattr(config, key), getattr(source.record, key)
        if len(ours) != len(theirs) or any(abs(a - b) > 1e-3 for a, b in zip(ours, theirs)):
            given = [round(value, 3) for value in theirs]
            raise ValueError(
                f"{key} is {list(ours)}, but weights {config.weights} were trained with {key} {given}: give that"
            )
    whole = _with_head(source, network, config)
    other = None if config.fresh_head else source.record.other_class(classes)
    if other:
        raise ValueError(
            f"weights: the classes of {config.weights} have {other}, and its last layer would take one for the other; "
            "name the folders as then, or draw it anew with fresh_head true"
        )
    report = load_weights(network, whole)
    logger.info("starts from %s", report)


def _with_head(source: Source, network: Network, config: TrainConfig) -> Source:
    """The weights with the last layer that `network` shall have."""
    own = {key: value for key, value in network.state_dict().items() if key.startswith(HEADS)}
    if config.fresh_head:
        return dataclasses.replace(source, state={**source.state, **own})
    wanted = network.config.num_classes
    head = next((value for key, value in source.state.items() if key.startswith(HEADS)), None)
    remedy = "fresh_head true draws the last layer anew"
    if head is None:
        raise ValueError(f"weights: {config.weights} has no last layer; {remedy}")
    if len(head) != wanted:
        raise ValueError(f"weights: {config.weights} tells {len(head)} classes apart, the data have {wanted}; {remedy}")
    return source
