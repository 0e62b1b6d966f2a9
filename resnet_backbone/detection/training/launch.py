"""Starts a run of the detector's trainer in one process or in many."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import torch
from detectron2.utils import comm

from resnet_backbone.detection.preflight.check import check
from resnet_backbone.detection.training.config import read_config
from resnet_backbone.detection.training.run import run
from resnet_backbone.detection.training.settle import RunOptions
from resnet_backbone.engine import group, launch
from resnet_backbone.engine.asked import TIMEOUT, Asked
from resnet_backbone.engine.launch import Job

REMEDY = "what was saved is kept, go on with --resume"


def start(options: RunOptions, machine_rank: int = 0, dist_url: str = "auto", timeout: timedelta = TIMEOUT) -> int:
    """Runs in this process, among those of torchrun or Slurm, or in `options.gpus` processes of its own.

    Args:
        machine_rank: 0 .. machines - 1.
        dist_url: tcp://HOST:PORT of the first machine; "auto" finds a port where there is only one.
        timeout: of one exchange between the processes.

    Returns:
        0, 1 where something is wrong, 130 when stopped.
    """
    asked = Asked(options.gpus, options.machines, machine_rank, dist_url, timeout)
    return launch.start(job(options), asked, partial(_check, options) if options.check else None)


def guarded(options: RunOptions) -> int:
    """A run in one process alone, to its exit code."""
    return launch.alone(job(options))


def job(options: RunOptions) -> Job:
    """What every process does."""
    trains = not (options.check or options.eval_only)
    return Job(
        action=partial(_run, options),
        uses_gpu=partial(_uses_gpu, options),
        remedy=REMEDY,
        memory_remedy="a smaller SOLVER.IMS_PER_BATCH (the schedule follows) or INPUT.MIN_SIZE_TRAIN",
        interrupted=f"interrupted; {REMEDY}" if trains else "interrupted",
        workers_key="DATALOADER.NUM_WORKERS",
        device_key="MODEL.DEVICE",
    )


def _run(options: RunOptions) -> None:
    # Detectron2's own launcher leaves it there; get_local_rank and get_local_size need it.
    comm._LOCAL_PROCESS_GROUP = group.local()
    run(options)


def _uses_gpu(options: RunOptions) -> bool:
    device = str(read_config(options.config, options.overrides).cfg.MODEL.DEVICE)
    return device.startswith("cuda") and torch.cuda.device_count() > 0


def _check(options: RunOptions, gpus: int, machines: int) -> int:
    return check(replace(options, gpus=gpus, machines=machines))
