"""Starts a job in one process or in many; what is wrong ends in one sentence and an exit code, the same for all."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from resnet_backbone.engine import group, guard, processes
from resnet_backbone.engine.asked import Asked
from resnet_backbone.engine.interrupt import on_sigterm, pass_on
from resnet_backbone.engine.lifeline import Lifeline
from resnet_backbone.engine.processes import Place

Leave = Callable[[str, int], int]
"""Gets the sentence and the exit code, and gives the code back."""


@dataclass(frozen=True)
class Job:
    """What every process does, and what is said when it does not come to its end.

    Functions are to be picklable (`functools.partial` of a module's), for --num-gpus spawns the processes.

    Attributes:
        action: the whole run.
        uses_gpu: whether the settings ask for GPUs and this machine has any; of many processes each gets its own.
        remedy: what to do after a process has died.
        memory_remedy: what to do when memory is full.
        interrupted: the sentence for Ctrl-C and SIGTERM, where the interrupt brings none.
        workers_key: what the number of a data loader's workers is called.
        device_key: what the setting of the device is called.
    """

    action: Callable[[], object]
    uses_gpu: Callable[[], bool]
    remedy: str
    memory_remedy: str
    interrupted: str = "interrupted"
    workers_key: str = "workers"
    device_key: str = "device"


def start(job: Job, asked: Asked, look: Callable[[int, int], int] | None = None) -> int:
    """Runs in this process, among those of torchrun or Slurm, or in processes of its own, one for each GPU.

    Args:
        look: instead of the job, and in the first process alone: gets how many processes of a machine and how many
            machines there would be, gives an exit code.

    Returns:
        0, 1 where something is wrong, 130 when stopped.
    """
    place = None
    try:
        place = asked.found()
        asked.refuse(place)
    except ValueError as error:
        # The processes of one machine would all say it.
        return 1 if place is not None and place.local_rank else guard.say_and_leave(f"error: {error}", 1)
    if look is not None:
        return _looked(job, asked, place, look)
    if place is not None:
        return joined(job, place, asked.timeout)
    return alone(job) if asked.gpus * asked.machines == 1 else _spawned(job, asked)


def alone(job: Job) -> int:
    """In one process alone, to its exit code."""
    return _guarded(job, _whole(job.action))


def joined(job: Job, place: Place, timeout: timedelta) -> int:
    """As one of many processes, which meet the others first."""
    on_gpu = False

    def prepare() -> None:
        nonlocal on_gpu
        on_gpu = job.uses_gpu()
        if on_gpu:
            torch.cuda.set_device(processes.gpu_of(place, torch.cuda.device_count(), job.device_key))

    def join() -> None:
        processes.join(place, "nccl" if on_gpu else "gloo", timeout)

    speaks = place.local_rank == 0  # for its machine, on what is wrong for all there
    code = _guarded(job, _whole(prepare), guard.say_and_leave if speaks else lambda line, code: code)
    code = code or _guarded(job, _whole(join))
    code = code or bound(job, place.host)
    if code == 0:
        processes.part()
    return code


def bound(job: Job, host: str) -> int:
    """One process's job among others that it has met, whose end is its own.

    Args:
        host: where the first process is reached.
    """
    lifeline: Lifeline | None = None

    def leave(line: str, code: int) -> int:
        return (lifeline.fail if lifeline else guard.say_and_leave)(line, code)

    def together() -> None:
        nonlocal lifeline
        lifeline = Lifeline(host, job.remedy)
        job.action()
        lifeline.done()

    try:
        return _guarded(job, _whole(together), leave)
    except Exception as error:
        said = processes.first_line(error)
        with on_sigterm(signal.SIG_IGN):  # torchrun sends it for the death whose sentence is about to be heard
            if processes.is_lost_connection(error) and lifeline:
                line = f"error: process {group.rank()} lost its connection to another ({said}); {job.remedy}"
                return lifeline.lost(line)
            traceback.print_exc()
            return leave(f"error: {type(error).__name__}: {said}", 1)


def _looked(job: Job, asked: Asked, place: Place | None, look: Callable[[int, int], int]) -> int:
    if place is None:
        return _guarded(job, lambda: look(asked.gpus, asked.machines))
    return 0 if place.rank else _guarded(job, lambda: look(place.local_world, place.world // place.local_world))


def _spawned(job: Job, asked: Asked) -> int:
    """In a process for each GPU of this machine."""

    def prepare() -> None:
        if not job.uses_gpu():
            raise ValueError(
                f"{job.device_key}: no GPU, but --num-gpus {asked.gpus} starts processes on GPUs; several processes on "
                "the CPU: torchrun"
            )

    code = _guarded(job, _whole(prepare))
    if code:
        return code
    try:
        with on_sigterm(pass_on):
            spawn(_child, (job, asked.places(), asked.timeout, multiprocessing.get_start_method()), asked.gpus)
    except ProcessRaisedException as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except ProcessExitedException as error:
        if error.exit_code < 0:
            who = f"process {error.error_index} of {asked.gpus} on this machine"
            print(f"error: {who} was ended by signal {-error.exit_code}; {job.remedy}", file=sys.stderr)
        return error.exit_code if error.exit_code > 0 else 1
    except KeyboardInterrupt as interrupt:  # of a Ctrl-C the processes speak
        return guard.say_and_leave(str(interrupt), 130) if str(interrupt) else 130
    return 0


def _child(number: int, job: Job, places: list[Place], timeout: timedelta, start_method: str) -> None:
    # torch spawned this process, whose loaders' workers would be spawned too: without its memory and its mapper.
    multiprocessing.set_start_method(start_method, force=True)
    code = joined(job, places[number], timeout)
    if code:
        sys.exit(code)


def _guarded(job: Job, action: Callable[[], int], leave: Leave = guard.say_and_leave) -> int:
    return guard.guarded(
        action,
        memory_remedy=job.memory_remedy,
        leave=leave,
        workers=job.workers_key,
        interrupted=job.interrupted,
    )


def _whole(action: Callable[[], object]) -> Callable[[], int]:
    """`action`, whose end is exit code 0."""

    def to_the_end() -> int:
        action()
        return 0

    return to_the_end
