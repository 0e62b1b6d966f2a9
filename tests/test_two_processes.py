"""Two processes on the CPU (gloo), started in each of the ways that users have: they do what one process does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from made_data import SMALL, write_config, write_rectangles
from made_processes import PATIENCE, wait_for
from torch import distributed, multiprocessing

from resnet_backbone.detection.training import loop
from resnet_backbone.detection.training.run import run
from resnet_backbone.detection.training.settle import RunOptions
from resnet_backbone.engine.interrupt import Stopped
from resnet_backbone.engine.processes import free_port
from resnet_backbone.weights.files import read_weights

TESTS = Path(__file__).parent
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")

# What is left to chance or depends on the other images of a process's batch is taken out: all anchors and the same
# number of proposals of every image are trained on, images have one size, and norms see one image each.
COMPARABLE = (
    "MODEL.RESNETS.NORM", "GN", "MODEL.RPN.BATCH_SIZE_PER_IMAGE", "2048", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "10",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "64", "DATALOADER.ASPECT_RATIO_GROUPING", "False",
    "INPUT.RANDOM_FLIP", "none", "SOLVER.MAX_ITER", "6", "SOLVER.CHECKPOINT_PERIOD", "1",
)  # fmt: skip


def write_split(root: Path) -> Path:
    """Five images of one size to train on, three to test on: neither number can be shared by two."""
    content = json.loads((write_rectangles(root, images=10) / "train.json").read_text())
    chosen = {"train": [1, 2, 4, 5, 7], "test": [3, 6, 8]}
    for name, ids in chosen.items():
        images = [one for one in content["images"] if one["id"] in ids]
        annotations = [one for one in content["annotations"] if one["image_id"] in ids]
        (root / f"{name}.json").write_text(json.dumps({**content, "images": images, "annotations": annotations}))
    return root


def watched(tmp_path: Path, *words: str) -> list[str]:
    """The tool with the hooks of watched_train_net.py, in tmp_path / "run"."""
    tool = [sys.executable, str(TESTS / "watched_train_net.py"), "--config", str(write_config(tmp_path, SMALL))]
    return [*tool, "--output", str(tmp_path / "run"), *words, "DATA.ROOT", str(tmp_path / "rectangles")]


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "WATCH_FOLDER": str(tmp_path), "OMP_NUM_THREADS": "1", **more}


def lines_of(tmp_path: Path, name: str) -> list[list]:
    """What either process wrote."""
    return [[json.loads(line) for line in (tmp_path / f"{name}{rank}.jsonl").read_text().splitlines()]
            for rank in (0, 1)]  # fmt: skip


def test_torchrun_restarts_and_equals_one_process(tmp_path, monkeypatch, one_thread):
    """One of two processes is killed; torchrun starts both again; losses, weights, detections are one process's."""
    data = write_split(tmp_path / "rectangles")
    script, *words = watched(tmp_path, *COMPARABLE, "--resume")[1:]
    together = subprocess.run(
        [*TORCHRUN, "--max-restarts", "1", script, *words], capture_output=True, text=True, timeout=PATIENCE,
        env=environment(tmp_path, WATCH_DIE="1 training"),
    )  # fmt: skip
    assert together.returncode == 0, together.stderr
    assert "error: process 1 of 2" in together.stderr and "has died" in together.stderr
    assert "nothing to resume" in together.stdout and "after 3 iterations" in together.stdout
    assert "batch" not in together.stdout, "2 images for 2 processes are the batch of the config: nothing to scale"

    alone, step = [], loop.Loop._step
    monkeypatch.setattr(loop.Loop, "_step", lambda *arguments: alone.append(step(*arguments)) or alone[-1])
    pairs = ("DATA.ROOT", str(data), *COMPARABLE)
    run(RunOptions(tmp_path / "small.yaml", pairs, tmp_path / "alone"))
    shared = lines_of(tmp_path, "losses")
    assert [one["iteration"] for one in shared[0]] == [one["iteration"] for one in shared[1]] == list(range(6))
    for number, losses in enumerate(alone):
        means = {name: (shared[0][number][name] + shared[1][number][name]) / 2 for name in losses}
        assert means == pytest.approx(losses, rel=1e-5), f"iteration {number}"
    written = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-2])
    means = {name: sum(losses[name] for losses in alone[3:]) / 3 for name in alone[0]}  # since the restart
    assert {name: written[name] for name in means} == pytest.approx(means, rel=1e-5)
    one, two = (read_weights(tmp_path / folder / "model_final.pth").state for folder in ("alone", "run"))
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=1e-5, atol=1e-6)

    seen = lines_of(tmp_path, "seen")
    assert sorted(image for rank in seen for batch in rank for image in batch) == [3, 6, 8] and all(seen)
    found = tmp_path / "run" / "evaluation" / "train_test"
    before = {name: (found / name).read_bytes() for name in ("coco_instances_results.json", "metrics.json")}
    assert len(json.loads(before["coco_instances_results.json"])) > 10
    run(RunOptions(tmp_path / "small.yaml", pairs, tmp_path / "run", eval_only=True))
    assert before == {name: (found / name).read_bytes() for name in before}


def end_of(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit codes and what was said on standard error; what hangs is ended."""
    deadline = time.monotonic() + PATIENCE
    try:
        ends = [one.communicate(timeout=max(deadline - time.monotonic(), 0.1)) for one in processes]
    finally:
        for one in processes:
            one.kill()
    return [(one.returncode, error) for one, (_, error) in zip(processes, ends)]


def start_as_slurm(tmp_path: Path, *words: str) -> list[subprocess.Popen[str]]:
    """Two tasks of one srun, which nobody watches."""
    shared = {
        "SLURM_JOB_ID": "8000", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURM_STEP_NODELIST": "localhost", "SLURM_NODEID": "0", "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    return [
        subprocess.Popen(
            watched(tmp_path, *words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=environment(tmp_path, **shared, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)),
        )
        for rank in (0, 1)
    ]  # fmt: skip


def test_a_task_of_slurm_that_is_killed_ends_the_other_with_the_reason(tmp_path):
    """The first process, on whose sockets the other depends, dies in mid-training."""
    write_split(tmp_path / "rectangles")
    tasks = start_as_slurm(tmp_path, "SOLVER.MAX_ITER", "100000", "SOLVER.CHECKPOINT_PERIOD", "2")
    try:
        wait_for(tmp_path / "run" / "last.pth", tasks[0])
    finally:
        tasks[0].kill()
    (killed, _), (code, said) = end_of(tasks)
    assert killed == -9 and code == 1, said
    assert f"error: process 0 of 2 (host {socket.gethostname()}, pid {tasks[0].pid}) has died" in said
    assert "go on with --resume" in said and "Traceback" not in said
    assert torch.load(tmp_path / "run" / "last.pth", weights_only=True)["iteration"] >= 2


def test_num_gpus_ends_when_a_process_dies_in_evaluation(tmp_path):
    """With gloo on the CPU for nccl on GPUs, which it insists on."""
    write_split(tmp_path / "rectangles")
    command = watched(tmp_path, "--num-gpus", "2")
    more = {"WATCH_GPUS": "2", "WATCH_DIE": "1 evaluation"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(tmp_path, **more)
    )
    [(code, said)] = end_of([process])
    losses = lines_of(tmp_path, "losses")
    assert [len(rank) for rank in losses] == [4, 4] and losses[0] != losses[1], "both trained, on other images"
    assert code == 1, said
    # From the parent or from the other process, whichever learns of it first.
    assert "error: process 1 of 2" in said and "Traceback" not in said


def worker(rank: int, port: int, runs: list[tuple[RunOptions, int]], folder: Path) -> None:
    """One of two processes; in each run the second is told to stop at an iteration, if it is not 0."""
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    comm._LOCAL_PROCESS_GROUP = distributed.new_group([0, 1])
    agreed = loop.Loop._agreed
    for options, stop_at in runs:
        told = stop_at if rank == 1 else 0
        loop.Loop._agreed = lambda self, asked, told=told: agreed(self, asked or self.iteration == told)
        try:
            run(options)
        except Stopped as stopped:
            (folder / f"stopped{rank}").write_text(str(stopped))
            comm.synchronize()  # the first process is still saving
    distributed.destroy_process_group()


def test_they_stop_together_and_go_on_together(tmp_path):
    pairs = ("DATA.ROOT", str(write_rectangles(tmp_path / "rectangles", images=7)), "SOLVER.MAX_ITER", "6")
    first = RunOptions(write_config(tmp_path, SMALL), pairs, tmp_path / "run", gpus=2)
    runs = [(first, 3), (replace(first, resume=True), 0), (replace(first, output=tmp_path / "whole"), 0)]
    multiprocessing.spawn(worker, (free_port(), runs, tmp_path), nprocs=2)
    for rank in (0, 1):
        assert "stopped after iteration 3 of 6" in (tmp_path / f"stopped{rank}").read_text()
    whole, resumed = (read_weights(tmp_path / folder / "model_final.pth").state for folder in ("whole", "run"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
