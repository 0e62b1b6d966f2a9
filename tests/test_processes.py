"""How a process finds its place among others, how they meet, and that the end of one is the end of all."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from made_processes import PATIENCE, PATIENT, codes_of
from torch import distributed

from resnet_backbone.engine import group, processes
from resnet_backbone.engine import lifeline as module
from resnet_backbone.engine.asked import Asked
from resnet_backbone.engine.lifeline import Lifeline
from resnet_backbone.engine.processes import Place, find_place, first_host, free_port, gpu_of, tasks_per_node

# Process 5 of torchrun --nnodes 2 --nproc-per-node 4.
TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1",
    "MASTER_ADDR": "gpu07", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none",
}  # fmt: skip
# Task 5 of srun with 4 and 3 tasks on two nodes.
SRUN = {
    "SLURM_JOB_ID": "200505", "SLURM_STEP_ID": "3", "SLURM_STEP_NUM_TASKS": "7", "SLURM_STEP_TASKS_PER_NODE": "4,3",
    "SLURM_STEP_NODELIST": "gpu[07,09]", "SLURM_NODEID": "1", "SLURM_PROCID": "5", "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "7",
}  # fmt: skip
# Out of a batch script's environment on a cluster, for four tasks on four nodes.
BATCH_SCRIPT = {
    "SLURM_JOB_ID": "200505", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_NNODES": "4", "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_TASKS_PER_NODE": "1(x4)", "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_JOB_NODELIST": "gnode[10,20,25,37]", "SLURM_JOB_NAME": "test-multi-nodes",
}  # fmt: skip


def test_torchruns_place():
    assert find_place(TORCHRUN) == Place(5, 8, 1, 4, 1, "gpu07", 29500, "torchrun")
    by_hand = {k: v for k, v in TORCHRUN.items() if k not in ("GROUP_RANK", "TORCHELASTIC_RUN_ID")}
    assert find_place(by_hand) == find_place(TORCHRUN)


def test_slurms_place():
    place = find_place(SRUN)
    assert place == Place(5, 7, 1, 3, 1, "gpu07", place.port, "Slurm")
    ports = [find_place({**SRUN, "SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)}).port
             for job in (200505, 200506) for step in (0, 1, 2)]  # fmt: skip
    assert len(set(ports)) == 6 and all(1024 < port < 32768 for port in ports)
    assert find_place({**SRUN, "MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "2345"}) == replace(
        place, host="10.0.0.7", port=2345
    )


def test_a_port_to_meet_at_is_free_and_given_to_nobody_else(monkeypatch):
    """The processes of --num-gpus import for seconds before they listen there."""
    busy = Asked(gpus=2).places()[0].port
    with socket.create_server(("127.0.0.1", busy)):
        free = Asked(gpus=2).places()[0].port
        assert all(1024 < port < 32768 for port in (busy, free)), "above, the system gives them away"
        monkeypatch.setattr(processes, "PORTS", (busy, free))
        assert {free_port() for _ in range(9)} == {free}


def test_one_process_is_not_taken_for_many():
    assert find_place({}) is None
    assert find_place(BATCH_SCRIPT) is None
    assert find_place({**BATCH_SCRIPT, "SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"}) is None  # salloc
    assert find_place({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}) is None
    assert find_place({"MASTER_ADDR": "gpu07", "MASTER_PORT": "29500"}) is None


def test_one_torchrun_on_every_machine_of_a_slurm_step():
    step = {**SRUN, "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_PROCID": "1"}
    step |= {"SLURM_LOCALID": "0"}
    assert find_place({**step, **TORCHRUN}) == find_place(TORCHRUN)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"RANK": "1", "WORLD_SIZE": "2"}, "RANK, WORLD_SIZE set in the environment, LOCAL_RANK, LOCAL_WORLD_SIZE, MA"),
        ({**TORCHRUN, "MASTER_PORT": ""}, "MASTER_PORT not: start with torchrun"),
        ({**TORCHRUN, "RANK": "8"}, "RANK 8 of WORLD_SIZE 8 and LOCAL_RANK 1 of LOCAL_WORLD_SIZE 4 contradict"),
        ({**TORCHRUN, "LOCAL_RANK": "4"}, "LOCAL_RANK 4 of LOCAL_WORLD_SIZE 4 contradict"),
        ({**TORCHRUN, "RANK": "five"}, "RANK is 'five' in the environment, not a whole number"),
        ({**SRUN, "WORLD_SIZE": "8"}, "WORLD_SIZE is 8, but Slurm started process 5 of 7"),
        ({**SRUN, "SLURM_LOCALID": "3"}, "SLURM_STEP_TASKS_PER_NODE 4,3 contradict"),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, "SLURM_STEP_NUM_TASKS 7"),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "4x2"}, "'4x2' is not as Slurm writes it"),
        ({**SRUN, "SLURM_STEP_NODELIST": ""}, "SLURM_STEP_NODELIST not set"),
        ({**SRUN, "SLURM_PROCID": ""}, "SLURM_PROCID is ''"),
    ],
)  # fmt: skip
def test_partial_or_contradictory_environments_are_refused(environ, said):
    with pytest.raises(ValueError) as refused:
        find_place(environ)
    assert said in str(refused.value)


def test_slurms_shorthands():
    hosts = {
        "gpu[07-09,12],big1": "gpu07", "node5": "node5", "a,b": "a", "rack[1-2]n[03-04]": "rack1n03",
        "gnode[10,20,25,37]": "gnode10", "tux[0-1]-ib": "tux0-ib", "": "",
    }  # fmt: skip
    assert {text: first_host(text) for text in hosts} == hosts
    assert tasks_per_node("2(x3),1") == [2, 2, 2, 1] and tasks_per_node("16") == [16]


def test_each_process_has_a_gpu_of_its_own():
    torchrun, slurm = find_place(TORCHRUN), find_place(SRUN)
    assert gpu_of(torchrun, 4) == 1 and gpu_of(torchrun, 8) == 1 and gpu_of(slurm, 3) == 1
    assert gpu_of(slurm, 1) == 0, "srun --gpus-per-task=1 shows each task its own"
    for place, count in ((torchrun, 1), (torchrun, 3), (slurm, 2)):
        with pytest.raises(ValueError, match=f"this machine has {count} CUDA GPUs"):
            gpu_of(place, count)


def test_a_process_that_does_not_come_is_told_of():
    place = Place(0, 2, 0, 2, 0, "localhost", free_port(), "Slurm")
    with pytest.raises(ValueError, match=f"process 0 of 2 did not meet the others at localhost:{place.port} within 1"):
        processes.join(place, "gloo", timedelta(seconds=1))


def test_what_an_earlier_start_left_in_the_store_is_not_read(monkeypatch):
    """torchrun keeps its store when it starts everything again."""
    server = distributed.TCPStore("localhost", 0, is_master=True, timeout=PATIENT)
    for name in ("ticket/1", "ticket/2"):
        server.set(name, "of the dead")
    stores: dict[int, distributed.Store] = {}

    def meet(rank: int) -> None:
        own = distributed.TCPStore("localhost", server.port, timeout=PATIENT)
        time.sleep(0.1 * rank)
        stores[rank] = processes.agreed_store(own, rank, 3, PATIENT)

    for start in range(2):
        members = [threading.Thread(target=meet, args=(rank,)) for rank in range(3)]
        for member in members:
            member.start()
        for member in members:
            member.join()
        assert not any(stores[rank].check(["address"]) for rank in range(3)), "nothing of the start before"
        stores[1].set("address", f"of start {start}")
        assert stores[0].get("address") == stores[2].get("address") == f"of start {start}".encode()
    clock = itertools.count(step=PATIENCE)  # each look at it takes as long as the store may
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=time.sleep))
    with pytest.raises(TimeoutError, match="missing: 1, 2"):
        processes.agreed_store(server, 0, 3, PATIENT)


def ends(capfd, member: Callable[[int, Lifeline], int], late: float = 0) -> tuple[list[int | None], list[str]]:
    """Exit codes of three processes that are bound together, and all lines that they wrote.

    Args:
        late: seconds after which the first process listens to the others.
    """
    port, accepted = free_port(), module._accepted

    def accepted_late(*args):
        time.sleep(late)
        return accepted(*args)

    def begin(rank: int) -> None:
        if rank == 2:
            socket.gethostname = lambda: "elsewhere"
        module.GRACE, module._accepted = PATIENCE, accepted_late
        processes.join(Place(rank, 3, rank, 3, 0, "localhost", port, "Slurm"), "gloo", PATIENT)
        sys.exit(member(rank, Lifeline("localhost", "go on")))

    context = multiprocessing.get_context("fork")
    codes = codes_of([context.Process(target=begin, args=(rank,)) for rank in range(3)])
    said = capfd.readouterr().err.splitlines()
    return codes, [line for line in said if "gloo" not in line.lower()]


def test_of_processes_that_fail_alike_one_speaks_on_every_machine(capfd):
    codes, said = ends(capfd, lambda rank, lifeline: lifeline.fail("error: no such file", 1))
    assert codes == [1, 1, 1]
    assert sum(line == "error: no such file" for line in said) == 1 and len(said) in (2, 3)
    assert all("error: no such file" in line for line in said)


@pytest.mark.parametrize(
    ("failing", "host", "late"), [(0, socket.gethostname(), 0), (2, "elsewhere", 0), (2, "elsewhere", 1)]
)
def test_one_that_fails_ends_the_others_with_its_reason(capfd, failing, host, late):
    def member(rank: int, lifeline: Lifeline) -> int:
        if rank == failing:
            return lifeline.fail("error: 7.png: not readable", 1)
        signal.pause()
        return 0

    codes, said = ends(capfd, member, late)
    assert codes == [1, 1, 1] and said.count("error: 7.png: not readable") == 1
    others = [line for line in said if line.startswith(f"process {failing} of 3 (host {host}, pid ")]
    assert len(others) == (1 if failing == 0 else 2) and others[0].endswith("): error: 7.png: not readable")


@pytest.mark.parametrize("dying", [0, 1])
def test_one_that_is_killed_ends_the_others(capfd, dying):
    end, test = os.pipe()

    def worker() -> None:
        """A data loader's, which outlives it; here until the test ends."""
        os.close(test)
        os.read(end, 1)

    def member(rank: int, lifeline: Lifeline) -> int:
        if rank == dying:
            multiprocessing.get_context("fork").Process(target=worker).start()
            os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()
        return 0

    codes, said = ends(capfd, member)
    os.close(test)
    os.close(end)
    assert codes == [-9 if rank == dying else 1 for rank in range(3)]
    assert len(said) == 2 and all(f"error: process {dying} of 3 (host " in line for line in said)
    assert all(line.endswith("has died: killed, out of memory, or its machine is gone; go on") for line in said)


def test_those_that_are_done_may_leave_in_any_order(capfd):
    def member(rank: int, lifeline: Lifeline) -> int:
        time.sleep(0.5 * rank)
        lifeline.done()
        return 0

    assert ends(capfd, member) == ([0, 0, 0], [])


def test_every_exchange_may_take_as_long_as_was_asked_for(capfd, monkeypatch):
    """Objects too, for which GPUs' processes have a group of their own; torch's default is half an hour."""
    hours = timedelta(hours=2)

    def wait_of(one) -> timedelta:
        return one._get_backend(torch.device("cpu")).options._timeout

    def alone() -> None:
        processes.join(Place(0, 1, 0, 1, 0, "localhost", free_port(), "--num-gpus"), "gloo", hours)
        monkeypatch.setattr(distributed, "get_backend", lambda _: "nccl")
        groups = (distributed.group.WORLD, group.local(), group._of_objects(distributed.group.WORLD))
        assert [wait_of(one) for one in groups] == [hours] * 3
        processes.part()

    assert codes_of([multiprocessing.get_context("fork").Process(target=alone)]) == [0], capfd.readouterr().err
