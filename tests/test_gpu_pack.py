"""What travels to a GPU machine and back: CIFAR's pieces, what fits into a call, and entries that come home."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def module(monkeypatch, name):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module(f"benchmarks.{name}")


def write_binaries(folder, carry):
    """Six files of noise in the official layout."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in carry.FILES:
        rng.integers(0, 256, (2 * carry.PIECE, carry.LINE), np.uint8).tofile(folder / name)
    return folder


def test_pieces_give_back_every_byte_and_say_which_is_missing_or_damaged(monkeypatch, tmp_path):
    carry = module(monkeypatch, "carry_cifar")
    monkeypatch.setattr(carry, "PIECE", 200)
    data = write_binaries(tmp_path / "data", carry)
    first, second = tmp_path / "1", tmp_path / "2"
    written = carry.pack(data, first)
    second.mkdir()
    for path in written[5:]:
        path.rename(second / path.name)
    carry.unpack([first, second], tmp_path / "cifar-10-batches-bin")
    for name in carry.FILES:
        assert (tmp_path / "cifar-10-batches-bin" / name).read_bytes() == (data / name).read_bytes()
    with pytest.raises(ValueError, match=r"7 of 12 pieces are missing, as data_batch_3.bin.1.npz"):
        carry.unpack([first], tmp_path / "other")
    piece = dict(np.load(written[0]))
    np.savez(written[0], **{**piece, "labels": piece["labels"] + 1})
    with pytest.raises(ValueError, match=r"data_batch_1.bin.0.npz: other bytes than were packed"):
        carry.read_piece(written[0])


def test_a_call_is_filled_and_what_is_left_over_is_said(monkeypatch, tmp_path):
    gpu_pack = module(monkeypatch, "gpu_pack")
    folders = [tmp_path / "1", tmp_path / "2"]
    for folder in (*folders, tmp_path / "pieces"):
        folder.mkdir()
    (folders[0] / "commit.txt").write_bytes(bytes(25))
    pieces = [tmp_path / "pieces" / str(number) for number in range(5)]
    for path in pieces:
        path.write_bytes(bytes(20))
    # 45 - 25 bytes of room are one piece, 45 bytes are two.
    with pytest.raises(ValueError, match=r"2 of CIFAR's pieces do not fit into 2 calls; leave out --detectors"):
        gpu_pack.split(pieces, folders, 45)
    assert [sorted(path.name for path in folder.iterdir()) for folder in folders] == [["0", "commit.txt"], ["1", "2"]]


def test_runs_travel_without_what_nobody_needs_and_never_over_newer_ones(monkeypatch, tmp_path):
    session = module(monkeypatch, "gpu_session")
    monkeypatch.setattr(session, "PART", 100)
    names = ("a/model.safetensors", "a/last.pth", "a/metrics.jsonl", "b/last.pth", "b/tensorboard/events")
    for name in names:
        (tmp_path / "runs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / name).write_text(name)
    out, home = tmp_path / "out", tmp_path / "home"
    out.mkdir()
    session.put_runs(tmp_path / "runs", out)
    assert len(list(out.iterdir())) > 1 and max(path.stat().st_size for path in out.iterdir()) <= 100
    (home / "b").mkdir(parents=True)
    (home / "b/last.pth").write_text("newer")
    session.take_runs(out, home)
    found = {str(path.relative_to(home)): path.read_text() for path in home.rglob("*") if path.is_file()}
    assert found == {name: name for name in ("a/model.safetensors", "a/metrics.jsonl")} | {"b/last.pth": "newer"}


def test_entries_come_home_and_cifars_runs_join_those_that_are_there(monkeypatch, tmp_path):
    gpu_pack, record = module(monkeypatch, "gpu_pack"), module(monkeypatch, "record")
    results, out = tmp_path / "results.json", tmp_path / "out"

    def entry(name, **run):
        return record.make_entry(name, "Made up.", "python -m none", [run], settings={})

    def cifar(seed):
        return entry("cifar-short", experiment="CIFAR-10", network="resnet20", seed=seed, error=8.0 + seed)

    record.record(cifar(1), entry("classifier-speed", speed=1), path=results)
    record.record(cifar(2), entry("classifier-speed", speed=2), path=out / "entries.json")
    assert gpu_pack.merge(out, results, tmp_path / "runs") == ["cifar-short", "classifier-speed"]
    entries = record.read(results)
    assert [run["error"] for run in entries["cifar-short"].runs] == [9.0, 10.0]
    assert [run["speed"] for run in entries["classifier-speed"].runs] == [2]


def test_steps_share_the_time_and_one_that_fails_or_hangs_does_not_stop_the_next(monkeypatch, tmp_path, capfd):
    session = module(monkeypatch, "gpu_session")
    with pytest.raises(ValueError, match="--steps train=9: no such step; choose from check, imagenette"):
        session.plan(["train=9"])
    assert session.plan(["check=150", "cifar"]) == [("check", 150.0), ("cifar", float("inf"))]
    words = {"check": "import sys; sys.exit(3)", "speed": "import time; time.sleep(600)", "cifar": "print('last')"}
    monkeypatch.setattr(session, "command", lambda step, *_: ["-c", words[step]])
    for name, value in (("RESERVE", 0.0), ("GRACE", 0.5), ("RUNS", tmp_path / "none"), ("CARRIED", tmp_path)):
        monkeypatch.setattr(session, name, value)
    monkeypatch.setattr(session.subprocess, "run", lambda *_, **__: None)
    arguments = ["--out", str(tmp_path / "out"), "--limit", "300", "--steps", "check", "speed=2", "cifar"]
    assert session.main(arguments) == 1
    said = capfd.readouterr().out
    assert "last\n" in said and "check        exit 3" in said and "speed        time was up" in said
    assert [one["code"] for one in json.loads((tmp_path / "out/session.json").read_text())] == [3, None, 0]
