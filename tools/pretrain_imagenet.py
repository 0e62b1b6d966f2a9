"""Trains a classifier of the paper's family on class folders, and leaves weights that a detector loads as they are."""

import argparse
import sys
from pathlib import Path

from resnet_backbone.classification.config import TrainConfig
from resnet_backbone.classification.train import pretrain
from resnet_backbone.engine.guard import guarded
from resnet_backbone.engine.yaml_config import read_config

EXAMPLES = """examples:
  python tools/pretrain_imagenet.py --config configs/imagenet/R50.yaml --data imagenet --output runs/R50
  python tools/pretrain_imagenet.py --config configs/imagenet/R50.yaml --data imagenet --output runs/R50 --resume
  python tools/pretrain_imagenet.py --config configs/imagenet/R18.yaml --data imagenette epochs 20 batch_size 64

DATA has the folders train/<class>/*.jpg and val/<class>/*.jpg. KEY VALUE pairs win over the config file;
every key is explained in resnet_backbone/classification/config.py.
Then train a detector from the weights: python tools/train_net.py --config ... MODEL.WEIGHTS runs/R50/model.safetensors
"""


def main() -> int:
    """Returns 0, or 1 after one sentence on what is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", "--config-file", required=True, type=Path, metavar="FILE", help="a recipe")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="class folders")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: runs/imagenet/<name of the config>")
    parser.add_argument("--resume", action="store_true", help="go on after the last whole epoch")
    parser.add_argument("--seed", type=int, help="instead of the config's")
    parser.add_argument("options", nargs="*", metavar="KEY VALUE", help="keys of the config with other values")
    arguments = parser.parse_args()
    options = arguments.options + ([] if arguments.seed is None else ["seed", str(arguments.seed)])
    output = arguments.output or Path("runs/imagenet") / arguments.config.stem
    return guarded(
        lambda: _pretrain(arguments.config, options, arguments.data, output, arguments.resume),
        memory_remedy="a smaller batch_size (the rate follows)",
    )


def _pretrain(config: Path, options: list[str], data: Path, output: Path, resume: bool) -> int:
    outcome = pretrain(read_config(TrainConfig, config, options), data, output, resume=resume)
    print(f"next: python tools/train_net.py --config configs/... MODEL.WEIGHTS {outcome.weights}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
