"""Fine-tunes a detector or segmenter with a backbone of the paper's family, evaluates it, and draws what it finds."""

import argparse
import sys
from datetime import timedelta
from pathlib import Path

EXAMPLES = """examples:
  python tools/train_net.py --config configs/faster_rcnn_R101_coco.yaml --num-gpus 8
  torchrun --nproc-per-node 8 tools/train_net.py --config configs/faster_rcnn_R101_coco.yaml   # docs/many_processes.md
  python tools/train_net.py --config configs/faster_rcnn_R101_coco.yaml SOLVER.IMS_PER_BATCH 4   # rate and steps follow
  python tools/train_net.py --config configs/faster_rcnn_R50_bccd.yaml DATA.ROOT my_photos DATA.FORMAT voc
  python tools/train_net.py --config configs/mask_rcnn_R50_balloon.yaml DATA.ROOT my_data DATA.TRAIN train.json \\
         DATA.TRAIN_IMAGES images
  python tools/train_net.py --config configs/faster_rcnn_R50_bccd.yaml --check
  python tools/train_net.py --config configs/faster_rcnn_R50_bccd.yaml --resume
  python tools/train_net.py --config configs/faster_rcnn_R50_bccd.yaml --eval-only MODEL.WEIGHTS model_final.pth

Data sets are found under $DETECTRON2_DATASETS (default: datasets/), as Detectron2 lays them out; your own data need
only the keys DATA.*. KEY VALUE pairs win over the config file.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--config", "--config-file", required=True, type=Path, metavar="FILE", help="a YAML config")
    made.add_argument("--output", type=Path, metavar="DIR", help="default: runs/<name of the config>")
    begun = made.add_mutually_exclusive_group()
    begun.add_argument("--resume", action="store_true", help="go on exactly where the run in the folder stopped")
    made.add_argument("--new-schedule", action="store_true", help="with --resume: another schedule from there on")
    begun.add_argument("--overwrite", action="store_true", help="begin anew though the folder holds a run")
    made.add_argument("--eval-only", action="store_true", help="only test: MODEL.WEIGHTS, else the folder's weights")
    made.add_argument(
        "--check", action="store_true", help="look at everything in a minute; 1 where it should not start"
    )
    made.add_argument("--smoke", action="store_true", help="the config shrunk to about a minute on a CPU")
    made.add_argument("--no-scaling", action="store_true", help="keep rate and iterations as written")
    made.add_argument("--num-gpus", type=int, default=1, metavar="N", help="GPUs of this machine (default: 1)")
    made.add_argument("--num-machines", type=int, default=1, metavar="N")
    made.add_argument("--machine-rank", type=int, default=0, metavar="I", help="0 .. N-1, another on each machine")
    made.add_argument("--dist-url", default="auto", metavar="URL", help="tcp://HOST:PORT of machine 0; auto on one")
    made.add_argument("--dist-timeout", type=float, default=30, metavar="MIN", help="one exchange's (default: 30)")
    made.add_argument("options", nargs="*", metavar="KEY VALUE", help="config keys with other values")
    return made


def main() -> int:
    """Returns 0, 1 after one sentence on what is wrong, or 130 when stopped by Ctrl-C or SIGTERM."""
    arguments = parser().parse_intermixed_args()
    from resnet_backbone.detection.training.launch import start
    from resnet_backbone.detection.training.settle import RunOptions

    options = RunOptions(
        config=arguments.config, overrides=tuple(arguments.options), output=arguments.output, resume=arguments.resume,
        overwrite=arguments.overwrite, eval_only=arguments.eval_only, keep_schedule=arguments.no_scaling,
        gpus=arguments.num_gpus, machines=arguments.num_machines, new_schedule=arguments.new_schedule,
        smoke=arguments.smoke, check=arguments.check,
    )  # fmt: skip
    timeout = timedelta(minutes=arguments.dist_timeout)
    return start(options, arguments.machine_rank, arguments.dist_url, timeout)


if __name__ == "__main__":
    sys.exit(main())
