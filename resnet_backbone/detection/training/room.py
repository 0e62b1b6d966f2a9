"""Whether disk and shared memory have room for a detector's run."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode
from torch import nn

from resnet_backbone.engine.preflight import Finding
from resnet_backbone.engine.room import checkpoint_size, room


def room_findings(cfg: CfgNode, model: nn.Module, output: Path, machines: int) -> list[Finding]:
    """Room for the checkpoints in `output`, and for the batches that this machine's workers hand over.

    Args:
        machines: that share the batch.
    """
    solver, workers = cfg.SOLVER, cfg.DATALOADER.NUM_WORKERS
    moments = 2 if solver.OPTIMIZER == "AdamW" else 1
    checkpoint = checkpoint_size(model, moments=moments, averaged=solver.EMA.ENABLED)
    # uint8, three channels; the largest that an image can become.
    shorter, longer = max(cfg.INPUT.MIN_SIZE_TRAIN), cfg.INPUT.MAX_SIZE_TRAIN
    batch = 3 * shorter * max(shorter, longer) * (solver.IMS_PER_BATCH // machines)
    return room(output, checkpoint, batch, workers, "DATALOADER.NUM_WORKERS")
