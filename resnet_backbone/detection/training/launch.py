"""Starts a run in one process or in many; what is wrong ends in one sentence and an exit code."""

from __future__ import annotations

import sys

import torch
from detectron2.engine import launch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from resnet_backbone.detection.training.run import run
from resnet_backbone.detection.training.settle import RunOptions
from resnet_backbone.engine import guard


def start(options: RunOptions, machine_rank: int = 0, dist_url: str = "auto") -> int:
    """Runs by Detectron2's launcher; returns 0, 1 where something is wrong, 130 when stopped.

    Args:
        machine_rank: 0 .. machines - 1.
        dist_url: tcp://HOST:PORT of the first machine; "auto" finds a port where there is only one.
    """
    wrong = _refusal(options, machine_rank, dist_url)
    if wrong:
        print(f"error: {wrong}", file=sys.stderr)
        return 1
    if options.gpus * options.machines == 1:
        return guarded(options)
    try:
        launch(_child, options.gpus, options.machines, machine_rank, dist_url, (options,))
    except ProcessRaisedException as error:
        print(error, file=sys.stderr)
        return 1
    except ProcessExitedException as error:
        if error.exit_code < 0:
            print(f"error: a process was ended by signal {-error.exit_code}", file=sys.stderr)
        return error.exit_code if error.exit_code > 0 else 1
    except KeyboardInterrupt:
        return 130
    return 0


def _refusal(options: RunOptions, machine_rank: int, dist_url: str) -> str:
    """What is wrong with the number of processes, or nothing."""
    count = torch.cuda.device_count()
    if options.gpus < 1:
        return f"--num-gpus {options.gpus}: at least 1, which is also one process without a GPU"
    if options.machines < 1 or not 0 <= machine_rank < options.machines:
        return f"--machine-rank {machine_rank} of --num-machines {options.machines}: ranks go from 0 to machines - 1"
    if options.gpus * options.machines > 1 and options.gpus > count:
        return f"--num-gpus {options.gpus}: this machine has {count} CUDA GPUs; ask for as many as there are"
    if options.machines > 1 and dist_url == "auto":
        return "--num-machines needs --dist-url tcp://HOST:PORT of machine 0, the same on all machines"
    return ""


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
    run(options)
    return 0
