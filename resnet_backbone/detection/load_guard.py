"""Raises where Detectron2's checkpointer only warns: a backbone of ours that a checkpoint does not fill."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

from resnet_backbone.models.norms import FrozenBatchNorm2d
from resnet_backbone.weights.errors import WeightsError

# A child of Detectron2's logger, which is the one that users' scripts set up.
logger = logging.getLogger("detectron2.resnet_backbone")

STATISTICS = ("running_mean", "running_var")


def guard_loading(module: nn.Module, what: str) -> None:
    """From now on `load_state_dict` on `module`, or on a module around it, fills all of it or raises.

    Args:
        what: the module's name in the message.
    """

    def check(_: nn.Module, state: dict[str, torch.Tensor], prefix: str, *__: Any) -> None:
        fill_affine_only(module, state, prefix, what)
        wanted = [key for key in module.state_dict() if not key.endswith("num_batches_tracked")]
        missing = [key for key in wanted if prefix + key not in state]
        if missing:
            raise WeightsError(_missing_message(what, missing, len(wanted), prefix, state))

    module.register_load_state_dict_pre_hook(check)


def fill_affine_only(module: nn.Module, state: dict[str, torch.Tensor], prefix: str, what: str) -> None:
    """Files of Caffe's time hold batch norm as scale and shift alone: mean 0 and variance 1 belong to them.

    Only where every frozen norm has its scale and shift and none has statistics: a file that lost some is
    not touched, and refused by the caller.
    """
    norms = {name: norm for name, norm in module.named_modules() if isinstance(norm, FrozenBatchNorm2d)}
    affine = all(f"{prefix}{name}.{key}" in state for name in norms for key in ("weight", "bias"))
    statistics = any(f"{prefix}{name}.{key}" in state for name in norms for key in STATISTICS)
    if not norms or not affine or statistics:
        return
    logger.info("%s: batch norms are affine only in this file; mean 0 and variance 1 taken, by design", what)
    for name, norm in norms.items():
        state[f"{prefix}{name}.running_mean"] = torch.zeros_like(norm.running_mean)
        state[f"{prefix}{name}.running_var"] = torch.ones_like(norm.running_var)


def _missing_message(what: str, missing: list[str], total: int, prefix: str, state: dict[str, torch.Tensor]) -> str:
    """One readable line, then the keys."""
    lost = all(key.endswith(STATISTICS) for key in missing)
    if lost:
        reason = "the checkpoint lost batch-norm statistics"
    elif len(missing) == total:
        reason = "the checkpoint holds none of it, or under other names"
    else:
        reason = "the checkpoint is of another network, or incomplete"
    there = [key for key in state if key.startswith(prefix)] or list(state)
    return (
        f"{what}: {total - len(missing)} of {total} tensors filled; {reason}. "
        "Remedy: name the weights with MODEL.WEIGHTS and load them with resnet_backbone "
        "(`resnet-backbone weights show FILE` says what a file is, `weights convert` renames it)\n"
        f"missing: {', '.join(missing[:8])}{' ...' if len(missing) > 8 else ''}\n"
        f"the checkpoint has: {', '.join(there[:8])}{' ...' if len(there) > 8 else ''}"
    )
