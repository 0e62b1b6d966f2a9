"""What a user runs after pretraining."""

from __future__ import annotations

import shlex
from pathlib import Path

from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.models.variants import find_variant

DETECTORS = {
    "resnet18": "faster_rcnn_R18_coco",
    "resnet34": "faster_rcnn_R34_coco",
    "resnet50": "faster_rcnn_R50_coco",
    "resnet101": "faster_rcnn_R101_coco",
    "resnet152": "faster_rcnn_R152_coco",
    "vgg16": "faster_rcnn_VGG16_coco",
}
"""Networks with batch norm at their own widths, and a config of `configs/` whose MODEL.WEIGHTS takes them."""


def next_step(config: TrainConfig, weights: Path) -> str:
    """A command: a detector of the weights; for CIFAR's networks, which no detector takes, the paper's figures.

    Who started from weights had a backbone already, and wants the classifier tested.
    """
    if find_variant(config.network).family == "cifar":
        words = ["tools/figures.py", str(weights.parent), "--output", str(weights.parent / "figures")]
    elif config.network in DETECTORS and not config.weights and _is_usual(config):
        detector = f"configs/{DETECTORS[config.network]}.yaml"
        words = ["tools/train_net.py", "--config", detector, "MODEL.WEIGHTS", str(weights)]
    else:
        tested = "--weights", str(weights), "--data", config.data
        words = ["tools/eval_imagenet.py", *tested, "--protocols", "10-crop"]
    return shlex.join(["python", *words])


def _is_usual(config: TrainConfig) -> bool:
    return config.norm != "GN" and config.stem_out_channels is None and config.res2_out_channels is None
