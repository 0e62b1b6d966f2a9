"""A tiny CIFAR in Keras' file, and a recipe for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resnet_backbone.classification.recipe.config import TrainConfig

CIFAR = TrainConfig(
    network="cifar_resnet8", iterations=24, batch_size=4, rate_per_256=0.8, schedule="steps", steps=(12.0,),
    augmentation="padded_crop", size=32, test_size=32, test_resize=32, mean_image=True, mean=(0.0, 0.0, 0.0),
    std=(255.0, 255.0, 255.0), exact_norm_images=0, test_every=11.0, save_every=7.0, ema=0.9, workers=0, device="cpu",
)  # fmt: skip


def write_cifar(path: Path, images: int = 60) -> Path:
    """Ten classes of noise with a brightness of their own; 20 images to test."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", images), ("test", 20)):
        labels = np.arange(count) % 10
        arrays[f"x_{split}"] = (rng.integers(0, 90, (count, 32, 32, 3)) + 16 * labels[:, None, None, None]).astype("u1")
        arrays[f"y_{split}"] = labels
    np.savez(path, **arrays)
    return path
