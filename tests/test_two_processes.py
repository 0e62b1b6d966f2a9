"""Two processes on the CPU (gloo) train one detector and test it together."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from made_data import SMALL, write_config, write_rectangles
from torch import distributed, multiprocessing

from resnet_backbone.detection.training import loop
from resnet_backbone.detection.training.run import run
from resnet_backbone.detection.training.settle import RunOptions
from resnet_backbone.engine.interrupt import Stopped
from resnet_backbone.engine.jsonlog import read_json_lines
from resnet_backbone.weights.files import read_weights


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def worker(rank: int, port: int, options: RunOptions, stop_at: int, folder: Path) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    comm._LOCAL_PROCESS_GROUP = distributed.new_group([0, 1])
    if stop_at and rank == 1:
        # Only one of the two is told to stop.
        agreed = loop.Loop._agreed
        loop.Loop._agreed = lambda self, asked: agreed(self, asked or self.iteration == stop_at)
    try:
        results = run(options)
    except Stopped as stopped:
        (folder / f"stopped{rank}").write_text(str(stopped))
        results = {}
    (folder / f"results{rank}.json").write_text(json.dumps(results))
    distributed.destroy_process_group()


def train_together(tmp_path: Path, *pairs: str, stop_at: int = 0, **more) -> None:
    data = tmp_path / "rectangles"
    if not data.exists():
        write_rectangles(data, images=7)
    overrides = ("DATA.ROOT", str(data), *pairs)
    options = RunOptions(write_config(tmp_path, SMALL), overrides, tmp_path / "run", gpus=2, **more)
    multiprocessing.spawn(worker, (free_port(), options, stop_at, tmp_path), nprocs=2)


def test_two_processes_train_and_test_as_one(tmp_path):
    train_together(tmp_path)
    together, nothing = (json.loads((tmp_path / f"results{rank}.json").read_text()) for rank in (0, 1))
    assert nothing == {"train_test": {}}
    lines = list(read_json_lines(tmp_path / "run" / "metrics.jsonl"))
    assert lines[0]["iteration"] == 4 and lines[0]["loss"] > 0
    assert len(list((tmp_path / "run" / "pictures" / "train_test").glob("*.jpg"))) == 2
    # One process that tests the same weights finds the same: each image was tested exactly once.
    overrides = ("DATA.ROOT", str(tmp_path / "rectangles"))
    alone = run(RunOptions(tmp_path / "small.yaml", overrides, tmp_path / "run", eval_only=True))
    for task, numbers in alone["train_test"].items():
        assert numbers == pytest.approx(together["train_test"][task], nan_ok=True), task


def test_they_stop_together_and_go_on_together(tmp_path):
    train_together(tmp_path, "SOLVER.MAX_ITER", "6", stop_at=3)
    for rank in (0, 1):
        assert "stopped after iteration 3 of 6" in (tmp_path / f"stopped{rank}").read_text()
    os.rename(tmp_path / "run", tmp_path / "first")
    train_together(tmp_path, "SOLVER.MAX_ITER", "6")
    whole = read_weights(tmp_path / "run" / "model_final.pth").state
    os.rename(tmp_path / "run", tmp_path / "whole")
    os.rename(tmp_path / "first", tmp_path / "run")
    train_together(tmp_path, "SOLVER.MAX_ITER", "6", resume=True)
    resumed = read_weights(tmp_path / "run" / "model_final.pth").state
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
