"""A worker's time for a training view of two recipes: with all augmentation, and with what a GPU's worker keeps of it.

resnet-backbone build-decoder && python -m benchmarks.augmentation_speed
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision.transforms.v2 as T
from torchvision.datasets.folder import pil_loader

from benchmarks.image_loading import FOLDERS, IMAGES, ROUNDS, begin, decoders, some_of, speed
from benchmarks.machine import ROOT
from benchmarks.record import make_entry
from benchmarks.record import record as put
from resnet_backbone.classification.data.views import Views
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.engine.yaml_config import read_config

RECIPES = {"he2015": "R50.yaml", "modern": "R50_modern.yaml"}
Load = Callable[[Path, int], Any]


def main() -> int:
    """Measures both recipes on every folder and records it; returns 1 where the decoder is not built."""
    if not begin(__doc__ or ""):
        return 1
    runs = [
        run
        for (recipe, file), (data, folder) in itertools.product(RECIPES.items(), FOLDERS.items())
        for run in measure(recipe, ROOT / "configs/imagenet" / file, data, some_of(folder))
    ]
    for run in runs:
        print(run["recipe"], run["data"], run["way"], f"{run['ms']:.2f} ms, {run['ratio']:.2f}", sep=", ")
    put(make_entry(
        "augmentation-speed", "What a data loader's worker has to do for a training view, by where it is augmented.",
        "python -m benchmarks.augmentation_speed", runs,
        settings={"images": IMAGES, "rounds": ROUNDS, "recipes": RECIPES, **decoders()},
        note="CPU time of one thread from the file's bytes to a uint8 view at the recipe's last size, in turns image "
        "by image; milliseconds are medians over the rounds of the mean over all images, ratios medians of the rounds' "
        "ratios with their quartiles. By torchvision: ImageFolder's PIL loader, RandomResizedCrop, flip, RandAugment "
        "and RandomErasing of transforms.v2 with the recipe's values. What the device takes for the rest: not run.",
    ))  # fmt: skip
    return 0


def torchvisions(config: TrainConfig) -> Load:
    """The modern recipe by torchvision's transforms."""
    fill = [round(value) for value in config.mean]
    transforms = T.Compose([
        T.RandomResizedCrop(config.size, config.scale, (1 / config.ratio, config.ratio)), T.RandomHorizontalFlip(),
        T.RandAugment(2, 9, interpolation=T.InterpolationMode.BILINEAR, fill=fill), T.PILToTensor(),
        T.RandomErasing(config.erasing, value=fill),
    ])  # fmt: skip

    def load(file: Path, place: int) -> Any:
        torch.manual_seed(place)
        return transforms(pil_loader(str(file)))

    return load


def ours(config: TrainConfig, cut: bool) -> Load:
    """A worker's part."""
    views = Views(config, 1, cut)
    return lambda file, place: views.training(file.read_bytes(), place, 1, str(file))


def measure(recipe: str, path: Path, data: str, files: list[Path]) -> list[dict[str, Any]]:
    """A run for each way: milliseconds an image of every round."""
    config = read_config(TrainConfig, path)
    ways = {"ours, by the worker": ours(config, False), "ours, left to the device": ours(config, True)}
    if config.policy == "randaugment":
        ways = {"torchvision": torchvisions(config), **ways}
    reference = next(iter(ways))
    seconds = np.zeros((ROUNDS + 1, len(ways)))
    loads = list(ways.values())
    for number, (index, file) in itertools.product(range(ROUNDS + 1), enumerate(files)):
        for turn in range(len(loads)):
            which = (turn + index + number) % len(loads)
            began = time.process_time()
            loads[which](file, number * len(files) + index)
            seconds[number, which] += time.process_time() - began
    ms = dict(zip(ways, (1000 * seconds[1:] / len(files)).T))  # the first round warms up
    size = round(statistics.fmean(file.stat().st_size for file in files))
    about = {"recipe": recipe, "data": data, "file_bytes": size}
    return [{**about, "way": way, **speed(ms[way], ms[reference])} for way in ways]


if __name__ == "__main__":
    sys.exit(main())
