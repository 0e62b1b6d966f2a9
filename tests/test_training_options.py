"""The trainer's options (docs/training.md): each does what it says, survives a resume, and refuses what cannot be."""

from __future__ import annotations

import copy
import itertools
import math
from functools import partial
from pathlib import Path

import made_runs
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from made_data import TINY, write_config, write_rectangles
from made_runs import Scores, last_state
from torch import nn

from resnet_backbone.detection.training.batches import training_batches, training_records
from resnet_backbone.detection.training.loop import Loop
from resnet_backbone.detection.training.optimizer import make_optimizer
from resnet_backbone.detection.training.options import metric_names
from resnet_backbone.detection.training.precise_bn import PURPOSE
from resnet_backbone.detection.training.run import run
from resnet_backbone.detection.training.settle import settle
from resnet_backbone.detection.training.testing import flat
from resnet_backbone.engine.seeds import seed_of
from resnet_backbone.engine.step import TrainStep
from resnet_backbone.weights.files import read_weights

options = partial(made_runs.options, text=TINY)

EMA = ("SOLVER.EMA.ENABLED", "True")


BEST = ("TEST.EVAL_PERIOD", "2", "TEST.BEST_METRIC", "bbox/AP", "SOLVER.MAX_ITER", "6")


@pytest.fixture
def data(tmp_path) -> Path:
    return write_rectangles(tmp_path / "rectangles")


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def scores(monkeypatch):
    return Scores(monkeypatch)


def test_the_best_checkpoint_holds_the_weights_that_were_tested(tmp_path, data, scores, capsys):
    scores.next = [math.nan, 20.0, 20.0]
    run(options(tmp_path, data, *BEST, *EMA))
    best = read_weights(tmp_path / "run" / "model_best.pth")
    assert same(best.state, scores.tested[1]) and not same(best.state, scores.tested[2])
    assert best.record.variant == "resnet18" and "best bbox/AP, 20.00, after 4 iterations" in best.record.notes
    said = capsys.readouterr().out
    assert "bbox/AP nan after 2 iterations: not kept" in said
    assert "bbox/AP 20.00 after 4 iterations: the best so far" in said
    assert "bbox/AP 20.00 after 6 iterations: not better than 20.00 after 4" in said
    assert "weights of the best evaluation" in said and "model_best.pth" in said


def test_the_last_evaluation_can_be_the_best_and_a_resumed_run_knows_the_old_one(tmp_path, data, scores):
    scores.next = [20.0, RuntimeError("killed")]
    with pytest.raises(RuntimeError, match="killed"):
        run(options(tmp_path, data, *BEST))
    assert last_state(tmp_path)["iteration"] == 4 and last_state(tmp_path)["tested"] == 2
    first = (tmp_path / "run" / "model_best.pth").read_bytes()
    # The evaluation that did not end is made first of all.
    scores.next = [10.0, RuntimeError("killed")]
    with pytest.raises(RuntimeError, match="killed"):
        run(options(tmp_path, data, *BEST, resume=True))
    assert same(scores.tested[1], scores.tested[2])
    assert (tmp_path / "run" / "model_best.pth").read_bytes() == first
    scores.next = [30.0]
    run(options(tmp_path, data, *BEST, resume=True))
    assert same(read_weights(tmp_path / "run" / "model_best.pth").state, scores.tested[-1])
    assert last_state(tmp_path)["best"] == {"metric": "bbox/AP", "value": 30.0, "iteration": 6}


def test_a_metric_that_there_is_not_is_refused_as_soon_as_it_can_be(tmp_path, data, scores):
    with pytest.raises(
        ValueError, match="TEST.BEST_METRIC: no metric 'bbox/AP51'; the nearest are bbox/AP75, bbox/AP50"
    ):
        run(options(tmp_path, data, *BEST[:2], "TEST.BEST_METRIC", "bbox/AP51"))
    # Masks may be asked for and not be in the data: the first evaluation knows, and nothing is lost.
    scores.next = [1.0]
    pairs = ("TEST.EVAL_PERIOD", "3", "TEST.BEST_METRIC", "segm/AP", "MODEL.MASK_ON", "True")
    with pytest.raises(ValueError, match="no metric 'segm/AP'; the nearest are bbox/AP"):
        run(options(tmp_path, data, *pairs))
    assert last_state(tmp_path)["iteration"] == 3


def test_the_names_known_beforehand_are_those_of_an_evaluation(tmp_path, data):
    pairs = ("MODEL.MASK_ON", "True", "SOLVER.MAX_ITER", "1", "TEST.PICTURES", "0")
    results = run(options(tmp_path, data, *pairs))
    cfg = settle(options(tmp_path, data, *pairs, overwrite=True)).cfg
    assert set(metric_names(cfg)) == set(flat(results))


def test_the_average_is_tested_written_and_resumed(tmp_path, data, scores):
    scores.next = [1.0]
    run(options(tmp_path, data, *EMA, "SOLVER.EMA.DECAY", "0.2"))
    state, final = last_state(tmp_path), read_weights(tmp_path / "run" / "model_final.pth").state
    average = {k.removeprefix("module."): v for k, v in state["ema"].items() if k != "n_averaged"}
    assert same(final, average) and same(final, scores.tested[0]) and state["ema"]["n_averaged"] == 4
    key = "backbone.bottom_up.stem.conv1.weight"
    assert state["model"].keys() == final.keys() and not torch.equal(state["model"][key], final[key])


def prepared(tmp_path, data, *pairs) -> Loop:
    ready = settle(options(tmp_path, data, *pairs))
    torch.manual_seed(ready.cfg.SEED)
    return Loop(ready.cfg, build_model(ready.cfg), training_records(ready.cfg), ready.output)


@pytest.mark.parametrize("parts", [1, 2])
def test_precise_norms_are_exact_averages_and_leave_no_trace(tmp_path, data, parts):
    pairs = ("TEST.PRECISE_BN.ENABLED", "True", "TEST.PRECISE_BN.NUM_ITER", "3", "SOLVER.ACCUMULATE", str(parts))
    loop = prepared(tmp_path, data, *pairs)
    loop.iteration = 40
    before = copy.deepcopy(loop.model.state_dict())
    # By hand: everything that enters a batch norm, of all images together.
    model = copy.deepcopy(loop.model).train()
    entering: dict[str, list[torch.Tensor]] = {}
    norms = {name: m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for name, norm in norms.items():
        norm.register_forward_pre_hook(
            lambda _, x, name=name: entering.setdefault(name, []).append(x[0].transpose(0, 1).flatten(1).double())
        )
    batches = training_batches(loop.cfg, loop.records, seed_of(loop.cfg.SEED, 0, 40, PURPOSE))
    with torch.no_grad():
        for batch in itertools.islice(batches, 3):
            for part in (batch,) if parts == 1 else ([one] for one in batch):
                model.backbone(model.preprocess_image(part).tensor)
    with loop.tested() as tested:
        found = dict(tested.named_modules())
        assert len(norms) == 20 and tested is loop.model
        for name in norms:
            values = torch.cat(entering[name], 1)
            mean, variance = values.mean(1), values.var(1, unbiased=False)
            torch.testing.assert_close(found[name].running_mean.double(), mean, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(found[name].running_var.double(), variance, rtol=1e-3, atol=1e-5)
            assert found[name].momentum == 0.1
    assert same(loop.model.state_dict(), before)


def test_precise_norms_do_not_change_what_is_trained(tmp_path, data, scores):
    scores.next = [1.0] * 4
    pairs = ("TEST.EVAL_PERIOD", "2")
    run(options(tmp_path, data, *pairs))
    without = last_state(tmp_path)
    run(options(tmp_path, data, *pairs, "TEST.PRECISE_BN.ENABLED", "True", "TEST.PRECISE_BN.NUM_ITER", "1",
                overwrite=True))  # fmt: skip
    assert same(without["model"], last_state(tmp_path)["model"])
    key = "backbone.bottom_up.stem.conv1.norm.running_mean"
    final = read_weights(tmp_path / "run" / "model_final.pth").state
    assert same(final, scores.tested[3]) and not torch.equal(final[key], without["model"][key])


class Line(nn.Module):
    """Its gradient is the mean of what it is given, for each parameter times another number."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))

    def forward(self, examples):
        return {"loss": torch.stack(examples).mean() * (self.small.sum() + 10 * self.large.sum())}


def loop_cfg(tmp_path):
    from resnet_backbone.detection.training.config import read_config

    return read_config(write_config(tmp_path, TINY)).cfg


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("kind", ["norm", "value"])
@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_clipping_is_of_the_sum_and_of_the_unscaled_gradient(tmp_path, optimizer, kind, dtype):
    cfg = copy.deepcopy(loop_cfg(tmp_path))
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.BASE_LR, cfg.SOLVER.MOMENTUM, cfg.SOLVER.WEIGHT_DECAY = optimizer, 1.0, 0.0, 0.0
    clip = cfg.SOLVER.CLIP_GRADIENTS
    clip.ENABLED, clip.CLIP_TYPE, clip.CLIP_VALUE = True, kind, 2.0
    model = Line()
    made = make_optimizer(cfg, model)
    # Two parts with gradients -1 and 3, whose mean is 1: clipped by themselves they would give other numbers.
    TrainStep(made, parts=2, dtype=dtype)(model, [torch.tensor(-1.0), torch.tensor(3.0)], 0)
    # Detectron2 clips every tensor by itself. By hand: norms sqrt(2) < 2, and 10 sqrt(3) > 2.
    large = {"norm": 2 / math.sqrt(3), "value": 2.0}[kind]
    torch.testing.assert_close(model.small.grad, torch.full((2,), 1.0), rtol=1e-3, atol=0)
    torch.testing.assert_close(model.large.grad, torch.full((3,), large), rtol=1e-3, atol=0)
    if optimizer == "SGD":
        torch.testing.assert_close(model.large.detach(), torch.full((3,), -large), rtol=1e-3, atol=0)


def test_accumulation_trains_a_detector_nearly_as_the_whole_batch(tmp_path, data, scores):
    """Nearly: batch norm and the sampled regions, whose number the losses are divided by, are those of a part."""
    batches = []
    for parts in (1, 2):
        loop = prepared(tmp_path, data, "SOLVER.ACCUMULATE", str(parts), "MODEL.RESNETS.NORM", "GN")
        batch = next(training_batches(loop.cfg, loop.records, 1))
        with EventStorage():
            losses = loop._step(loop.model, batch)
        gradient = torch.cat([p.grad.flatten() for p in loop.model.parameters()])
        batches.append((sum(losses.values()), gradient))
    (whole, a), (split, b) = batches
    assert split == pytest.approx(whole, rel=0.2) and split != whole
    assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.8


def test_options_that_cannot_be_are_one_sentence(tmp_path, data):
    def said(*pairs) -> str:
        with pytest.raises(ValueError) as caught:
            run(options(tmp_path, data, *pairs))
        assert "\n" not in str(caught.value) and not (tmp_path / "run" / "last.pth").exists()
        return str(caught.value)

    assert "SOLVER.ACCUMULATE: 0: at least 1" in said("SOLVER.ACCUMULATE", "0")
    assert "a batch of 2 on 1 processes cannot be split into 4 micro-batches" in said("SOLVER.ACCUMULATE", "4")
    assert "SOLVER.EMA.DECAY: 1 is not between 0 and 1" in said(*EMA, "SOLVER.EMA.DECAY", "1.0")
    assert "TEST.EVAL_PERIOD is 0" in said("TEST.BEST_METRIC", "bbox/AP")
    precise = ("TEST.PRECISE_BN.ENABLED", "True")
    assert "TEST.PRECISE_BN.NUM_ITER: 0: at least 1" in said(*precise, "TEST.PRECISE_BN.NUM_ITER", "0")
    error = said(*precise, "MODEL.RESNETS.NORM", "GN")
    assert "no batch norm that learns (MODEL.RESNETS.NORM is GN, MODEL.BACKBONE.FREEZE_AT 0); leave it False" in error
    clip = ("SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model")
    assert "CLIP_TYPE: 'full_model': use one of ['value', 'norm']" in said(*clip)
    assert "SOLVER.AMP.DTYPE: 'fp16' needs a GPU" in said("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "fp16")
