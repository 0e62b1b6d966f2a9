"""Optimiser and rate from the SOLVER keys, as Detectron2 builds them."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_optimizer
from detectron2.solver.build import GradientClipType, get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn


def make_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD as Detectron2 builds it, or AdamW with the same groups, weight decays and clipping.

    Raises:
        ValueError: SOLVER.OPTIMIZER or SOLVER.CLIP_GRADIENTS.CLIP_TYPE names something else, or CLIP_VALUE is not
            above 0.
    """
    solver = cfg.SOLVER
    kinds = [kind.value for kind in GradientClipType]
    if solver.CLIP_GRADIENTS.ENABLED and solver.CLIP_GRADIENTS.CLIP_TYPE not in kinds:
        raise ValueError(f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE: {solver.CLIP_GRADIENTS.CLIP_TYPE!r}: use one of {kinds}")
    if solver.CLIP_GRADIENTS.ENABLED and not solver.CLIP_GRADIENTS.CLIP_VALUE > 0:
        raise ValueError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_VALUE: {solver.CLIP_GRADIENTS.CLIP_VALUE:g}: above 0, or nothing would be "
            "learnt; 1 is usual"
        )
    if solver.OPTIMIZER == "SGD":
        optimizer: torch.optim.Optimizer = build_optimizer(cfg, model)
        return optimizer
    if solver.OPTIMIZER != "AdamW":
        raise ValueError(f"SOLVER.OPTIMIZER: {solver.OPTIMIZER!r} is neither 'SGD' nor 'AdamW'")
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    kind: Any = maybe_add_gradient_clipping(cfg, torch.optim.AdamW)
    made: torch.optim.Optimizer = kind(groups, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY)
    return made


def autocast_type(cfg: CfgNode) -> torch.dtype | None:
    """The lower precision of SOLVER.AMP; None where it is off.

    Raises:
        ValueError: SOLVER.AMP.DTYPE names something else, or fp16 without a GPU.
    """
    amp = cfg.SOLVER.AMP
    if not amp.ENABLED:
        return None
    if amp.DTYPE not in ("bf16", "fp16"):
        raise ValueError(f"SOLVER.AMP.DTYPE: {amp.DTYPE!r} is neither 'bf16' nor 'fp16'")
    if amp.DTYPE == "fp16" and not str(cfg.MODEL.DEVICE).startswith("cuda"):
        raise ValueError("SOLVER.AMP.DTYPE: 'fp16' needs a GPU; use 'bf16'")
    return {"bf16": torch.bfloat16, "fp16": torch.float16}[amp.DTYPE]


def enter_schedule(optimizer: torch.optim.Optimizer, scheduler: Any, iteration: int) -> None:
    """Sets rates to those of another schedule than the one that the optimiser's state came from.

    Args:
        scheduler: Detectron2's, freshly built from the new keys.
        iteration: how many are done.
    """
    scheduler.last_epoch = iteration
    rates = scheduler.get_lr()
    for group, base, rate in zip(optimizer.param_groups, scheduler.base_lrs, rates, strict=True):
        group["initial_lr"], group["lr"] = base, rate
