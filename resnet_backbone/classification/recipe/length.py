"""How long a recipe trains, in iterations."""

from __future__ import annotations

from dataclasses import dataclass

from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.recipe.resolution import size_at
from resnet_backbone.classification.recipe.schedule import Schedule

RAMP = (0.4, 0.8)
"""Shares of the run between which `start_size` rises to `size`."""


@dataclass(frozen=True)
class Length:
    """A recipe's lengths in iterations."""

    total: int
    test_every: int
    save_every: int
    schedule: Schedule


def length_of(config: TrainConfig, images: int) -> Length:
    """Epochs become iterations; a batch may hold images of two epochs.

    Args:
        images: that are trained on.

    Raises:
        ValueError: the run, or its warm-up, would have no iteration, or the warm-up all.
    """
    of_one = 1.0 if config.epochs is None else images / config.batch_size

    def iterations(length: float) -> int:
        return round(length * of_one)

    total = iterations(config.length)
    if total < 1:
        raise ValueError(
            f"epochs {config.epochs:g} of {images} images are no batch of {config.batch_size}; raise epochs, or lower "
            "batch_size (the rate follows)"
        )
    warmup = iterations(config.warmup)
    if config.warmup and not 0 < warmup < total:
        raise ValueError(f"warmup {config.warmup:g} epochs are {warmup} of {total} iterations; give others")
    constant = config.warmup_shape == "constant" or config.warmup_until_error is not None
    warms_up = bool(config.warmup or config.warmup_until_error)
    schedule = Schedule(
        rate=config.rate,
        iterations=total,
        shape=config.schedule,
        milestones=tuple(iterations(step) for step in config.steps),
        patience=config.patience,
        warmup_iterations=warmup,
        warmup_start=0.0 if constant else config.warmup_share,
        warmup_rate=config.rate * config.warmup_share if constant and warms_up else None,
        warmup_until_error=config.warmup_until_error,
    )
    test, save = (max(iterations(every), 1) if every else 0 for every in (config.test_every, config.save_every))
    return Length(total, test, save, schedule)


def check_batch(config: TrainConfig, images: int, processes: int) -> None:
    """Refuses a batch that cannot be cut into equal parts, or that holds an image several times, and too few
    images for the norms.

    Args:
        images: that are trained on.
        processes: that train together.

    Raises:
        ValueError: says which batch there could be.
    """
    size, parts = config.batch_size, processes * config.accumulate
    if size % parts:
        raise ValueError(
            f"batch_size: {size} images are no multiple of {parts} parts ({processes} processes times accumulate "
            f"{config.accumulate}); give {max(size // parts, 1) * parts} (the rate follows)"
        )
    if images < size:
        raise ValueError(
            f"batch_size: {size}, but there are only {images} training images; give {max(images // parts, 1) * parts} "
            "or less (the rate follows)"
        )
    if 0 < config.exact_norm_images < size:
        raise ValueError(
            f"exact_norm_images: {config.exact_norm_images} are less than a batch of {size}; give more, or 0"
        )


def side_at(config: TrainConfig, iteration: int, total: int) -> int:
    """Side of the training images of an iteration, in pixels."""
    if config.start_size is None:
        return config.size
    begin, end = (round(share * total) for share in RAMP)
    return size_at(iteration, (config.start_size, config.size), (begin, end))
