"""Starts a run in one process or in many; what is wrong ends in one sentence and an exit code."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlparse

import torch
from detectron2.engine import launch
from detectron2.utils import comm
from torch import distributed
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from resnet_backbone.detection.preflight.check import check
from resnet_backbone.detection.training.config import read_config
from resnet_backbone.detection.training.run import run
from resnet_backbone.detection.training.settle import RunOptions
from resnet_backbone.engine import guard, processes
from resnet_backbone.engine.interrupt import on_sigterm, pass_on
from resnet_backbone.engine.lifeline import Lifeline
from resnet_backbone.engine.processes import Place

TIMEOUT = timedelta(minutes=30)
"""Of one exchange between the processes, as Detectron2's launcher has it: one process evaluates while others wait."""
REMEDY = "what was saved is kept, go on with --resume"


def start(options: RunOptions, machine_rank: int = 0, dist_url: str = "auto", timeout: timedelta = TIMEOUT) -> int:
    """Runs in this process, among those of torchrun or Slurm, or by Detectron2's launcher.

    Args:
        machine_rank: 0 .. machines - 1.
        dist_url: tcp://HOST:PORT of the first machine; "auto" finds a port where there is only one.
        timeout: of one exchange between the processes.

    Returns:
        0, 1 where something is wrong, 130 when stopped.
    """
    try:
        place = _place(options)
        wrong = _refusal(options, machine_rank, dist_url) if place is None else _contradiction(options, place)
    except ValueError as error:
        place, wrong = None, str(error)
    if timeout <= timedelta(0):
        wrong = f"--dist-timeout {timeout.total_seconds() / 60:g}: minutes, more than 0"
    if wrong:
        # The processes of one machine would all say it.
        return 1 if place is not None and place.local_rank else guard.say_and_leave(f"error: {wrong}", 1)
    if options.check:
        return _checked(options, place)
    if place is not None:
        return _joined(options, place, timeout)
    if options.gpus * options.machines == 1:
        return guarded(options)
    return _launched(options, machine_rank, dist_url, timeout)


def _checked(options: RunOptions, place: Place | None) -> int:
    """The first process looks for all that torchrun or Slurm started."""
    if place is not None:
        options = replace(options, gpus=place.local_world, machines=place.world // place.local_world)
    return 0 if place is not None and place.rank else _guarded(options, lambda: check(options), guard.say_and_leave)


def _place(options: RunOptions) -> Place | None:
    """What torchrun or Slurm says; machines counted by hand are Detectron2's launcher's, once on every machine."""
    place = processes.find_place(os.environ)
    by_hand = place is not None and place.starter == "Slurm" and options.machines > 1
    return None if by_hand else place


def _contradiction(options: RunOptions, place: Place) -> str:
    """How --num-gpus and --num-machines contradict torchrun or Slurm, or nothing."""
    if options.machines != 1:
        return f"--num-machines {options.machines}: {place.starter} counts the machines; leave it out"
    if options.gpus not in (1, place.local_world):
        return (
            f"--num-gpus {options.gpus}: {place.starter} started {place.local_world} processes here, one GPU each; "
            "leave it out"
        )
    return ""


def _refusal(options: RunOptions, machine_rank: int, dist_url: str) -> str:
    """What is wrong with the number of processes, or nothing."""
    count = torch.cuda.device_count()
    if options.gpus < 1:
        return f"--num-gpus {options.gpus}: at least 1, which is also one process without a GPU"
    if options.machines < 1 or not 0 <= machine_rank < options.machines:
        return f"--machine-rank {machine_rank} of --num-machines {options.machines}: ranks go from 0 to machines - 1"
    if options.gpus * options.machines > 1 and options.gpus > count:
        return (
            f"--num-gpus {options.gpus}: this machine has {count} CUDA GPUs; ask for as many as there are "
            "(several processes on the CPU: torchrun)"
        )
    if options.machines > 1 and dist_url == "auto":
        return "--num-machines needs --dist-url tcp://HOST:PORT of machine 0, the same on all machines"
    return ""


def _launched(options: RunOptions, machine_rank: int, dist_url: str, timeout: timedelta) -> int:
    """By Detectron2's launcher."""
    host = "localhost" if dist_url == "auto" else urlparse(dist_url).hostname or ""
    try:
        with on_sigterm(pass_on):
            given = (options, host, multiprocessing.get_start_method())
            launch(_child, options.gpus, options.machines, machine_rank, dist_url, given, timeout)
    except ProcessRaisedException as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except ProcessExitedException as error:
        if error.exit_code < 0:
            who = f"process {error.error_index} of {options.gpus} on this machine"
            print(f"error: {who} was ended by signal {-error.exit_code}; {REMEDY}", file=sys.stderr)
        return error.exit_code if error.exit_code > 0 else 1
    except KeyboardInterrupt as interrupt:  # of a Ctrl-C the processes speak
        return guard.say_and_leave(str(interrupt), 130) if str(interrupt) else 130
    return 0


def _child(options: RunOptions, host: str, start_method: str) -> None:
    # torch spawned this process, whose loaders' workers would be spawned too: without its memory and its mapper.
    multiprocessing.set_start_method(start_method, force=True)
    code = _bound(options, host)
    if code:
        sys.exit(code)


def _joined(options: RunOptions, place: Place, timeout: timedelta) -> int:
    """As one of the processes that torchrun or Slurm started."""

    on_gpu = False

    def prepare() -> int:
        nonlocal on_gpu
        device, count = str(read_config(options.config, options.overrides).cfg.MODEL.DEVICE), torch.cuda.device_count()
        on_gpu = device.startswith("cuda") and count > 0
        if on_gpu:
            torch.cuda.set_device(processes.gpu_of(place, count))
        return 0

    def join() -> int:
        # Detectron2's own launcher leaves it there; get_local_rank and get_local_size need it.
        comm._LOCAL_PROCESS_GROUP = processes.join(place, "nccl" if on_gpu else "gloo", timeout)
        return 0

    speaks = place.local_rank == 0  # for its machine, on what is wrong for all there
    code = _guarded(options, prepare, guard.say_and_leave if speaks else lambda line, code: code)
    code = code or _guarded(options, join, guard.say_and_leave)
    if code:
        return code
    code = _bound(options, place.host)
    if code == 0:
        distributed.destroy_process_group()
        comm._LOCAL_PROCESS_GROUP = None
    return code


def _bound(options: RunOptions, host: str) -> int:
    """One process's run among others, whose end is theirs."""
    lifeline: Lifeline | None = None

    def leave(line: str, code: int) -> int:
        return (lifeline.fail if lifeline else guard.say_and_leave)(line, code)

    def together() -> int:
        nonlocal lifeline
        lifeline = Lifeline(host, REMEDY)
        run(options)
        lifeline.done()
        return 0

    try:
        return _guarded(options, together, leave)
    except Exception as error:
        said = processes.first_line(error)
        if processes.is_lost_connection(error) and lifeline:
            return lifeline.lost(f"error: process {comm.get_rank()} lost its connection to another ({said}); {REMEDY}")
        traceback.print_exc()
        return leave(f"error: {type(error).__name__}: {said}", 1)


def guarded(options: RunOptions) -> int:
    """A run in one process alone, to its exit code."""
    return _guarded(options, lambda: _run(options), guard.say_and_leave)


def _run(options: RunOptions) -> int:
    run(options)
    return 0


def _guarded(options: RunOptions, action: Callable[[], int], leave: Callable[[str, int], int]) -> int:
    trains = not (options.check or options.eval_only)
    return guard.guarded(
        action,
        memory_remedy="a smaller SOLVER.IMS_PER_BATCH (the schedule follows) or INPUT.MIN_SIZE_TRAIN",
        leave=leave,
        workers="DATALOADER.NUM_WORKERS",
        interrupted=f"interrupted; {REMEDY}" if trains else "interrupted",
    )
