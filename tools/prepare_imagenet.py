"""Makes class folders or tar shards of ILSVRC2012's original tar files, images as they are or smaller."""

import argparse
import sys
from pathlib import Path

EXAMPLES = """examples:
  python tools/prepare_imagenet.py --train ILSVRC2012_img_train.tar --val ILSVRC2012_img_val.tar \\
      --truth ILSVRC2012_devkit_t12.tar.gz --output imagenet
  python tools/prepare_imagenet.py --train ILSVRC2012_img_train.tar --output imagenet320 --short-side 320 --workers 16
  python tools/prepare_imagenet.py --train ILSVRC2012_img_train.tar --val ILSVRC2012_img_val.tar \\
      --truth ILSVRC2012_devkit_t12.tar.gz --output shards --shards
  python tools/prepare_imagenet.py --from-folders my_photographs --output shards --shards --shard-size 100

Written are OUTPUT/train/<synset>/*.JPEG and OUTPUT/val/<synset>/*.JPEG. The archives stay; OUTPUT needs as much room
again (about 145 GB), with --short-side 320 less. --short-side makes other pixels than the original's: for speed, not
for comparisons with the paper. Started again, it goes on where it stopped.
--shards writes OUTPUT/train/000000.tar ... and OUTPUT/val/000000.tar ... instead, as WebDataset reads them, each folder
with an index.json: for network disks and web servers, docs/data.md. Training images are shuffled once, always alike, so
that every shard mixes classes: the archive is read at random places and should not lie on a slow disk.
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
    made.add_argument("--from-folders", type=Path, metavar="DIR", help="class folders train/ and val/, for --shards")
    made.add_argument("--output", type=Path, required=True, metavar="DIR")
    made.add_argument("--short-side", type=int, metavar="N", help="write smaller images, JPEG of quality 90")
    made.add_argument("--workers", type=int, default=0, metavar="N", help="processes that make them (default: none)")
    made.add_argument("--shards", action="store_true", help="write tar shards instead of class folders")
    made.add_argument("--shard-size", type=float, metavar="MB", help="of a shard, with --shards (default: 256)")
    made.add_argument("--any-counts", action="store_true", help="other data in the same archives")
    return made


def main() -> int:
    """Returns 0, or 1 after one sentence on what is wrong."""
    made = parser()
    arguments = made.parse_args()
    if arguments.shard_size is not None and not arguments.shards:
        made.error("--shard-size is of --shards")
    from resnet_backbone.classification.prepare.prepare import SHARD_SIZE, PrepareOptions, prepare
    from resnet_backbone.engine.guard import guarded

    size = SHARD_SIZE if arguments.shard_size is None else arguments.shard_size
    options = PrepareOptions(
        output=arguments.output, train=arguments.train, val=arguments.val, truth=arguments.truth,
        folders=arguments.from_folders, short_side=arguments.short_side, workers=arguments.workers,
        any_counts=arguments.any_counts, shard_size=size if arguments.shards else None,
    )  # fmt: skip
    return guarded(lambda: prepare(options), memory_remedy="fewer --workers")


if __name__ == "__main__":
    sys.exit(main())
