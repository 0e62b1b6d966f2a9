"""Trains a classifier of the paper's family, on ImageNet, CIFAR or class folders of yours, and leaves weights that a
detector loads as they are."""

import argparse
import json
import sys
from datetime import timedelta
from pathlib import Path

EXAMPLES = """examples:
  python tools/pretrain_imagenet.py --config configs/imagenet/R50.yaml --data imagenet --num-gpus 8
  torchrun --nproc-per-node 8 --max-restarts 3 tools/pretrain_imagenet.py --config configs/imagenet/R101.yaml \\
      --data imagenet --resume   # a process that dies is started again, docs/pretraining.md
  python tools/pretrain_imagenet.py --config configs/imagenet/R50.yaml --data imagenet --num-gpus 8 --check
  python tools/pretrain_imagenet.py --config configs/imagenet/R50.yaml --data imagenet --resume
  python tools/pretrain_imagenet.py --config configs/cifar/resnet20.yaml --data torchvision://CIFAR10 --seed 1
  python tools/pretrain_imagenet.py --config configs/imagenet/R18_photos.yaml --data my_photos   # some hundreds
  python tools/pretrain_imagenet.py --config configs/imagenet/R50.yaml --data synthetic   # its speed

DATA are class folders (train/<class>/*.jpg and val/<class>/*.jpg), tar shards (docs/data.md), CIFAR-10 or -100 in its
official files (torchvision://CIFAR10 and torchvision://CIFAR100 download them into ~/.cache/resnet_backbone), or
synthetic: 120 iterations on noise that costs nothing, to learn how fast the network trains; leaves no weights.
KEY VALUE pairs win over the config file; every key is explained in resnet_backbone/classification/recipe/config.py, the
rest in docs/pretraining.md. Then a detector from the weights:
  python tools/train_net.py --config configs/faster_rcnn_R50_coco.yaml MODEL.WEIGHTS runs/imagenet/R50/model.safetensors
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--config", "--config-file", required=True, type=Path, metavar="FILE", help="a recipe")
    made.add_argument("--data", metavar="PATH", help="class folders, shards, CIFAR or synthetic; default: the config's")
    made.add_argument("--output", type=Path, metavar="DIR", help="default: runs/<folder of the config>/<its name>")
    begun = made.add_mutually_exclusive_group()
    begun.add_argument("--resume", action="store_true", help="go on exactly where the run in the folder stopped")
    begun.add_argument("--overwrite", action="store_true", help="begin anew though the folder holds a run")
    made.add_argument(
        "--check", action="store_true", help="look at everything in a minute; 1 where it should not start"
    )
    made.add_argument("--smoke", action="store_true", help="the recipe shrunk to about a minute on a CPU")
    made.add_argument("--seed", type=int, help="instead of the config's")
    made.add_argument("--holdout", type=int, metavar="N", help="choose by N training images that are left out")
    made.add_argument("--num-gpus", type=int, default=1, metavar="N", help="GPUs of this machine (default: 1)")
    made.add_argument("--num-machines", type=int, default=1, metavar="N")
    made.add_argument("--machine-rank", type=int, default=0, metavar="I", help="0 .. N-1, another on each machine")
    made.add_argument("--dist-url", default="auto", metavar="URL", help="tcp://HOST:PORT of machine 0; auto on one")
    made.add_argument("--dist-timeout", type=float, default=30, metavar="MIN", help="one exchange's (default: 30)")
    made.add_argument("options", nargs="*", metavar="KEY VALUE", help="keys of the config with other values")
    return made


def main() -> int:
    """Returns 0, 1 after one sentence on what is wrong, or 130 when stopped by Ctrl-C or SIGTERM."""
    arguments = parser().parse_intermixed_args()
    from resnet_backbone.classification.launch import RunOptions, start
    from resnet_backbone.engine.asked import Asked

    flags = {key: getattr(arguments, key) for key in ("data", "seed", "holdout")}
    overrides = [word for key, value in flags.items() if value is not None for word in (key, json.dumps(value))]
    options = RunOptions(
        config=arguments.config, overrides=(*overrides, *arguments.options), output=arguments.output,
        resume=arguments.resume, overwrite=arguments.overwrite, smoke=arguments.smoke,
        check=arguments.check,
    )  # fmt: skip
    asked = Asked(
        arguments.num_gpus, arguments.num_machines, arguments.machine_rank, arguments.dist_url,
        timedelta(minutes=arguments.dist_timeout),
    )  # fmt: skip
    return start(options, asked)


if __name__ == "__main__":
    sys.exit(main())
