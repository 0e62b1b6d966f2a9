"""The trainer's options (docs/training.md): each does what it says, survives a resume, and refuses what cannot be."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path

import pytest
import torch
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils.events import EventStorage
from made_data import TINY, write_config, write_rectangles
from torch import nn

from resnet_backbone.detection.training import loop as loop_module
from resnet_backbone.detection.training import run as run_module
from resnet_backbone.detection.training.batches import seed_of, training_batches, training_records
from resnet_backbone.detection.training.loop import Loop
from resnet_backbone.detection.training.optimizer import make_optimizer
from resnet_backbone.detection.training.options import metric_names
from resnet_backbone.detection.training.precise_bn import PURPOSE
from resnet_backbone.detection.training.run import run
from resnet_backbone.detection.training.settle import RunOptions, settle
from resnet_backbone.detection.training.testing import flat
from resnet_backbone.engine.step import Diverged, TrainStep
from resnet_backbone.weights.files import read_weights

EMA = ("SOLVER.EMA.ENABLED", "True")
BEST = ("TEST.EVAL_PERIOD", "2", "TEST.BEST_METRIC", "bbox/AP", "SOLVER.MAX_ITER", "6")


@pytest.fixture
def data(tmp_path) -> Path:
    return write_rectangles(tmp_path / "rectangles")


def options(tmp_path, data, *pairs, **more) -> RunOptions:
    return RunOptions(write_config(tmp_path, TINY), ("DATA.ROOT", str(data), *pairs), tmp_path / "run", **more)


def last_state(tmp_path):
    return torch.load(tmp_path / "run" / "last.pth", weights_only=True)


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def scores(monkeypatch):
    """Evaluations that find what the test says: each takes the next AP; keeps the weights that were tested."""

    class Scores:
        def __init__(self) -> None:
            self.next, self.tested = [], []

        def __call__(self, cfg, model, output, **_):
            self.tested.append({name: value.clone() for name, value in model.state_dict().items()})
            value = self.next.pop(0)
            if isinstance(value, Exception):
                raise value
            return {"train_test": {"bbox": {"AP": value, "AP50": 50.0}}}

    made = Scores()
    monkeypatch.setattr(run_module, "test", made)
    return made


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


def loop_cfg(tmp_path):
    from resnet_backbone.detection.training.config import read_config

    return read_config(write_config(tmp_path, TINY)).cfg


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
