"""Names inside torchvision's detector checkpoints: the backbone's under `backbone.body.`, older releases' heads."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

import torch

# Where torchvision's BackboneWithFPN, and our detectors after it, keep the backbone.
BODY = "backbone.body."

# Digits of the sha256, as in the files' names: the COCO_V1 weights of fasterrcnn, maskrcnn, keypointrcnn and
# retinanet_resnet50_fpn. torchvision computes their frozen batch norm with eps 0, whatever the tensors say.
ZERO_EPS = ("258fb6c6", "bf2d0c1e", "fc266e95", "eeacb38b")

_RENAMED = (
    (r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)", r"\1.0.\2"),
    (r"rpn\.head\.conv\.(weight|bias)", r"rpn.head.conv.0.0.\1"),
)


def split_body(state: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The backbone's tensors without `BODY` before their names, and all others; no backbone for other detectors."""
    body = {key.removeprefix(BODY): value for key, value in state.items() if key.startswith(BODY)}
    return body, {key: value for key, value in state.items() if not key.startswith(BODY)}


def rename_detector(rename_body: Callable[[str], str | None], keys: Collection[str]) -> Callable[[str], str | None]:
    """A map for all keys of a detector: `rename_body` inside the body, today's names around it.

    Args:
        rename_body: from a backbone's key without `BODY` to ours; None for an unknown one.
        keys: all of the file, which tell how old its RetinaNet head is.
    """
    # FCOS has activations at these places, today's RetinaNet has sequences.
    old_retinanet = "head.classification_head.conv.2.weight" in keys

    def rename(key: str) -> str | None:
        if not key.startswith(BODY):
            return _todays_name(key, old_retinanet)
        name = rename_body(key.removeprefix(BODY))
        return None if name is None else BODY + name

    return rename


def _todays_name(key: str, old_retinanet: bool) -> str:
    """What torchvision's own `_load_from_state_dict` hooks do by version, which plain tensors do not carry."""
    for pattern, replacement in _RENAMED:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, replacement, key)
    if match := re.fullmatch(r"roi_heads\.mask_head\.mask_fcn(\d)\.(weight|bias)", key):
        return f"roi_heads.mask_head.{int(match[1]) - 1}.0.{match[2]}"
    match = re.fullmatch(r"(head\.(?:classification|regression)_head\.conv)\.(\d)\.(weight|bias)", key)
    if match and old_retinanet:
        return f"{match[1]}.{int(match[2]) // 2}.0.{match[3]}"
    return key
