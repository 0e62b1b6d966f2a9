"""Small data to classify, a small recipe, and how tests of pretraining start the tool and others beside it."""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import yaml
from made_processes import codes_of
from made_tools import exit_code
from PIL import Image

from resnet_backbone.classification.launch import RunOptions
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.engine.jsonlog import read_json_lines

TOOL = Path(__file__).parents[1] / "tools" / "pretrain_imagenet.py"
SMALL = TrainConfig(
    network="resnet18", stem_out_channels=8, res2_out_channels=8, epochs=3.0, batch_size=8, rate_per_256=1.0,
    scale=(0.5, 1.0), size=32, test_size=32, test_resize=36, exact_norm_images=32, workers=0, device="cpu",
)  # fmt: skip


def write_stripes(root: Path, train: int = 16, val: int = 6) -> Path:
    """Class folders of two classes that any network can tell apart: stripes across and stripes down."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for name in ("across", "down"):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 60, (40, 48, 3), dtype=np.uint8)
                pixels[(slice(rng.integers(4), None, 8),) if name == "across" else np.s_[:, rng.integers(4) :: 8]] = 230
                Image.fromarray(pixels).save(root / split / name / f"{index}.png")
    return root


def write_cifar(path: Path) -> Path:
    """40 images of CIFAR's size to train on and 10 to test on, of two classes: dark above, and dark below."""
    rng, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 40), ("test", 10)):
        labels = np.arange(count) % 2
        pixels = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        pixels[labels == 0, :16] //= 4
        pixels[labels == 1, 16:] //= 4
        arrays |= {f"x_{split}": pixels, f"y_{split}": labels}
    np.savez(path, **arrays)
    return path


def options(folder: Path, config: TrainConfig, data: Path, **more: object) -> RunOptions:
    """`config` on `data`, to be run in `folder`."""
    recipe = folder.with_suffix(".yaml")
    recipe.write_text(yaml.safe_dump(json.loads(json.dumps({**asdict(config), "data": str(data)}))))
    return RunOptions(recipe, (), folder, **more)


def tool(chosen: RunOptions, *words: str) -> int:
    """tools/pretrain_imagenet.py in this process, to its exit code."""
    flags = ["--resume"] * chosen.resume + ["--overwrite"] * chosen.overwrite
    where = "--config", str(chosen.config), "--output", str(chosen.folder)
    return exit_code(TOOL, *where, *flags, *chosen.overrides, *words)


def forked(*actions: Callable[[], int]) -> list[int | None]:
    """Exit codes of processes that each do one of the actions, at the same time."""

    def end(action: Callable[[], int]) -> None:
        sys.exit(action())

    return codes_of([multiprocessing.get_context("fork").Process(target=end, args=(action,)) for action in actions])


TIMES = ("seconds_per_iteration", "data_share", "images_per_second", "data_seconds", "compute_seconds")


def metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl, without times."""
    return [
        {name: value for name, value in line.items() if name not in TIMES}
        for line in read_json_lines(folder / "metrics.jsonl")
    ]
