"""Whether disk and shared memory have room for a run."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode
from torch import nn

from resnet_backbone.engine.preflight import Finding, disk, shared_memory

PREFETCHED = 2
"""Batches that each worker of torch's loader has ready."""


def room_findings(cfg: CfgNode, model: nn.Module, output: Path, machines: int) -> list[Finding]:
    """Room for the checkpoints in `output`, and for the batches that this machine's workers hand over.

    Args:
        machines: that share the batch.
    """
    state = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    momentum = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    momentum *= 2 if cfg.SOLVER.OPTIMIZER == "AdamW" else 1
    checkpoint = state * (2 if cfg.SOLVER.EMA.ENABLED else 1) + momentum
    # uint8, three channels; the largest that an image can become.
    shorter, longer = max(cfg.INPUT.MIN_SIZE_TRAIN), cfg.INPUT.MAX_SIZE_TRAIN
    waiting = PREFETCHED * cfg.DATALOADER.NUM_WORKERS * cfg.SOLVER.IMS_PER_BATCH // machines
    found = [disk(output, checkpoint), shared_memory(3 * shorter * max(shorter, longer) * waiting)]
    return [finding for finding in found if finding is not None]


def check_room(cfg: CfgNode, model: nn.Module, output: Path, machines: int) -> None:
    """The same before a run.

    Raises:
        ValueError: there is too little.
    """
    for finding in room_findings(cfg, model, output, machines):
        if finding.level == "error":
            raise ValueError(finding.text)
