"""Signals to many processes: all of them stop after the same iteration, and nothing ends the save."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import torch
from made_data import TINY, write_config, write_rectangles
from made_processes import PATIENT, codes_of, wait_for
from test_two_processes import end_of, environment, watched, write_split
from torch import multiprocessing

from resnet_backbone.detection.training import loop
from resnet_backbone.detection.training.launch import job
from resnet_backbone.detection.training.settle import RunOptions
from resnet_backbone.engine import group, processes
from resnet_backbone.engine.launch import bound
from resnet_backbone.engine.processes import Place, free_port


def test_sigterm_to_all_processes_of_num_gpus_saves(tmp_path):
    """As a scheduler sends it: to the parent, the processes and their loaders' workers."""
    write_split(tmp_path / "rectangles")
    words = ("SOLVER.MAX_ITER", "100000", "SOLVER.CHECKPOINT_PERIOD", "100000", "DATALOADER.NUM_WORKERS", "1")
    process = subprocess.Popen(
        watched(tmp_path, "--num-gpus", "2", *words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=environment(tmp_path, WATCH_GPUS="2"), start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(tmp_path / "losses1.jsonl", process)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
    [(code, said)] = end_of([process])
    assert code == 130 and "stopped after iteration" in said and "Traceback" not in said, said
    assert torch.load(tmp_path / "run" / "last.pth", weights_only=True)["iteration"] >= 1


def signalled(rank: int, port: int, options: RunOptions) -> None:
    """One of two processes: both get SIGTERM after three iterations, and again while the first one saves."""
    torch.set_num_threads(1)
    place = Place(rank, 2, rank, 2, 0, "localhost", port, "Slurm")
    processes.join(place, "gloo", PATIENT)
    both = group.gather_all(os.getpid())
    step, save = loop.Loop._step, loop.save_state

    def watched_step(self, *arguments):
        if self.iteration == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments)

    def slow_save(*arguments):
        for pid in both:
            os.kill(pid, signal.SIGTERM)
        time.sleep(3)  # in which the other one, were it to end of it, would end this one
        save(*arguments)

    loop.Loop._step, loop.save_state = watched_step, slow_save
    sys.exit(bound(job(options), "localhost"))


def test_a_second_sigterm_does_not_end_the_save(tmp_path):
    words = ("DATA.ROOT", str(write_rectangles(tmp_path / "rectangles")), "SOLVER.CHECKPOINT_PERIOD", "1000")
    options = RunOptions(write_config(tmp_path, TINY), words, tmp_path / "run", gpus=2)
    context, port = multiprocessing.get_context("spawn"), free_port()
    assert codes_of([context.Process(target=signalled, args=(rank, port, options)) for rank in (0, 1)]) == [130, 130]
    assert torch.load(tmp_path / "run" / "last.pth", weights_only=True)["iteration"] == 3
