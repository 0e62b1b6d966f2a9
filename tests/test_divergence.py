"""Numbers that are none stop a run with iteration, rate and images; the last good checkpoint is kept."""

from __future__ import annotations

import itertools
import math
from functools import partial
from pathlib import Path

import made_runs
import pytest
from detectron2.modeling import GeneralizedRCNN
from made_data import TINY, write_rectangles
from made_runs import last_state

from resnet_backbone.detection.training.loop import Loop
from resnet_backbone.detection.training.run import run
from resnet_backbone.engine.step import Diverged

options = partial(made_runs.options, text=TINY)


@pytest.fixture
def data(tmp_path) -> Path:
    return write_rectangles(tmp_path / "rectangles")


def spoiled_losses(monkeypatch, at: int, spoil) -> None:
    """From call `at` on, the detector's losses are what `spoil(model, losses)` makes of them."""
    forward, calls = GeneralizedRCNN.forward, itertools.count()

    def other(self, inputs):
        losses = forward(self, inputs)
        return spoil(self, losses) if next(calls) >= at else losses

    monkeypatch.setattr(GeneralizedRCNN, "forward", other)


def diverged(tmp_path, data) -> str:
    """What a run says that goes wrong in its third iteration; its checkpoint of the second stays."""
    with pytest.raises(Diverged) as caught:
        run(options(tmp_path, data, "SOLVER.CHECKPOINT_PERIOD", "1"))
    said, state = str(caught.value), last_state(tmp_path)
    assert "at iteration 3 (rate 0.01, images " in said and said.count(".png") == 2 and "lower SOLVER.BASE_LR" in said
    assert f"the last checkpoint is kept: {tmp_path / 'run' / 'last.pth'}" in said and "\n" not in said
    assert state["iteration"] == 2 and all(value.isfinite().all() for value in state["model"].values())
    return said


def test_a_loss_that_is_no_number_stops_with_rate_and_images(tmp_path, data, monkeypatch):
    spoiled_losses(monkeypatch, 2, lambda _, losses: losses | {"loss_cls": losses["loss_cls"] * math.nan})
    assert "the loss is {'loss_cls': nan, 'loss_box_reg': " in diverged(tmp_path, data)


def test_proposals_that_are_no_numbers_stop_with_rate_and_images(tmp_path, data, monkeypatch):
    def spoil(model, losses):
        model.proposal_generator.rpn_head.anchor_deltas.bias.data.fill_(math.inf)
        return losses

    spoiled_losses(monkeypatch, 1, spoil)  # for the iteration after
    with pytest.raises(Diverged, match=r"^the proposals are no numbers at iteration 3 \(rate 0.01, .*png") as caught:
        run(options(tmp_path, data, "SOLVER.CHECKPOINT_PERIOD", "10"))
    assert "is kept" not in str(caught.value) and not (tmp_path / "run" / "last.pth").exists()


def test_a_gradient_that_is_no_number_stops_though_the_losses_are_finite(tmp_path, data, monkeypatch):
    def spoil(model, losses):
        bias = model.roi_heads.box_predictor.cls_score.bias
        return losses | {"loss_cls": losses["loss_cls"] + (bias * 0).sum().sqrt()}

    spoiled_losses(monkeypatch, 2, spoil)
    said = diverged(tmp_path, data)
    assert "the losses are finite, but not the gradients of roi_heads.box_predictor.cls_score.bias at" in said


def test_weights_that_are_no_numbers_are_not_saved(tmp_path, data, monkeypatch):
    step = Loop._step

    def overflowing(self, *arguments):
        losses = step(self, *arguments)
        if self.iteration == 2:
            self.model.roi_heads.box_predictor.cls_score.weight.data[0, 0] = math.inf
        return losses

    monkeypatch.setattr(Loop, "_step", overflowing)
    said = diverged(tmp_path, data)
    assert "no numbers any more in the weights of roi_heads.box_predictor.cls_score.weight at" in said
