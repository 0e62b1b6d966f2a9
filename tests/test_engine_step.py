"""The step, the average of the weights, the best metric and the saved state, without any detector."""

from __future__ import annotations

import copy
import math
import random

import pytest
import torch
from torch import distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from resnet_backbone.engine.best import Best, UnknownMetric
from resnet_backbone.engine.checkpoint import fill, read_state, save_state
from resnet_backbone.engine.ema import ema_decay, make_ema
from resnet_backbone.engine.step import SKIPS, Diverged, TrainStep, not_finite, split


class PerImage(nn.Module):
    """Losses that are means over the images; takes a list of (features, target)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))

    def forward(self, examples):
        found = self.layers(torch.stack([x for x, _ in examples]))
        wanted = torch.stack([y for _, y in examples])
        return {"square": F.mse_loss(found, wanted), "absolute": (found - wanted).abs().mean()}


def examples(count=8):
    return [(torch.randn(5), torch.randn(3)) for _ in range(count)]


def gradients(model):
    return [p.grad.clone() for p in model.parameters()]


def stepped(model, batch, parts, **more):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = TrainStep(optimizer, parts=parts, **more)(model, batch, 0)
    return losses, gradients(model)


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulated_gradients_and_losses_are_those_of_the_whole_batch(parts):
    model, batch = PerImage(), examples()
    one, other = copy.deepcopy(model), copy.deepcopy(model)
    losses, whole = stepped(one, batch, 1)
    split_losses, split_gradients = stepped(other, batch, parts)
    assert split_losses == pytest.approx(losses, rel=1e-6)
    for a, b in zip(whole, split_gradients):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    # And the step of plain torch: the optimiser was called once, with these gradients.
    plain = PerImage()
    plain.load_state_dict(model.state_dict())
    sum(plain(batch).values()).backward()
    for p, q in zip(plain.parameters(), other.parameters()):
        torch.testing.assert_close(p.detach() - 0.1 * p.grad, q.detach(), rtol=1e-6, atol=1e-6)


@pytest.fixture
def one_process_group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_processes_exchange_gradients_once_a_step(one_process_group):
    model, batch, exchanged = PerImage(), examples(), []
    plain = copy.deepcopy(model)
    wrapped = DistributedDataParallel(model)

    def count(_, bucket):
        exchanged.append(bucket.index())
        return torch.futures.collect_all([]).then(lambda _: bucket.buffer())

    wrapped.register_comm_hook(None, count)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    TrainStep(optimizer, parts=4)(wrapped, batch, 0)
    assert exchanged == [0]
    stepped(plain, batch, 4)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), plain.parameters()))


def test_every_part_has_a_seed_of_its_own():
    seen = []
    model = PerImage()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    TrainStep(optimizer, parts=4, seed=lambda *place: seen.append(place))(model, examples(), 7)
    assert seen == [(7, 0), (7, 1), (7, 2), (7, 3)]


def test_a_batch_that_does_not_split_is_refused():
    assert [list(part) for part in split([1, 2, 3, 4, 5, 6], 3)] == [[1, 2], [3, 4], [5, 6]]
    for count, parts in ((6, 4), (2, 4), (0, 1)):
        with pytest.raises(ValueError, match=f"a batch of {count} cannot be split into {parts} equal parts"):
            split(list(range(count)), parts)


class Wild(PerImage):
    """Its loss is finite and its gradient, where `wild`, is not: the square root at zero."""

    wild = True

    def forward(self, examples):
        losses = super().forward(examples)
        if self.wild:
            losses["wild"] = (self.layers[2].bias * 0).sum().sqrt()
        return losses


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_gradient_that_is_no_number_is_noticed_before_it_is_used(dtype):
    model = Wild()
    before = copy.deepcopy(model.state_dict())
    step = TrainStep(torch.optim.SGD(model.parameters(), lr=0.1), dtype=dtype)
    with pytest.raises(Diverged, match="the losses are finite, but not the gradients of layers.2.bias$"):
        step(model, examples(), 0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_fp16_skips_such_steps_but_not_for_ever():
    model = Wild()
    before = copy.deepcopy(model.state_dict())
    step, batch = TrainStep(torch.optim.SGD(model.parameters(), lr=0.1), dtype=torch.float16), examples()
    for number in range(SKIPS - 1):
        step(model, batch, number)
    assert step.scaler.get_scale() == 2.0 ** (16 - SKIPS + 1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(Diverged, match=rf"layers.2.bias were no numbers in {SKIPS} steps in a row, down to a loss"):
        step(model, batch, SKIPS)
    # One step that can be taken starts the count anew.
    step = TrainStep(torch.optim.SGD(model.parameters(), lr=0.1), dtype=torch.float16)
    for number in range(2 * SKIPS):
        model.wild = number % (SKIPS - 1) != SKIPS - 2
        step(model, batch, number)
    assert not any(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_losses_that_are_no_numbers_end_the_step():
    model = PerImage()
    step = TrainStep(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(Diverged, match="the loss is {'square': inf, 'absolute': inf}"):
        step(model, [(torch.randn(5), torch.full((3,), math.inf))], 0)
    with pytest.raises(Diverged, match="the proposals are no numbers"):

        def fail(*_):
            raise FloatingPointError("Predicted boxes or scores contain Inf/NaN")

        model.forward = fail
        step(model, examples(), 0)


def test_not_finite_names_what_holds_nan_or_infinity():
    good, large = torch.randn(3), torch.full((4,), 1e38)
    nan, inf = torch.tensor([1.0, math.nan]), torch.tensor([-math.inf])
    counter = torch.tensor(3)
    named = {"good": good, "large": large, "nan": nan, "empty": torch.zeros(0), "inf": inf, "counter": counter}
    assert not_finite(named.items()) == ["nan", "inf"]
    assert not_finite([("good", good), ("large", large), ("counter", counter)]) == []


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)
        self.register_buffer("fixed", torch.ones(2))

    def forward(self, x):
        return self.norm(self.conv(x)).square().mean()


def test_the_average_is_that_of_a_plain_loop():
    torch.manual_seed(1)
    model = Normed()
    ema = make_ema(model, 0.3)
    optimizer, plain = torch.optim.SGD(model.parameters(), lr=0.1), None
    for n in range(8):
        optimizer.zero_grad()
        model(torch.randn(4, 2, 5, 5)).backward()
        optimizer.step()
        ema.update_parameters(model)
        now = {name: value.clone() for name, value in model.state_dict().items()}
        if plain is None:
            plain = now
            continue
        decay = min(0.3, (1 + n) / (10 + n))
        for name, value in now.items():
            floating = value.is_floating_point()
            plain[name] = decay * plain[name] + (1 - decay) * value if floating else value
    average = ema.module.state_dict()
    assert average.keys() == plain.keys() and average["norm.num_batches_tracked"] == 8
    for name, value in plain.items():
        torch.testing.assert_close(average[name], value, rtol=1e-5, atol=1e-6)
    # Statistics of batch norm are averages too, not copies, and what never changes stays to the last bit.
    assert not torch.allclose(average["norm.running_mean"], model.norm.running_mean)
    assert torch.equal(average["fixed"], torch.ones(2))


def test_the_decay_warms_up_and_a_saved_average_goes_on_exactly(tmp_path):
    assert [ema_decay(0.9998, n) for n in (0, 8, 890)] == [0.1, 0.5, 0.99]
    assert ema_decay(0.9998, 10**6) == 0.9998
    model = Normed()
    one = make_ema(model, 0.9)
    states = [copy.deepcopy(model.state_dict()) for _ in range(6)]
    for state in states:
        for value in state.values():
            if value.is_floating_point():
                value.add_(torch.randn_like(value))
    for number, state in enumerate(states):
        model.load_state_dict(state)
        one.update_parameters(model)
        if number == 2:
            save_state(tmp_path / "last.pth", {"ema": one}, iteration=3)
    other = make_ema(Normed(), 0.9)
    fill({"ema": other}, read_state(tmp_path / "last.pth", ("iteration",), ""))
    for state in states[3:]:
        model.load_state_dict(state)
        other.update_parameters(model)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))


def test_the_best_is_the_first_of_the_highest_and_never_nan():
    best = Best("bbox/AP", "TEST.BEST_METRIC")
    values = [math.nan, 10.0, 10.0, math.nan, 9.0, 12.5, 12.5]
    assert [best.improved({"bbox/AP": value}, n) for n, value in enumerate(values)] == [
        False, True, False, False, False, True, False,
    ]  # fmt: skip
    assert (best.value, best.iteration) == (12.5, 5)
    again = Best("bbox/AP")
    again.load_state_dict(best.state_dict())
    assert not again.improved({"bbox/AP": 12.5}, 8) and again.improved({"bbox/AP": 13}, 9)
    # Another metric's best says nothing.
    other = Best("segm/AP")
    other.load_state_dict(best.state_dict())
    assert other.value is None and other.improved({"segm/AP": 1.0}, 8)


def test_an_unknown_metric_names_the_nearest():
    numbers = {"bbox/AP": 1.0, "bbox/AP50": 2.0, "segm/AP50": 2.0, "voc/AP50-dog": 3.0}
    with pytest.raises(UnknownMetric, match="TEST.BEST_METRIC: no metric 'AP50'; the nearest are bbox/AP50, segm/AP50"):
        Best("AP50", "TEST.BEST_METRIC").improved(numbers, 1)
    with pytest.raises(UnknownMetric, match="no metric 'voc/AP50-dgo'; the nearest are voc/AP50-dog"):
        Best("voc/AP50-dgo").improved(numbers, 1)
    with pytest.raises(UnknownMetric, match="no metric 'x'; there are none"):
        Best("x").improved({}, 1)


def test_a_file_that_is_no_state_is_one_sentence(tmp_path):
    path = tmp_path / "last.pth"
    for content in (b"", b"PK\x03\x04 cut off", bytes(random.Random(0).randbytes(500))):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"last.pth: not a checkpoint of this tool \(\w+\); start anew"):
            read_state(path, ("iteration",), "start anew")
    for content in ([1, 2], torch.zeros(3), {"model": {}}):
        torch.save(content, path)
        with pytest.raises(ValueError, match="last.pth: not a checkpoint of this tool .*; start anew") as caught:
            read_state(path, ("iteration",), "start anew")
        assert "\n" not in str(caught.value)
