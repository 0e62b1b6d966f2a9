"""The whole path on generated data: pictures, a pretrained classifier, a fine-tuned Mask R-CNN, its numbers."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tabulate import tabulate

from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.training.train import pretrain
from resnet_backbone.demo.shapes import write_shapes
from resnet_backbone.detection.training.run import run
from resnet_backbone.detection.training.settle import RunOptions
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.interrupt import Stopped
from resnet_backbone.engine.progress import duration
from resnet_backbone.engine.yaml_config import read_config

PRETRAIN, DETECT = "imagenet/R18_shapes.yaml", "mask_rcnn_R18_shapes.yaml"


@dataclass(frozen=True)
class DemoResult:
    """AP in percent on the held-out pictures, and seconds of each step."""

    seed: int
    box_AP: float
    box_AP50: float
    mask_AP: float
    mask_AP50: float
    seconds_data: float
    seconds_pretrain: float
    seconds_finetune: float
    seconds_total: float


def run_demo(configs: Path, output: Path, seed: int = 0) -> DemoResult:
    """Runs all steps with the code, the configs and the keys that a COCO run uses.

    Args:
        configs: the repository's folder of configs.
        output: gets `shapes` (the data, made once) and a folder for the seed, begun anew.
        seed: of pretraining and fine-tuning; the data are always the same.

    Raises:
        ValueError: `output` holds something else.
        OSError: nothing can be written.
    """
    began = time.monotonic()
    shapes, folder = output / "shapes", output / f"seed{seed}"
    print(f"1/3 data: {shapes}", flush=True)
    made = write_shapes(shapes)
    print(f"    {'generated' if made else 'there already'}: COCO JSON, VOC layout and class folders of crops")
    data_done = time.monotonic()
    where = folder / "pretrain", folder / "mask_rcnn"
    words = f"--data {shapes / 'crops'} --output {where[0]} --seed {seed}"
    _announce(2, f"tools/pretrain_imagenet.py --config {configs / PRETRAIN} {words}")
    recipe = read_config(TrainConfig, configs / PRETRAIN, ["seed", str(seed)])
    with _resumed_by_its_command():
        weights = pretrain(recipe, shapes / "crops", where[0], overwrite=True).weights
    pretrained = time.monotonic()
    keys = ["DATA.ROOT", str(shapes), "MODEL.WEIGHTS", str(weights), "SEED", str(seed)]
    _announce(3, f"tools/train_net.py --config {configs / DETECT} --output {where[1]} {' '.join(keys)}")
    options = RunOptions(configs / DETECT, keys, where[1], overwrite=True)
    with _resumed_by_its_command():
        numbers = next(iter(run(options).values()))
    ended = time.monotonic()
    box, mask = numbers["bbox"], numbers["segm"]
    result = DemoResult(
        seed, box["AP"], box["AP50"], mask["AP"], mask["AP50"],
        *(round(s, 1) for s in (data_done - began, pretrained - data_done, ended - pretrained, ended - began)),
    )  # fmt: skip
    text = json.dumps(asdict(result), indent=1)
    write_atomically(folder / "demo.json", lambda file: file.write(text.encode()))
    print(table(numbers), flush=True)
    print(
        f"box AP50 {result.box_AP50:.1f}, mask AP50 {result.mask_AP50:.1f} on pictures that it never saw, after "
        f"{duration(result.seconds_total)}; look at {folder / 'mask_rcnn' / 'pictures'}"
    )
    return result


@contextlib.contextmanager
def _resumed_by_its_command() -> Iterator[None]:
    """The demonstration itself has no --resume."""
    try:
        yield
    except Stopped as stopped:
        raise Stopped(f"{stopped} and the command above, or begin the demonstration again") from None


def table(numbers: Mapping[str, Mapping[str, float]]) -> str:
    """AP of boxes and masks, of all classes together and of each."""
    names = ["AP", "AP50", "AP75", *(name for name in numbers["bbox"] if name.startswith("AP-"))]
    rows = [[name.removeprefix("AP-"), *(_shown(numbers[task][name]) for task in ("bbox", "segm"))] for name in names]
    return tabulate(rows, headers=["", "box AP", "mask AP"], colalign=("left", "right", "right"))


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"


def _announce(number: int, command: str) -> None:
    print(f"{number}/3 python {command}", flush=True)
