"""Whether disk and shared memory have room for pretraining."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.engine.preflight import Finding
from resnet_backbone.engine.room import checkpoint_size, room


def room_findings(config: TrainConfig, network: nn.Module, output: Path, machines: int) -> list[Finding]:
    """Room for the checkpoints in `output`, and for the batches that this machine's workers hand over.

    Args:
        machines: that share the batch.
    """
    checkpoint = checkpoint_size(network, averaged=bool(config.ema))
    # uint8; the workers that train have batches ready while others test.
    batch = 3 * (config.size**2 + config.test_size**2) * (config.batch_size // machines)
    workers = 0 if config.augmentation == "padded_crop" else config.workers
    return room(output, checkpoint, batch, workers, kept=config.keep)
