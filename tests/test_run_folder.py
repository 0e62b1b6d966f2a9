"""What a run's folder holds: nothing of an earlier run goes unasked, nothing is written twice."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from made_data import TINY, write_config, write_rectangles

from resnet_backbone.detection.training.run import run
from resnet_backbone.detection.training.settle import RunOptions, settle
from resnet_backbone.engine.journal import Journal
from resnet_backbone.engine.jsonlog import JsonLines, read_json_lines


@pytest.fixture
def options(tmp_path) -> RunOptions:
    data = write_rectangles(tmp_path / "rectangles")
    return RunOptions(write_config(tmp_path, TINY), ("DATA.ROOT", str(data)), tmp_path / "run")


@pytest.mark.parametrize("name", ["last.pth", "model_final.pth", "model_best.pth"])
def test_what_a_new_run_would_delete_is_not_deleted_unasked(options, name):
    options.output.mkdir()
    Path(options.output / name).touch()
    with pytest.raises(ValueError, match="holds a run: go on with --resume, begin anew with --overwrite"):
        settle(options)


def test_lines_are_rewritten_only_where_some_go_and_then_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path)
    for iteration in (20, 40, 60):
        lines.write(iteration=iteration, loss=1.5)
    whole, number = path.read_text(), path.stat().st_ino
    JsonLines(path, keep_until=60)
    assert path.read_text() == whole and path.stat().st_ino == number, "the very file"

    def full(*arguments) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="disk full"):
        broken.setattr(os, "replace", full)
        JsonLines(path, keep_until=40)
    assert path.read_text() == whole
    path.write_text(whole + '{"iteration": 80, "lo')
    JsonLines(path, keep_until=60).write(iteration=80, loss=1.0)
    assert [one["iteration"] for one in read_json_lines(path)] == [20, 40, 60, 80]


def test_an_evaluation_made_again_replaces_its_line(tmp_path):
    with Journal(tmp_path, 0) as journal:
        journal._put(20, {"loss": 1.0})
        journal.evaluated(10, {"bbox/AP": 1.0})
        journal.evaluated(20, {"bbox/AP": 2.0})
    with Journal(tmp_path, 20) as journal:
        journal.evaluated(20, {"bbox/AP": 3.0})
    assert list(read_json_lines(tmp_path / "metrics.jsonl")) == [
        {"iteration": 20, "loss": 1.0}, {"iteration": 10, "bbox/AP": 1.0}, {"iteration": 20, "bbox/AP": 3.0},
    ]  # fmt: skip


def test_a_finished_run_resumed_has_one_line_of_each_evaluation_and_no_stale_parts(options):
    pairs = (*options.overrides, "TEST.EVAL_PERIOD", "2", "TEST.BEST_METRIC", "bbox/AP")
    run(replace(options, overrides=pairs))
    stale = [options.output / f".{name}.abc.part" for name in ("last.pth", "model_final.pth", "model_best.pth")]
    for path in stale:
        path.touch()
    before = (options.output / "metrics.jsonl").read_text()
    best = torch.load(options.output / "last.pth", weights_only=True)["best"]
    run(replace(options, overrides=pairs, resume=True))
    assert (options.output / "metrics.jsonl").read_text() == before
    lines = list(read_json_lines(options.output / "metrics.jsonl"))
    assert [one["iteration"] for one in lines if "bbox/AP" in one] == [2, 4]
    assert not any(path.exists() for path in stale)
    assert torch.load(options.output / "last.pth", weights_only=True)["best"] == best


def test_weights_and_biases_gets_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    with pytest.raises(ValueError, match="package wandb is not installed"):
        Journal(tmp_path, 0, wandb="project")
    told = []
    run = SimpleNamespace(log=lambda values, step: told.append((step, values)), finish=lambda: told.append("finished"))
    made = SimpleNamespace(init=lambda **options: told.append(options) or run)
    monkeypatch.setitem(sys.modules, "wandb", made)
    with Journal(tmp_path, 0, wandb="project") as journal:
        journal.evaluated(20, {"val/top1": 50.0})
    assert told[0]["project"] == "project" and told[0]["resume"] == "allow"
    assert told[1:] == [(20, {"val/top1": 50.0}), "finished"]
