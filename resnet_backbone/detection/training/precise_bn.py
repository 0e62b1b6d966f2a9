"""PreciseBN: a model is tested with averages over many images, not with the trace of its last steps.

Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", Sec. 3; computed by fvcore.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from fvcore.nn.precise_bn import BN_MODULE_TYPES, update_bn_stats
from torch import nn

from resnet_backbone.detection.training.batches import Records, training_batches
from resnet_backbone.detection.training.dense import NormalizerState
from resnet_backbone.engine.seeds import seed_of
from resnet_backbone.engine.step import split

PURPOSE = 2**20
"""Parts its random numbers from those of the steps, which count their micro-batches there."""


def check_norms(cfg: CfgNode, model: nn.Module) -> None:
    """Refuses TEST.PRECISE_BN where nothing has statistics to compute.

    Raises:
        ValueError: says so.
    """
    if cfg.TEST.PRECISE_BN.ENABLED and not _norms(model):
        raise ValueError(
            "TEST.PRECISE_BN.ENABLED: True, but the model has no batch norm that learns (MODEL.RESNETS.NORM is "
            f"{cfg.MODEL.RESNETS.NORM}, MODEL.BACKBONE.FREEZE_AT {cfg.MODEL.BACKBONE.FREEZE_AT}); leave it False"
        )


@contextlib.contextmanager
def precise_norms(cfg: CfgNode, model: nn.Module, records: Records, iteration: int) -> Iterator[None]:
    """While entered, batch norms have their statistics over TEST.PRECISE_BN.NUM_ITER training batches.

    Batches, augmentation and random numbers depend on SEED and `iteration` alone, and the running statistics come
    back in the end: what is trained is the same with and without. Without TEST.PRECISE_BN it does nothing.

    Args:
        model: not wrapped for many processes; left in training mode.
    """
    if not cfg.TEST.PRECISE_BN.ENABLED:
        yield
        return
    norms = _norms(model)
    buffers: list[dict[str, torch.Tensor]] = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    before = [{name: buffer.clone() for name, buffer in own.items()} for own in buffers]
    _compute(cfg, model, records, iteration)
    for norm, own in zip(norms, buffers, strict=True):
        for name, buffer in own.items():
            # fvcore puts new tensors in their place, which compiled graphs and averages would not know.
            buffer.copy_(getattr(norm, name))
            setattr(norm, name, buffer)
    try:
        yield
    finally:
        for own, old in zip(buffers, before, strict=True):
            for name, buffer in own.items():
                buffer.copy_(old[name])


def _compute(cfg: CfgNode, model: nn.Module, records: Records, iteration: int) -> None:
    parts, count = cfg.SOLVER.ACCUMULATE, cfg.TEST.PRECISE_BN.NUM_ITER
    batches: Any = training_batches(cfg, records, seed_of(cfg.SEED, 0, iteration, PURPOSE))
    normalizer = NormalizerState(model)
    kept = normalizer.state_dict()
    # Every step seeds its own random numbers: those that are drawn here are missed by nobody.
    torch.manual_seed(seed_of(cfg.SEED, comm.get_rank(), iteration, PURPOSE))
    model.train()
    # The storage is thrown away: these losses are no part of the run.
    with contextlib.closing(batches), EventStorage():
        try:
            update_bn_stats(model, (part for batch in batches for part in split(batch, parts)), count * parts)
        except AssertionError as error:
            raise ValueError(f"TEST.PRECISE_BN.ENABLED: not for this model ({error}); leave it False") from None
    normalizer.load_state_dict(kept)


def _norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, BN_MODULE_TYPES)]
