"""The queue of CIFAR runs: cut off, gone on with, recorded from folders, and beside the paper."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_classifier_runs import write_run
from made_processes import wait_for

ROOT = Path(__file__).parents[1]


@pytest.fixture
def runs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.cifar_runs")


@pytest.fixture
def recorder(runs):
    return importlib.import_module("benchmarks.cifar_record")


def folder(recorder, path, network="cifar_resnet20", seed=1, error=8.5, **changes):
    """A finished run as the tool leaves it."""
    paper = json.loads(json.dumps(dataclasses.asdict(recorder.PAPER)))
    settings = {**paper, "data": "/data/cifar10", **changes}
    steps = settings["iterations"]
    others = {key: value for key, value in settings.items() if key not in ("network", "seed")}
    test = [(steps - 400, error - 0.25), (steps, error)]
    made = write_run(path, network, [(20, 90.0), (steps, 0.5)], test, seed=seed, **others)
    with (made / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"iteration": steps, "loss": 0.1, "error": 0.5, "seconds_per_iteration": 0.125}) + "\n")
    return made


def test_runs_are_recorded_from_their_folders_and_stand_beside_the_paper(recorder, runs, tmp_path):
    results = tmp_path / "results.json"
    recorder.record([folder(recorder, tmp_path / "a", seed=1, error=8.5, precision="bf16")], results)
    recorder.record([folder(recorder, tmp_path / "b", seed=2, error=9.0, precision="bf16")], results)
    recorder.record([folder(recorder, tmp_path / "c", seed=2, error=9.5, precision="bf16")], results)
    short = {"iterations": 6400, "steps": [3200, 4800]}
    recorder.record([folder(recorder, tmp_path / "d", "cifar_plain20", error=15.91, **short)], results)
    entries = importlib.import_module("benchmarks.record").read(results)
    assert set(entries) == {"reproduction-cifar", "cifar-short"}
    first = entries["reproduction-cifar"].runs[0]
    assert (first["error"], first["lowest_error"], first["train_error"], first["loss"]) == (8.5, 8.25, 0.5, 0.5)
    assert first["schedule"] == "64,000 iterations of 128, drops at 32,000 and 48,000"
    assert first["seconds_per_iteration"] == 0.125 and first["origin"]["commit"] == "unknown"
    assert {"command", "hardware", "date"} <= first["origin"].keys()
    # The newer run of seed 2: 8.5 and 9.5 are 9.00 +- 0.71.
    lines = runs.TABLES["paper-cifar"](entries)
    assert "| ResNet-20 | 8.75 | 9.00 ± 0.71 | 2 | 8.50, 9.50 | bf16 |" in lines
    assert "| plain-20 | Figure 6 alone | not run | 0 | not run | not run |" in lines
    assert runs.TABLES["cifar-short"](entries)[2] == (
        "| plain-20 | 6,400 iterations of 128, drops at 3,200 and 4,800 | 15.91 | 1 | 15.91 | fp32 |"
    )
    assert "higher than after 64,000 iterations" in entries["cifar-short"].note


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_smoothing": 0.1}, "config.yaml: label_smoothing is 0.1, the paper's is 0.0: not a run of Table 6"),
        ({"data": "/data/cifar100"}, "data is 'CIFAR-100', not CIFAR-10"),
    ],
)
def test_what_is_no_run_of_table_6_is_refused(recorder, tmp_path, changes, message):
    made = folder(recorder, tmp_path / "run", **changes)
    with pytest.raises(ValueError, match=message):
        recorder.record([made], tmp_path / "results.json")
    assert not (tmp_path / "results.json").exists()


def test_an_unfinished_run_is_refused(recorder, tmp_path):
    length = {"iterations": 64000, "data": "cifar10"}
    made = write_run(tmp_path / "run", "cifar_resnet20", [(20, 90.0)], [(400, 50.0)], kept=False, **length)
    with pytest.raises(ValueError, match="run: 400 of 64,000 iterations are done; go on"):
        recorder.record([made], tmp_path / "results.json")


def test_the_warm_up_of_110_layers_belongs_to_the_paper(recorder, tmp_path):
    warm = {"warmup_share": 0.1, "warmup_until_error": 80.0}
    made = folder(recorder, tmp_path / "run", "cifar_resnet110", error=6.5, **warm)
    (run,) = recorder.record([made], tmp_path / "results.json")
    assert run["schedule"].endswith("48,000, at 0.01 until the training error is below 80 %")


TOOL = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
folder.mkdir(parents=True, exist_ok=True)
with (folder / "calls").open("a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
if "plain20" in folder.name:
    sys.exit(1)
if not (folder / "half").exists():
    (folder / "half").write_text("of the way")
    time.sleep(600)
(folder / "model.safetensors").touch()
"""


@pytest.fixture
def queue(runs, tmp_path, monkeypatch):
    """Recipes, a tool whose first call of a run takes long, and how the queue is called."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/pretrain_imagenet.py").write_text(TOOL)
    for net in ("plain20", "resnet20", "resnet56"):
        (tmp_path / "configs/cifar").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"configs/cifar/{net}.yaml").touch()
    monkeypatch.setattr(runs.run_queue, "ROOT", tmp_path)
    recorded = []
    monkeypatch.setattr(runs, "record", lambda folders: recorded.extend(one.name for one in folders) or [])

    def call(*words):
        return runs.main(["--data", "cifar10", "--runs", str(tmp_path / "runs"), "--seeds", "3", *words])

    call.recorded = recorded
    return call


def test_the_queue_stops_at_its_limit_and_goes_on(queue, runs, tmp_path, monkeypatch, capsys):
    def at_work(words, **more):
        """A tool that has begun, for which a busy machine may take longer than the limit."""
        process = subprocess.Popen(words, **more)
        wait_for(tmp_path / "runs/resnet20-seed3/half", process)
        return process

    with monkeypatch.context() as patch:
        clients = SimpleNamespace(Popen=at_work, TimeoutExpired=subprocess.TimeoutExpired)
        patch.setattr(runs.run_queue, "subprocess", clients)
        assert queue("--nets", "resnet20", "resnet56", "--limit", "2", "--options", "precision", "bf16") == 130
    assert queue.recorded == [] and not (tmp_path / "runs/resnet20-seed3/model.safetensors").exists()
    assert "resnet20-seed3: stopped and saved; the same command goes on" in capsys.readouterr().out
    assert not (tmp_path / "runs/resnet56-seed3").exists()
    (tmp_path / "runs/resnet56-seed3").mkdir()
    (tmp_path / "runs/resnet56-seed3/half").touch()
    assert queue("--nets", "resnet20", "resnet56", "--options", "precision", "bf16") == 0
    assert queue.recorded == ["resnet20-seed3", "resnet56-seed3"]
    calls = (tmp_path / "runs/resnet20-seed3/calls").read_text().splitlines()
    assert len(calls) == 2 and calls[0] == calls[1] and "--seed 3 --resume precision bf16" in calls[0]
    origin = json.loads((tmp_path / "runs/resnet20-seed3/origin.json").read_text())
    assert origin["command"] == (
        "python tools/pretrain_imagenet.py --config configs/cifar/resnet20.yaml --data CIFAR "
        "--output RUNS/resnet20-seed3 --seed 3 --resume precision bf16"
    )
    assert queue("--nets", "resnet20", "resnet56") == 0 and len(queue.recorded) == 2, "finished: not done again"


def test_a_run_that_is_stopped_before_it_listens_has_not_failed(queue, tmp_path, capsys):
    (tmp_path / "tools/pretrain_imagenet.py").write_text("import time; time.sleep(600)")
    assert queue("--nets", "resnet20", "resnet56", "--limit", "0.5") == 130
    assert "failed" not in capsys.readouterr().err and not (tmp_path / "runs/resnet56-seed3").exists()


def test_a_failing_run_does_not_hold_up_the_others(queue, tmp_path, capsys):
    (tmp_path / "runs/resnet20-seed3").mkdir(parents=True)
    (tmp_path / "runs/resnet20-seed3/half").touch()
    assert queue("--nets", "plain20", "resnet20") == 1
    assert queue.recorded == ["resnet20-seed3"] and "plain20-seed3: failed" in capsys.readouterr().err
    assert queue("--nets", "resnet21") == 1
    assert capsys.readouterr().err == "error: --nets resnet21: no recipe configs/cifar/resnet21.yaml\n"


def test_commits_of_a_run_are_all_kept(runs, tmp_path, monkeypatch):
    for commit in ("abc", "abc", "def"):
        monkeypatch.setattr(runs.run_queue, "versions", lambda commit=commit: {"resnet_backbone": commit})
        runs.run_queue.write_origin(tmp_path, "python x.py")
    assert json.loads((tmp_path / "origin.json").read_text())["commit"] == "abc; def"


def test_the_tool_shows_the_table_without_running(runs, capsys):
    assert runs.main(["--table"]) == 0
    assert "| ResNet-56 | 6.97 |" in capsys.readouterr().out
    assert runs.main([]) == 1 and "no data: --data CIFAR" in capsys.readouterr().err
