"""Jobs of a few lines in one process and in two: the exit code is the same for all, and one says why."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
from made_processes import PATIENCE, PATIENT, codes_of, wait_for
from torch import distributed

from resnet_backbone.engine import group, lifeline
from resnet_backbone.engine.asked import Asked
from resnet_backbone.engine.launch import Job, start
from resnet_backbone.engine.processes import Place, free_port


def job(action: Callable[[], object], uses_gpu: Callable[[], bool] = bool) -> Job:
    return Job(action, uses_gpu, remedy="go on", memory_remedy="a smaller batch", device_key="DEVICE")


def torchruns(rank: int, port: int, world: int) -> dict[str, str]:
    return {
        "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "localhost", "MASTER_PORT": str(port),
    }  # fmt: skip


def ends(capfd, chosen: Job, *more, world: int = 2) -> tuple[list[int | None], list[str], str]:
    """Exit codes of processes as torchrun starts them, what they wrote as errors, and to standard output."""
    port = free_port()

    def begin(rank: int) -> None:
        os.environ.update(torchruns(rank, port, world))
        lifeline.GRACE = PATIENCE
        sys.exit(start(chosen, Asked(timeout=PATIENT), *more))

    context = multiprocessing.get_context("fork")
    codes = codes_of([context.Process(target=begin, args=(rank,)) for rank in range(world)])
    said = capfd.readouterr()
    return codes, [line for line in said.err.splitlines() if "gloo" not in line.lower()], said.out


def wait() -> None:
    """For the other process, as in an exchange of gradients."""
    group.gather_all(0)
    group.gather_all(0)


def test_two_processes_meet_and_part(tmp_path, capfd):
    def action() -> str:
        found = [group.gather_all(group.rank() + 1), group.gather("ab"[group.rank()]), group.world(), group.machines()]
        group.synchronize()
        (tmp_path / str(group.rank())).write_text(repr(found))
        return "not an exit code"

    assert ends(capfd, job(action)) == ([0, 0], [], "")
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["[[1, 2], ['a', 'b'], 2, 1]", "[[1, 2], [], 2, 1]"]


def fail(error: Exception, rank: int) -> None:
    if group.rank() == rank:
        raise error
    wait()


def test_one_that_fails_ends_the_other(capfd):
    assert ends(capfd, job(partial(fail, ValueError("7.png: not readable"), 1))) == (
        [1, 1], ["error: 7.png: not readable"], ""
    )  # fmt: skip
    codes, said, _ = ends(capfd, job(partial(fail, RuntimeError("CUDA out of memory. Tried"), 0)))
    assert codes == [1, 1] and said == ["error: CUDA out of memory. Tried Remedy: a smaller batch"]
    codes, said, _ = ends(capfd, job(partial(fail, KeyError("stem"), 1)))
    assert codes == [1, 1] and said[0].startswith("Traceback") and said[-1] == "error: KeyError: 'stem'"
    assert ends(capfd, job(partial(fail, KeyboardInterrupt(), 1)))[:2] == ([130, 130], ["interrupted"])


def die(rank: int) -> None:
    if group.rank() == rank:
        os.kill(os.getpid(), signal.SIGKILL)
    wait()


@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_is_killed_ends_the_other_with_a_sentence_that_names_it(capfd, rank):
    codes, [said], _ = ends(capfd, job(partial(die, rank)))
    assert codes == ([-9, 1] if rank == 0 else [1, -9])
    assert re.fullmatch(rf"error: process {rank} of 2 \(host .*, pid \d+\) has died: killed, .*; go on", said)


def lose(sent: Path) -> None:
    """The first process has lost the second one, gets torchrun's SIGTERM, and hears then that the second has died."""
    if group.rank():
        wait_for(sent)
        os.kill(os.getpid(), signal.SIGKILL)
    sleep = time.sleep

    def signalled(seconds: float) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        sent.write_text("SIGTERM")
        sleep(seconds)

    time.sleep = signalled  # with which it waits for the reason
    raise RuntimeError("gloo: Connection closed by peer")


def test_sigterm_does_not_end_who_waits_to_hear_the_reason(tmp_path, capfd):
    codes, [said], _ = ends(capfd, job(partial(lose, tmp_path / "sent")))
    assert codes == [1, -9] and "error: process 1 of 2" in said and said.endswith("; go on")


def test_sigterm_ends_who_waits_for_one_that_died_before_it_came(monkeypatch, capfd):
    """torchrun sends it, and keeps the store where they were to meet."""
    store = distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    for name, value in {**torchruns(1, store.port, 2), "TORCHELASTIC_USE_AGENT_STORE": "True"}.items():
        monkeypatch.setenv(name, value)
    waiting = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(start(job(wait), Asked())))
    waiting.start()
    store.wait(["ticket/1"], PATIENT)
    time.sleep(0.5)  # until it waits for the answer
    waiting.terminate()
    waiting.join(PATIENCE)
    waiting.kill()
    assert waiting.exitcode == 130 and capfd.readouterr().err == "interrupted\n"


def test_what_is_wrong_for_all_is_said_once(capfd):
    def no_device() -> bool:
        raise ValueError("DEVICE: no such device")

    assert ends(capfd, job(wait, no_device)) == ([1, 1], ["error: DEVICE: no such device"], "")
    codes, said, _ = ends(capfd, job(wait, lambda: torch.cuda.device_count() < 2))
    if torch.cuda.device_count() < 2:
        assert codes == [1, 1] and len(said) == 1 and said[0].endswith("or train on the CPU: DEVICE cpu")


def test_the_first_process_looks_for_all(capfd):
    def look(gpus: int, machines: int) -> int:
        print(f"{gpus} on each of {machines}")
        return 1

    assert ends(capfd, job(wait), look) == ([1, 0], [], "2 on each of 1\n")
    assert start(job(wait), Asked(), look) == 1 and capfd.readouterr().out == "1 on each of 1\n"


def test_one_process_alone(capfd):
    assert start(job(wait), Asked()) == 0
    assert start(job(partial(fail, ValueError("no such file"), 0)), Asked()) == 1
    assert capfd.readouterr().err == "error: no such file\n"
    assert start(job(wait, bool), Asked(timeout=timedelta(0))) == 1
    assert capfd.readouterr().err == "error: --dist-timeout 0: minutes, more than 0\n"


def test_places_that_the_flags_give(monkeypatch):
    two = Asked(gpus=2, machines=2, machine_rank=1, dist_url="tcp://gpu07:29400")
    assert two.places() == [
        Place(2, 4, 0, 2, 1, "gpu07", 29400, "--num-gpus"),
        Place(3, 4, 1, 2, 1, "gpu07", 29400, "--num-gpus"),
    ]
    assert Asked(gpus=2, dist_url="tcp://[fe80::7]:29400").places()[1].host == "fe80::7"
    here, there = Asked(gpus=2).places()
    assert here.port == there.port and here.host == there.host == "localhost"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for url in ("gpu07", "tcp://gpu07", "file:///shared/meet"):
        with pytest.raises(ValueError, match=f"--dist-url {url}: write tcp://HOST:PORT"):
            Asked(gpus=2, dist_url=url).refuse(None)


# Of what follows, --num-gpus's processes import this file.


def pretended() -> bool:
    """Two GPUs that are the CPU, with gloo for nccl, in the processes that --num-gpus starts."""
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)
        join = distributed.init_process_group
        distributed.init_process_group = lambda backend, **more: join({"nccl": "gloo"}[backend], **more)
        torch.cuda.device_count, torch.cuda.set_device = lambda: 2, lambda device: None
    return True


def tell(folder: Path) -> None:
    method = multiprocessing.get_start_method()
    (folder / str(group.rank())).write_text(f"{sum(group.gather_all(group.rank() + 1))} {group.machines()} {method}")


def stop(folder: Path) -> None:
    tell(folder)
    die(1)


def test_num_gpus_spawns_the_processes(tmp_path, monkeypatch, capfd):
    assert start(job(partial(tell, tmp_path)), Asked(gpus=2)) == 1
    assert "--num-gpus 2: this machine has" in capfd.readouterr().err
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert start(job(partial(tell, tmp_path)), Asked(gpus=2)) == 1
    assert "DEVICE: no GPU, but --num-gpus 2 starts processes on GPUs" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())
    assert start(job(partial(stop, tmp_path), pretended), Asked(gpus=2)) == 1
    method = multiprocessing.get_start_method()
    assert [(tmp_path / rank).read_text() for rank in "01"] == [f"3 1 {method}"] * 2
    said = capfd.readouterr().err
    # From the parent, from the other process, or from both.
    assert "error: process 1 of 2" in said and "; go on" in said and "Traceback" not in said
