"""--new-schedule, and checkpoints of before an option was there."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import made_runs
import pytest
import torch
from detectron2.solver import build_lr_scheduler
from made_data import TINY, write_rectangles
from made_runs import Scores, last_state
from torch import nn

from resnet_backbone.detection.training import loop as loop_module
from resnet_backbone.detection.training.loop import Loop
from resnet_backbone.detection.training.run import run
from resnet_backbone.detection.training.settle import settle

EMA = ("SOLVER.EMA.ENABLED", "True")

options = partial(made_runs.options, text=TINY)


@pytest.fixture
def data(tmp_path) -> Path:
    return write_rectangles(tmp_path / "rectangles")


@pytest.fixture
def scores(monkeypatch):
    return Scores(monkeypatch)


def rates_of(monkeypatch) -> list[float]:
    """The rate of every step that is taken from now on."""
    rates, step = [], Loop._step

    def noted(self, *arguments):
        rates.append(self.optimizer.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(loop_module.Loop, "_step", noted)
    return rates


def test_a_new_schedule_is_followed_from_there_on(tmp_path, data, monkeypatch, capsys, scores):
    scores.next = [1.0] * 4
    run(options(tmp_path, data))
    momentum = last_state(tmp_path)["optimizer"]["state"][0]["momentum_buffer"]
    longer = ("SOLVER.MAX_ITER", "8", "SOLVER.STEPS", "(6,)", "SOLVER.BASE_LR", "0.02", "SOLVER.WARMUP_ITERS", "3")
    with pytest.raises(ValueError, match="begun with SOLVER.* change the schedule from here on with --new-schedule"):
        run(options(tmp_path, data, *longer, resume=True))
    rates, seen = rates_of(monkeypatch), []
    enter = loop_module.enter_schedule

    def entered(optimizer, *arguments):
        enter(optimizer, *arguments)
        seen.append(copy.deepcopy(optimizer.state_dict()["state"][0]["momentum_buffer"]))

    monkeypatch.setattr(loop_module, "enter_schedule", entered)
    run(options(tmp_path, data, *longer, resume=True, new_schedule=True))
    # By hand: behind the warm-up, and a tenth from iteration 6 on; and as Detectron2's from the start would be.
    assert rates == pytest.approx([0.02, 0.02, 0.002, 0.002])
    cfg = settle(options(tmp_path, data, *longer, overwrite=True)).cfg
    plain = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.02)
    scheduler, all_rates = build_lr_scheduler(cfg, plain), []
    for _ in range(8):
        all_rates.append(plain.param_groups[0]["lr"])
        plain.step()
        scheduler.step()
    assert rates == all_rates[4:]
    assert torch.equal(seen[0], momentum) and last_state(tmp_path)["iteration"] == 8
    assert "from here on SOLVER.MAX_ITER 8 instead of 4" in capsys.readouterr().out
    # It is the run's schedule now.
    run(options(tmp_path, data, *longer, resume=True))


def test_a_new_schedule_changes_the_schedule_alone(tmp_path, data, scores):
    scores.next = [1.0]
    run(options(tmp_path, data, *EMA))

    def refused(*pairs, **more) -> str:
        with pytest.raises(ValueError) as caught:
            run(options(tmp_path, data, *pairs, **more))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    for pairs in ((*EMA, "SOLVER.WEIGHT_DECAY", "0.1"), (*EMA, "SOLVER.ACCUMULATE", "2"), ("SEED", "5"),
                  (*EMA, "SOLVER.EMA.DECAY", "0.5"), (*EMA, "SOLVER.CLIP_GRADIENTS.ENABLED", "True")):  # fmt: skip
        said = refused(*pairs, resume=True, new_schedule=True)
        assert "the run was begun with SOLVER." in said and "--new-schedule" not in said
    assert "SOLVER.MAX_ITER: 3, but" in refused(*EMA, "SOLVER.MAX_ITER", "3", resume=True, new_schedule=True)
    assert "--new-schedule: says how to go on with a run; give --resume too" in refused(new_schedule=True)


def test_a_checkpoint_of_before_these_options_goes_on_without_them(tmp_path, data, scores):
    scores.next = [1.0] * 2
    run(options(tmp_path, data))
    state = last_state(tmp_path)
    lines = [line for line in state["config"].splitlines() if "ACCUMULATE" not in line]
    start = next(n for n, line in enumerate(lines) if line == "  EMA:")
    state["config"] = "\n".join(lines[:start] + lines[start + 3 :])
    for name in ("best", "normalizer", "tested"):
        del state[name]
    torch.save(state, tmp_path / "run" / "last.pth")
    run(options(tmp_path, data, resume=True))
    torch.save(state, tmp_path / "run" / "last.pth")
    with pytest.raises(ValueError, match="the run was begun with SOLVER.EMA.ENABLED False, now it is True"):
        run(options(tmp_path, data, *EMA, resume=True))
