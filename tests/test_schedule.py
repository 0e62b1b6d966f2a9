"""Learning rates worked out by hand, torch's plateaus, and a state that goes on where it was."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from resnet_backbone.classification.recipe.schedule import LearningRate, Schedule


def rates(schedule, *iterations):
    rate = LearningRate(schedule)
    return pytest.approx([rate.at(iteration) for iteration in iterations])


def test_the_papers_cifar_steps():
    schedule = Schedule(0.1, 64_000, "steps", milestones=(32_000, 48_000))
    assert rates(schedule, 0, 31_999, 32_000, 47_999, 48_000, 63_999) == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    warm = Schedule(0.1, 64_000, "steps", milestones=(32_000, 48_000), warmup_iterations=400, warmup_rate=0.01)
    assert rates(warm, 0, 399, 400, 32_000) == [0.01, 0.01, 0.1, 0.01]


def test_cosine_and_constant_after_a_linear_warmup():
    schedule = Schedule(0.4, 110, warmup_iterations=10, warmup_start=0.1)
    assert rates(schedule, 0, 5, 10, 35, 60, 110) == [0.04, 0.22, 0.4, 0.2 * (1 + 0.5**0.5), 0.2, 0.0]
    assert rates(Schedule(0.4, 8, warmup_iterations=4, shape="constant"), 0, 1, 4, 7) == [0, 0.1, 0.4, 0.4]


def test_a_run_ends_at_its_last_iteration():
    rate = LearningRate(Schedule(0.1, 10))
    assert not rate.ended(9) and rate.ended(10)


def test_warmup_until_the_training_error_is_low():
    rate = LearningRate(Schedule(0.1, 1000, "constant", warmup_rate=0.01, warmup_until_error=80, warmup_window=3))
    seen = []
    for iteration, error in enumerate((70, 90, 86, 79, 75, 76, 95, 95, 95)):
        seen.append(rate.at(iteration))
        rate.tell_training_error(error)
    # Means of three: 82, 85, 80, 76.67: the sixth value ends it, and for good.
    assert seen == [0.01] * 6 + [0.1] * 3 and not rate.wants_training_error()


def test_plateaus_drop_the_rate_and_end_the_run():
    rate = LearningRate(Schedule(0.1, 1000, "plateau", patience=2, min_delta=0.5, plateaus=3))
    seen = []
    # 49.6 and 49.8 are no improvement by half a point on 50; then 40 is one.
    for error in (60, 50, 49.6, 49.8, 40, 41, 42, 39.6, 41):
        assert not rate.ended(5)
        rate.tell_evaluation_error(5, error)
        seen.append(rate.at(5))
    assert seen == pytest.approx([0.1] * 3 + [0.01] * 3 + [0.001] * 2 + [0.0001])
    assert rate.ended(5)


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_plateaus_are_torchs(patience):
    rng = np.random.default_rng(patience)
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    theirs = ReduceLROnPlateau(optimiser, patience=patience - 1, threshold=0.3, threshold_mode="abs", eps=0)
    ours = LearningRate(Schedule(0.1, 1000, "plateau", patience=patience, min_delta=0.3))
    for error in (50 * 0.97 ** np.arange(150) + rng.normal(0, 1, 150)).tolist():
        theirs.step(error)
        ours.tell_evaluation_error(0, error)
        assert ours.at(0) == pytest.approx(optimiser.param_groups[0]["lr"])
    assert ours.plateau.count > 1


def test_evaluations_of_the_warmup_are_no_plateau():
    rate = LearningRate(Schedule(0.1, 1000, "plateau", warmup_iterations=10, patience=1))
    for iteration in (2, 4, 6):
        rate.tell_evaluation_error(iteration, 50)
    assert rate.plateau.count == 0


def test_a_state_goes_on_where_it_was():
    schedule = Schedule(
        0.1, 1000, "plateau", warmup_rate=0.01, warmup_until_error=80, warmup_window=4, patience=2, plateaus=9
    )
    rng = np.random.default_rng(0)
    events = [(100 - k / 2 + e[0], max(60 - k, 20) + e[1]) for k, e in enumerate(rng.normal(0, 3, (90, 2)).tolist())]

    def run(rate, start, stop):
        seen = []
        for iteration in range(start, stop):
            seen.append(rate.at(iteration))
            rate.tell_training_error(events[iteration][0])
            rate.tell_evaluation_error(iteration, events[iteration][1])
        return seen

    whole = run(LearningRate(schedule), 0, 90)
    assert len(set(whole)) > 4
    for cut in (2, 30, 70):
        first, second = LearningRate(schedule), LearningRate(schedule)
        seen = run(first, 0, cut)
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        second.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
        assert seen + run(second, cut, 90) == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_until_error": 80}, "needs a warmup_rate"),
        ({"warmup_rate": 0.01}, "say how long"),
        ({"shape": "steps"}, "needs milestones"),
    ],
)
def test_halves_of_a_rule_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Schedule(0.1, 100, **options)
