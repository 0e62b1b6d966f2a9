"""Makes class folders of ILSVRC2012's original tar files, as they are or smaller; goes on where it stopped."""

import argparse
import sys
from pathlib import Path

EXAMPLES = """examples:
  python tools/prepare_imagenet.py --train ILSVRC2012_img_train.tar --val ILSVRC2012_img_val.tar \\
      --truth ILSVRC2012_devkit_t12.tar.gz --output imagenet
  python tools/prepare_imagenet.py --train ILSVRC2012_img_train.tar --output imagenet320 --short-side 320 --workers 16

Written are OUTPUT/train/<synset>/*.JPEG and OUTPUT/val/<synset>/*.JPEG. The archives stay; OUTPUT needs as much room
again (about 145 GB), with --short-side 320 less. --short-side makes other pixels than the original's: for speed, not
for comparisons with the paper. Started again, it goes on where it stopped.
Exit code: 0; 1 where an archive is damaged, or the counts are not ILSVRC2012's (1,281,167 and 50,000 images, 1,000
classes), unless --any-counts.
Then: python tools/pretrain_imagenet.py --config configs/imagenet/R50.yaml --data OUTPUT
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--train", type=Path, metavar="TAR", help="ILSVRC2012_img_train.tar")
    made.add_argument("--val", type=Path, metavar="TAR", help="ILSVRC2012_img_val.tar")
    made.add_argument(
        "--truth", type=Path, metavar="FILE", help="of --val: the devkit's .tar.gz, LOC_val_solution.csv, or synsets"
    )
    made.add_argument("--output", type=Path, required=True, metavar="DIR")
    made.add_argument("--short-side", type=int, metavar="N", help="write smaller images, JPEG of quality 90")
    made.add_argument("--workers", type=int, default=0, metavar="N", help="processes that make them (default: none)")
    made.add_argument("--any-counts", action="store_true", help="other data in the same archives")
    return made


def main() -> int:
    """Returns 0, or 1 after one sentence on what is wrong."""
    arguments = parser().parse_args()
    from resnet_backbone.classification.ilsvrc import PrepareOptions, prepare
    from resnet_backbone.engine.guard import guarded

    options = PrepareOptions(
        output=arguments.output, train=arguments.train, val=arguments.val, truth=arguments.truth,
        short_side=arguments.short_side, workers=arguments.workers, any_counts=arguments.any_counts,
    )  # fmt: skip
    return guarded(lambda: prepare(options), memory_remedy="fewer --workers")


if __name__ == "__main__":
    sys.exit(main())
