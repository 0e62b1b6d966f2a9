"""Tests classifiers as the paper does: one crop, ten crops, several scales; alone or averaged as an ensemble."""

import argparse
import sys
from pathlib import Path

EXAMPLES = """examples:
  python tools/eval_imagenet.py --weights torchvision://ResNet50_Weights.IMAGENET1K_V1 --data imagenet
  python tools/eval_imagenet.py --weights runs/R50/model.safetensors --data imagenet --protocols 10-crop multi-scale
  python tools/eval_imagenet.py --weights a.safetensors b.safetensors --data imagenet --output runs/ensemble
  python tools/eval_imagenet.py --weights runs/cifar/resnet20/model.safetensors --data cifar-10-binary.tar.gz

DATA is what a run of pretraining validates on: class folders or tar shards (by path or address), themselves or in val/,
or the test images of CIFAR-10 or -100, official files or torchvision://CIFAR10; or a folder with a labels.txt, lines of
file name and class index. What the network is and how its input is normalised is in the weights' record. Several
--weights are tested each, and their probabilities averaged. With --output there are tables of errors by class, of
confusions, and of every answer.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--weights", required=True, nargs="+", metavar="W", help="a file, torchvision://, timm://, ...")
    made.add_argument("--data", required=True, metavar="DATA", help="class folders, shards, CIFAR or labels.txt")
    made.add_argument(
        "--protocols", nargs="+", default=["1-crop"], metavar="P", help="1-crop, 10-crop, multi-scale (default: 1-crop)"
    )
    made.add_argument("--scales", nargs="+", type=int, metavar="S", help="shorter sides of multi-scale")
    made.add_argument("--limit", type=int, metavar="N", help="only N images, spread over all")
    made.add_argument("--batch", type=int, default=32, metavar="N", help="views at a time (default: 32)")
    made.add_argument("--workers", type=int, default=4, metavar="N", help="processes that read images (default: 4)")
    made.add_argument("--device", default="", help="cpu, cuda, cuda:1 ... (default: a GPU if there is one)")
    made.add_argument("--output", type=Path, metavar="DIR", help="write tables there")
    return made


def main() -> int:
    """Returns 0, or 1 after one sentence on what is wrong."""
    arguments = parser().parse_args()
    from resnet_backbone.classification.testing.compare import EvalOptions, compare
    from resnet_backbone.engine.guard import guarded

    options = EvalOptions(
        weights=tuple(arguments.weights), data=arguments.data, protocols=tuple(arguments.protocols),
        scales=tuple(arguments.scales or ()), limit=arguments.limit, batch=arguments.batch, workers=arguments.workers,
        device=arguments.device, output=arguments.output,
    )  # fmt: skip
    return guarded(lambda: compare(options), memory_remedy="a smaller --batch")


if __name__ == "__main__":
    sys.exit(main())
