"""Checkpoints that stay beside the last one: which, on every file system, and after a run was set back."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest
import torch
from made_pretraining import SMALL, options, tool

from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.training.checkpoint import keep_last
from resnet_backbone.classification.training.classifier import build_classifier
from resnet_backbone.classification.training.loop import Loop


@pytest.fixture
def save(tmp_path):
    """save(iteration, count) replaces a last.pth that says its iteration; the names and contents of all files."""

    def saved(iteration: int, count: int = 2) -> dict[str, str]:
        last, new = tmp_path / "last.pth", tmp_path / "new"
        keep_last(last, int(last.read_text()) if last.exists() else 0, count)
        new.write_text(str(iteration))
        new.replace(last)  # as checkpoints are written
        return {file.name: file.read_text() for file in tmp_path.iterdir()}

    return saved


def named(last: int, *older: int) -> dict[str, str]:
    return {"last.pth": str(last)} | {f"last_{one:08d}.pth": str(one) for one in older}


def test_so_many_older_ones_stay_beside_the_last(save):
    assert [save(iteration, 0) for iteration in (1, 2)] == [named(1), named(2)]
    assert [save(iteration) for iteration in (5, 7, 9)] == [named(5, 2), named(7, 2, 5), named(9, 5, 7)]


def test_a_run_that_was_set_back_keeps_what_it_writes(save, tmp_path):
    for iteration in (10, 20, 30, 40):
        save(iteration, 3)
    (tmp_path / "last_good.pth").write_text("the user's own")
    (tmp_path / "last.pth").write_text("10")  # into the file that is there, as cp does
    later = {"last_00000020.pth": "20", "last_00000030.pth": "30", "last_good.pth": "the user's own"}
    assert save(12) == named(12, 10) | later
    assert save(14) == named(14, 10, 12) | later
    assert save(16) == named(16, 12, 14) | later


def test_a_file_system_without_links_gets_copies(save, tmp_path, monkeypatch):
    def refused(*_) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    assert [save(iteration) for iteration in (1, 2, 3, 4)][-1] == named(4, 2, 3)
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1, "who can read one can read all"


def test_a_loop_keeps_what_it_replaces(folders, tmp_path):
    """An evaluation saves the same iteration again."""
    config, data = replace(SMALL, keep=2), open_data(str(folders))

    def make() -> Loop:
        return Loop(config, data, build_classifier(config, 2), tmp_path, torch.device("cpu"))

    def older() -> list[str]:
        return sorted(file.name for file in tmp_path.glob("last_*"))

    loop = make()
    for loop.iteration in (2, 4, 4, 6, 6):
        loop.save()
    assert older() == ["last_00000002.pth", "last_00000004.pth"]
    again = make()
    again.resume()
    again.save()
    assert older() == ["last_00000002.pth", "last_00000004.pth"]
    again.iteration = 8
    again.save()
    assert older() == ["last_00000004.pth", "last_00000006.pth"]
    assert torch.load(tmp_path / "last_00000006.pth", weights_only=True)["iteration"] == 6


def test_what_is_kept_is_never_deleted_unasked_and_a_damaged_last_one_points_to_it(folders, tmp_path, capfd):
    run = tmp_path / "run"
    config = replace(SMALL, epochs=None, iterations=4, save_every=1.0, test_every=0.0, keep=2, exact_norm_images=0)
    assert tool(options(run, config, folders)) == 0
    (run / "last.pth").write_bytes(b"")
    (run / "model.safetensors").unlink()
    assert tool(options(run, config, folders, resume=True)) == 1
    assert "(EOFError); copy last_00000003.pth over it to go on from there, or start anew" in capfd.readouterr().err
    (run / "last.pth").unlink()
    for resume, remedy in ((False, "holds a run: go on with --resume"), (True, "copy last_00000003.pth to last.pth")):
        assert tool(options(run, config, folders, resume=resume)) == 1
        assert remedy in capfd.readouterr().err
    assert sorted(file.name for file in run.glob("last*")) == ["last_00000002.pth", "last_00000003.pth"]
    (run / "last_00000003.pth").rename(run / "last.pth")
    assert tool(options(run, config, folders, resume=True)) == 0
    assert "after 3 iterations" in capfd.readouterr().out
