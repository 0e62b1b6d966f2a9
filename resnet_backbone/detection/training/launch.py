"""Starts a run in one process or in many; what is wrong ends in one sentence and an exit code."""

from __future__ import annotations

import sys

from detectron2.engine import launch
from torch.multiprocessing.spawn import ProcessException

from resnet_backbone.detection.training.loop import Stopped
from resnet_backbone.detection.training.run import RunOptions, run
from resnet_backbone.engine import guard


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
    """One process's run, to its exit code."""
    return guard.guarded(
        lambda: _run(options),
        memory_remedy="a smaller SOLVER.IMS_PER_BATCH (the schedule follows) or INPUT.MIN_SIZE_TRAIN",
    )


def _run(options: RunOptions) -> int:
    try:
        run(options)
    except Stopped as stopped:
        print(f"{stopped}; go on with --resume", file=sys.stderr)
        return 130
    return 0
