"""Ctrl-C and SIGTERM, once, twice and at any moment: what was done is saved, and a sentence says how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
import torch
from made_data import TINY, write_config, write_rectangles
from made_processes import PATIENCE
from torch.utils.data import DataLoader, Dataset

from resnet_backbone.detection.training import loop as loop_module
from resnet_backbone.detection.training import run as run_module
from resnet_backbone.detection.training.launch import guarded
from resnet_backbone.detection.training.settle import RunOptions
from resnet_backbone.engine.interrupt import GracefulStop, Stopped, interrupt_once, obey_parent_alone, on_sigterm

SELDOM = ("SOLVER.CHECKPOINT_PERIOD", "1000", "TEST.EVAL_PERIOD", "2")


@pytest.fixture
def options(tmp_path) -> RunOptions:
    """Four iterations, saved at the end alone but for an evaluation after two."""
    data = write_rectangles(tmp_path / "rectangles")
    return RunOptions(write_config(tmp_path, TINY), ("DATA.ROOT", str(data), *SELDOM), tmp_path / "run")


def saved(options: RunOptions) -> int:
    return int(torch.load(options.output / "last.pth", weights_only=True)["iteration"])


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_only_a_second_ctrl_c_interrupts():
    with GracefulStop() as stop:
        assert not stop.asked
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            send(number)
            assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


@pytest.mark.parametrize("before", [False, True])
def test_where_nothing_is_lost_the_first_signal_interrupts(before):
    with GracefulStop() as stop:
        if before:
            send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match="all is saved"), stop.at_once("all is saved"):
            send(signal.SIGTERM)
            pytest.fail("went on")
        send(signal.SIGTERM)


@pytest.mark.parametrize("error", [Stopped, ValueError, KeyboardInterrupt])
def test_who_was_asked_and_leaves_is_not_interrupted_on_the_way_out(error):
    """The parent of --num-gpus passes on the SIGTERM that a scheduler sends to all."""
    with on_sigterm(interrupt_once):
        with pytest.raises(error, match="saved"), GracefulStop():
            send(signal.SIGTERM)
            raise error("saved")
        send(signal.SIGTERM)


def test_who_goes_on_can_still_be_interrupted():
    with on_sigterm(interrupt_once):
        with GracefulStop():
            send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_evaluation_at_once_and_loses_no_iteration(options, number, monkeypatch, capsys):
    def tested(*arguments, **more):
        send(number)
        pytest.fail("went on")

    monkeypatch.setattr(run_module, "test", tested)
    assert guarded(options) == 130
    assert "stopped after iteration 2 of 4; saved in" in capsys.readouterr().err
    assert saved(options) == 2


def test_an_evaluation_that_fails_loses_no_iteration(options, monkeypatch, capsys):
    def tested(*arguments, **more):
        raise ValueError("7.png: not readable")

    monkeypatch.setattr(run_module, "test", tested)
    assert guarded(options) == 1
    assert "error: 7.png: not readable" in capsys.readouterr().err and saved(options) == 2


@pytest.mark.parametrize("at", [2, 4])
def test_a_signal_in_a_save_neither_breaks_it_nor_is_forgotten(options, at, monkeypatch, capsys):
    """After two iterations the one behind the evaluation, after four the last one."""
    save, saves = loop_module.save_state, []

    def signalled(path, parts, iteration, *more):
        if iteration == at and (at == 4 or saves):
            send(signal.SIGTERM)
        saves.append(iteration)
        save(path, parts, iteration, *more)

    monkeypatch.setattr(loop_module, "save_state", signalled)
    monkeypatch.setattr(run_module, "test", lambda *arguments, **more: {})
    assert guarded(options) == 130
    assert f"stopped after iteration {at} of 4; saved in" in capsys.readouterr().err
    assert saved(options) == at and saves == [2, 2, 4][: at // 2 + 1]


def test_sigterm_outside_the_loop_is_a_sentence(options, monkeypatch, capsys):
    monkeypatch.setattr(run_module, "build_detector", lambda cfg: send(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert guarded(options) == 130
    assert capsys.readouterr().err == "interrupted; what was saved is kept, go on with --resume\n"
    assert signal.getsignal(signal.SIGTERM) is before


class Pids(Dataset):
    """The worker's process, slowly."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        time.sleep(0.05)
        return os.getpid()


def test_a_loaders_worker_obeys_its_parent_alone():
    """Schedulers signal all processes of a job; `kill` is another sender than the parent."""
    batches = iter(DataLoader(Pids(), batch_size=1, num_workers=1, worker_init_fn=obey_parent_alone))
    pid = int(next(batches))
    for name in ("-TERM", "-INT", "-TERM"):
        subprocess.run(["kill", name, str(pid)], check=True)
    assert [int(one) for one in batches] == [pid] * 7
    again = iter(DataLoader(Pids(), batch_size=1, num_workers=1, worker_init_fn=obey_parent_alone))
    next(again)
    worker = again._workers[0]
    worker.terminate()
    worker.join(PATIENCE)
    assert worker.exitcode == 0
