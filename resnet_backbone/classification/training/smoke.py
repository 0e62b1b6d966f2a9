"""--smoke: a recipe shrunk to about a minute on a CPU, on a few of its images or on generated ones.

The network keeps its depth and width; everything that only costs time is made small. The numbers that come out say
nothing: that the whole path ran, from reading images to the final weights, is the result.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnet_backbone.classification.data.splits import SYNTHETIC, Data, spread
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.engine.atomic import write_atomically

TRAIN_IMAGES, TEST_IMAGES = 32, 16
CLASSES = ("one", "two", "three", "four", "five", "six")

SHRUNK: dict[str, Any] = {
    "epochs": None,
    "iterations": 6,  # enough for warm-up, a step of the rate and what follows it
    "rate_per_256": 0.01,  # no rate for a large batch
    "test_every": 3,
    "save_every": 6,
    "compile": False,  # compiling alone takes the minute
    "workers": 0,  # workers take longer to start than the images to read
    "device": "",
}
"""What --smoke changes in every recipe, unless the command line sets it; `shrunk` adds what depends on the recipe."""


def shrunk(config: TrainConfig, processes: int = 1) -> TrainConfig:
    """The recipe at smoke size."""
    values = dict(SHRUNK)
    # As few images as a step can have: batch norm wants more than one.
    values["batch_size"] = 4 * processes * config.accumulate
    values["steps"] = (4.0,) * bool(config.steps)
    values["warmup"] = 2.0 * bool(config.warmup)
    values["exact_norm_images"] = min(config.exact_norm_images, 2 * values["batch_size"])
    values["holdout"] = min(config.holdout, len(CLASSES))
    if config.augmentation != "padded_crop":
        values |= {"size": 64, "test_size": 64, "test_resize": 72, "shorter_sides": (72, 96)}  # time goes with the area
        values |= {"start_size": config.start_size and 32, "batch_sides": (48, 64) if config.batch_sides else ()}
    return dataclasses.replace(config, **values)


def few(data: Data, batch_size: int) -> Data:
    """A few images of all splits, at least a batch to train on, spread evenly over them; all classes."""
    held = None if data.holdout is None else spread(data.holdout, TEST_IMAGES)
    return dataclasses.replace(
        data, train=spread(data.train, max(TRAIN_IMAGES, batch_size)), val=spread(data.val, TEST_IMAGES), holdout=held
    )


def smoke_data(config: TrainConfig, folder: Path) -> tuple[TrainConfig, str]:
    """The recipe with its data where they are there, else with generated ones in `folder`; and a line for the user."""
    if config.data == SYNTHETIC or (config.data and Path(config.data).exists()):
        return config, f"a few images of {config.data}"
    missing = f"{config.data or 'no --data'}: not here"
    if config.augmentation == "padded_crop":
        path = folder / "generated.npz"
        write_atomically(path, lambda file: np.savez(file, **_generated_arrays(config.size)))  # type: ignore[arg-type]
    else:
        path = folder / "generated"
        _generate_folders(path)
    # Generated images have other classes than the weights that a recipe starts from.
    config = dataclasses.replace(config, data=str(path), fresh_head=bool(config.weights))
    return config, f"{missing}; images are generated: {path}"


def _generated_arrays(side: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for split, count in (("train", 2 * TRAIN_IMAGES), ("test", TEST_IMAGES)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (count, side, side, 3), np.uint8)
        arrays[f"y_{split}"] = np.arange(count) % 10
    return arrays


def _generate_folders(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for number, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                pixels = rng.integers(0, 60, (80, 96, 3), np.uint8)
                pixels[:: number + 2] += 150
                Image.fromarray(pixels).save(folder / split / name / f"{index}.jpg")
