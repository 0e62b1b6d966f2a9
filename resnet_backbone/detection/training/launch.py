"""Starts a run in one process or in many; what is wrong ends in one sentence and an exit code."""

from __future__ import annotations

import logging
import sys

from detectron2.engine import launch
from detectron2.utils import comm
from torch.multiprocessing.spawn import ProcessException

from resnet_backbone.detection.training.loop import Stopped
from resnet_backbone.detection.training.run import RunOptions, run


def start(options: RunOptions, machine_rank: int = 0, dist_url: str = "auto") -> int:
    """Runs by Detectron2's launcher; returns 0, 1 where something is wrong, 130 when stopped.

    Args:
        machine_rank: 0 .. machines - 1.
        dist_url: tcp://HOST:PORT of the first machine; "auto" finds a port where there is only one.
    """
    if options.gpus * options.machines == 1:
        return guarded(options)
    try:
        launch(_child, options.gpus, options.machines, machine_rank, dist_url, (options,))
    except ProcessException:
        return 1  # the child has said why
    return 0


def _child(options: RunOptions) -> None:
    code = guarded(options)
    if code:
        sys.exit(code)


def guarded(options: RunOptions) -> int:
    """One process's run; errors that a user can mend become one sentence."""
    try:
        run(options)
    except Stopped as stopped:
        print(f"{stopped}; go on with --resume", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        logging.getLogger("detectron2.training").info("error: %s", error)  # into the file
        if comm.is_main_process():
            print(f"error: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        print(f"error: {str(error).splitlines()[0]} Remedy: a smaller SOLVER.IMS_PER_BATCH (the schedule follows) or "
              "INPUT.MIN_SIZE_TRAIN", file=sys.stderr)  # fmt: skip
        return 1
    return 0
