"""`--data synthetic`: how fast a recipe trains where images cost nothing, the ceiling of every loader."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

from resnet_backbone.classification.data.splits import SYNTHETIC, open_data
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.recipe.length import check_batch
from resnet_backbone.classification.training.loop import Loop
from resnet_backbone.classification.training.output import clear, refuse_held
from resnet_backbone.classification.training.pace import Spent
from resnet_backbone.classification.training.train import describe, device_of, make_network
from resnet_backbone.engine import group
from resnet_backbone.engine.logs import set_up_logs
from resnet_backbone.engine.loop import PERIOD

logger = logging.getLogger(__name__)


ITERATIONS = 6 * PERIOD
"""Where the command line gives no length."""

SETTLED: dict[str, Any] = {
    "data": SYNTHETIC,
    "holdout": 0,
    "save_every": 0,
    "test_every": 0,
    # Steps take as long at any rate, and noise must not make a loss that is no number.
    "rate_per_256": 1e-3,
    "schedule": "constant",
    "warmup": 0.0,
    "warmup_share": 0.0,
    "warmup_until_error": None,
}
"""Keys of a recipe that such a run does not obey."""


class _Unsaved(Loop):
    def write_state(self, path: Path) -> None:
        """Nothing: there is no use for what was learnt from noise."""


def measure_speed(config: TrainConfig, output: Path, *, overwrite: bool = False, short: bool = True) -> Spent:
    """A recipe's steps on one batch of noise that lies on the device; no test, no weights, no checkpoint.

    Args:
        overwrite: though `output` holds a run.
        short: `ITERATIONS`, not the recipe's length.

    Returns:
        What all iterations took but the first `PERIOD`; all of a shorter run.

    Raises:
        ValueError: the configuration cannot be used.
        OSError: nothing can be written.
    """
    config = dataclasses.replace(config, **SETTLED)
    if short:
        config = dataclasses.replace(config, epochs=None, iterations=ITERATIONS)
    if config.augmentation == "padded_crop":
        raise ValueError(
            "data 'synthetic': augmentation 'padded_crop' has no loader that could be slow; take --data CIFAR"
        )
    refuse_held(output, False, overwrite)
    device = device_of(config)
    data = open_data(SYNTHETIC)
    check_batch(config, len(data.train), group.world())
    output.mkdir(parents=True, exist_ok=True)
    set_up_logs(output / "log.txt" if group.is_main() else None, quiet=not group.is_main())
    clear(output)
    loop = _Unsaved(config, data, make_network(config, data, device, load=False), output, device)
    describe(config, data, loop, output)
    loop.run()
    spent, first = (loop.pace.warm, PERIOD) if loop.pace.warm.steps else (loop.pace.whole, 0)
    if group.is_main():
        each = max(spent.steps, 1)
        logger.info(
            "speed: %.1f images/s; %.4f s an iteration of %d images, %.4f s waiting for images and %.4f s computing "
            "(means of %d iterations%s)",
            spent.speed(config.batch_size), spent.seconds / each, config.batch_size, spent.data / each,
            spent.compute / each, spent.steps, f" behind the first {first}" if first else "",
        )  # fmt: skip
    return spent
