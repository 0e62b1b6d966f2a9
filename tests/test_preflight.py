"""What any trainer looks at before a run: findings, errors that become findings, and room."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resnet_backbone.engine.preflight import Finding, Report, errors_into, versions
from resnet_backbone.engine.room import checkpoint_size, disk, refuse, room, shared_memory


def test_report():
    lines = []
    report = Report(lines.append)
    report.add(Finding("ok", "a"), Finding("warning", "b"))
    assert report.exit_code == 0 and report.verdict() == "Training can start; 1 to think about."
    report.add(Finding("error", "c"))
    assert report.exit_code == 1 and report.verdict() == "Training should not start: 1 error, 1 to think about."
    assert lines == ["  ok       a", "  warning  b", "  error    c"]


def test_what_a_run_would_end_with_is_a_finding():
    report = Report(lambda line: None)
    for error in (
        ValueError("rate: -1"),
        FileNotFoundError(2, "none", "a.png"),
        KeyError("stem"),
        RuntimeError("a\nb"),
    ):
        with errors_into(report):
            raise error
    assert {finding.level for finding in report.findings} == {"error"}
    assert [finding.text for finding in report.findings] == [
        "rate: -1",
        "[Errno 2] none: 'a.png'",
        "KeyError: 'stem'; a run would break off there",
        "RuntimeError: a; a run would break off there",
    ]
    for full in (MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate")):
        with pytest.raises(type(full)), errors_into(report):
            raise full


def test_versions():
    finding = versions(["torch", "no-such-package"])
    assert f"torch {torch.__version__}".split("+")[0] in finding.text and "no-such-package without" in finding.text


def test_a_checkpoint_has_weights_average_and_what_the_optimiser_keeps():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))  # 8 + 4 parameters, 4 statistics, one counter of 8 bytes
    model[1].requires_grad_(False)
    assert checkpoint_size(model) == 4 * (8 + 4 + 4) + 8 + 4 * 8
    assert checkpoint_size(model, moments=2, averaged=True) == 2 * (4 * (8 + 4 + 4) + 8) + 2 * 4 * 8


def test_room(tmp_path):
    assert disk(tmp_path / "not" / "yet", 10**3).level == "ok"
    assert disk(tmp_path, 10**18).level == "error"
    assert shared_memory(0) is None
    assert shared_memory(10, free=11).level == "ok"
    little = shared_memory(10, "WORKERS", free=9)
    assert little.level == "error" and little.text.endswith("--shm-size=8g, or set WORKERS 0")
    assert [finding.level for finding in room(tmp_path, 0, batch=10**18, workers=0)] == ["ok"]
    found = room(tmp_path, 10**18, batch=10**18, workers=1, workers_key="WORKERS")
    assert "three are needed at a time" in found[0].text
    with pytest.raises(ValueError, match="three are needed at a time"):
        refuse(found)
    refuse([Finding("warning", "a")])
