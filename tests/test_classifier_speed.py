"""The arithmetic of the classifiers' speed, and that everybody's steps are the same."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def speed(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    precision = torch.get_float32_matmul_precision()
    yield importlib.import_module("benchmarks.classifier_speed")
    torch.set_float32_matmul_precision(precision)  # which `main` lowers


def test_ratios_are_of_the_same_rounds_and_shares_of_the_card(speed):
    run = speed.summary("timm", [0.2, 0.4, 0.3], [0.1, 0.1, 0.3], 12.5, 6)
    assert run["images_s"] == pytest.approx(20) and run["peak_mb"] == 12.5  # 6 in 0.3 s
    assert (run["ratio_q1"], run["ratio"], run["ratio_q3"]) == pytest.approx((1.5, 2, 3))  # of 2, 4, 1
    run |= {"network": "resnet50", "side": 224, "switches": "channels_last + bf16"}
    found = speed.shares(run, {"tflops": 790, "gb_s": 4300})
    # The bounds that were worked out before: 32,512 images/s by arithmetic, 8,856 by bandwidth.
    assert found["arithmetic_percent"] == pytest.approx(100 * 20 / 32512, rel=1e-3)
    assert found["memory_percent"] == pytest.approx(100 * 20 / 8856, rel=1e-3)
    compiled = speed.shares(run | {"switches": "channels_last + bf16 + compile"}, {"tflops": 790, "gb_s": 4300})
    assert compiled["memory_percent"] == pytest.approx(100 * 20 / 12599, rel=1e-3)
    whole = speed.shares(run | {"switches": "none"}, {"tflops": 790, "gb_s": 4300})
    assert whole["memory_percent"] == pytest.approx(2 * found["memory_percent"])


def test_the_tools_step_and_the_plain_one_do_the_same(speed):
    images, labels, states = torch.randn(2, 3, 32, 32), torch.tensor([3, 5]), []
    for maker in ("ours", speed.CHECKED):
        torch.manual_seed(0)
        network = speed.build(maker, "resnet18").train()
        step = speed.step_of(maker, network, images, labels, speed.Switches(bf16=True))
        for _ in range(2):
            step()
        states.append(network.state_dict())
    assert all(map(torch.equal, states[0].values(), states[1].values()))


def test_a_missing_library_is_a_row_that_was_not_run(speed, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setattr(speed, "MAKERS", ("ours", "timm"))
    runs = speed.measure("resnet18", 2, 32, speed.Switches(), 2, torch.device("cpu"))
    assert [(run["maker"], run["installed"], len(run["seconds_all"])) for run in runs] == [
        ("ours", True, 2), ("timm", False, 0),
    ]  # fmt: skip
    tables = importlib.import_module("benchmarks.classification_tables")
    record = importlib.import_module("benchmarks.record")
    runs = [run | speed.shares(run, {"tflops": 1, "gb_s": 1}) for run in runs]
    made = record.make_entry("classifier-speed", "Made up.", "python -m none", runs, settings={})
    ours, timm = tables.classifier_speed({"classifier-speed": made})[2:4]
    assert "| none | ours |" in ours and "| none | timm | not run: timm not installed |" in timm


def test_the_loop_on_cifars_networks_is_timed(speed, monkeypatch, capsys):
    cifar = importlib.import_module("benchmarks.cifar_speed")
    monkeypatch.setattr(cifar, "PERIOD", 2)
    monkeypatch.setattr("resnet_backbone.engine.loop.PERIOD", 2)
    monkeypatch.setattr(cifar, "NETWORKS", {"cpu": ("cifar_resnet8",)})
    monkeypatch.setattr(cifar, "PAPER", cifar.replace(cifar.PAPER, batch_size=8))
    ((run,),) = cifar.measure_all(torch.device("cpu"), 1)
    assert run["mode"] == "eager" and run["ratio"] == 1 and run["epoch_s"] == pytest.approx(50_000 / run["images_s"])


def test_what_matters_most_is_measured_first_and_recorded_before_the_next(speed, monkeypatch, tmp_path):
    rows = importlib.import_module("benchmarks.speed_rows")
    order = [(network, batch, str(row)) for network, batch, row in rows.ordered(speed.NETWORKS, speed.BATCHES)]
    fast, eager = "channels_last + bf16 + compile", "channels_last + bf16"
    assert order[:3] == [("resnet50", 256, fast), ("resnet101", 256, fast), ("resnet50", 256, eager)]
    assert len(set(order)) == len(order) == 24
    record = importlib.import_module("benchmarks.record")
    path, measured = tmp_path / "entries.json", []

    def measure(network, batch, side, switches, rounds, device):
        measured.append((network, batch, str(switches)))
        if len(measured) == 2:
            raise RuntimeError("no compiler")
        return [{"maker": "ours", "network": network, "side": 32, "switches": str(switches), "images_s": 10.0}]

    def put(entry):
        record.record(entry, path=path)
        kept.append(len(record.read(path)["classifier-speed"].runs))

    kept: list[int] = []
    monkeypatch.setattr(speed, "measure", measure)
    monkeypatch.setattr(speed, "record", put)
    monkeypatch.setattr(speed, "limits", lambda device: {"tflops": 1.0, "gb_s": 1.0})
    assert speed.main(["--device", "cpu", "--seconds", "70", "--networks", "resnet50"]) == 0
    # 70 seconds are enough for no compiled row, by what is guessed.
    assert [row[1:] for row in measured] == [
        (256, eager),
        (256, "none"),
        *((b, s) for s in (eager, "none") for b in (64, 128, 512)),
    ]
    assert kept == list(range(1, 8)), "one of eight failed"
