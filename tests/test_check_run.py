"""`--check` beside the run that it is of: its folder, the checkpoint that it would go on from, and its test."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.modeling import StandardROIHeads
from made_data import TINY, write_config, write_rectangles

from resnet_backbone.detection.preflight.check import check
from resnet_backbone.detection.training.run import run
from resnet_backbone.detection.training.settle import RunOptions


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rectangles(tmp_path / "rectangles")


def options(tmp_path: Path, data: Path, *pairs: str, **more: bool) -> RunOptions:
    return RunOptions(write_config(tmp_path, TINY), ("DATA.ROOT", str(data), *pairs), tmp_path / "run", **more)


def looked_at(*arguments: Path | str, **more: bool) -> tuple[int, list[str]]:
    lines: list[str] = []
    return check(options(*arguments, check=True, **more), lines.append), [" ".join(line.split()) for line in lines]


def refusal(*arguments: Path | str, **more: bool) -> str:
    with pytest.raises(ValueError) as caught:
        run(options(*arguments, **more))
    return str(caught.value)


def test_a_folder_that_holds_a_run_is_said(tmp_path: Path, data: Path) -> None:
    run(options(tmp_path, data, "SOLVER.MAX_ITER", "2", "TEST.PICTURES", "0"))
    code, lines = looked_at(tmp_path, data)
    assert code == 0 and f"note {refusal(tmp_path, data)}" in lines
    for more in ({"overwrite": True}, {"resume": True}):
        assert not any("holds a run" in line for line in looked_at(tmp_path, data, "SOLVER.MAX_ITER", "2", **more)[1])


def test_what_resuming_refuses_is_found(tmp_path: Path, data: Path) -> None:
    run(options(tmp_path, data, "SOLVER.MAX_ITER", "2", "TEST.PICTURES", "0"))
    last = tmp_path / "run/last.pth"
    for pair in (("SOLVER.BASE_LR", "0.5"), ("MODEL.RPN.NMS_THRESH", "0.5")):
        keys = ("SOLVER.MAX_ITER", "2", *pair)
        code, lines = looked_at(tmp_path, data, *keys, resume=True)
        assert code == 1 and f"error {refusal(tmp_path, data, *keys, resume=True)}" in lines
    code, lines = looked_at(tmp_path, data, "SOLVER.MAX_ITER", "2", resume=True)
    assert code == 0 and f"ok {last} goes on after 2 of 2 iterations" in lines
    code, lines = looked_at(tmp_path, data, "SOLVER.MAX_ITER", "9", resume=True, new_schedule=True)
    assert code == 0 and "note from there on SOLVER.MAX_ITER 9 instead of 2" in lines
    state = torch.load(last, weights_only=True)
    torch.save({**state, "iteration": 5}, last)
    code, lines = looked_at(tmp_path, data, "SOLVER.MAX_ITER", "2", resume=True)
    assert code == 1 and any("has 5 iterations behind it; give as many or more" in line for line in lines)


def test_nothing_to_resume_yet_is_no_mistake(tmp_path: Path, data: Path) -> None:
    assert looked_at(tmp_path, data, resume=True)[0] == 0


def test_an_image_is_tested_on(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "TEST.DETECTIONS_PER_IMAGE", "3")
    code, lines = looked_at(tmp_path, data, *keys)
    assert code == 0 and any(line.startswith("ok a test image: 3 detections, ") for line in lines), lines

    forward = StandardROIHeads._forward_box

    def fail(self: StandardROIHeads, *arguments: object) -> object:
        if not self.training:
            raise IndexError("no such level")
        return forward(self, *arguments)

    monkeypatch.setattr(StandardROIHeads, "_forward_box", fail)
    code, lines = looked_at(tmp_path, data, *keys)
    assert code == 1 and "error IndexError: no such level; a run would break off there" in lines
