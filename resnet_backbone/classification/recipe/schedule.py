"""The learning rate by iteration: what can be known beforehand, and the two rules of the paper that look at errors."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Schedule:
    """How the rate goes, in iterations from 0.

    Attributes:
        rate: highest learning rate.
        iterations: where the run ends.
        shape: "cosine" from the end of the warm-up to zero at `iterations`; "steps": times `factor` at each of
            `milestones`; "plateau": times `factor` once the error has stopped falling; "constant".
        warmup_iterations: length of the warm-up.
        warmup_start: share of `rate` from which it rises in a straight line.
        warmup_rate: rate of a constant warm-up, which ends with a jump to `rate` (the paper's 110 layers: 0.01).
        warmup_until_error: in place of `warmup_iterations`, the training error in percent below which the warm-up
            ends (the paper: 80), taken over the last `warmup_window` values.
        patience: values without an improvement of more than `min_delta` percent that are a plateau.
        plateaus: the run ends at this one; at those before it, the rate drops.
    """

    rate: float
    iterations: int
    shape: Literal["cosine", "steps", "plateau", "constant"] = "cosine"
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    warmup_iterations: int = 0
    warmup_start: float = 0.0
    warmup_rate: float | None = None
    warmup_until_error: float | None = None
    warmup_window: int = 100
    patience: int = 5
    min_delta: float = 0.1
    plateaus: int = 3

    def __post_init__(self) -> None:
        if self.warmup_until_error is not None and (self.warmup_rate is None or self.warmup_iterations):
            raise ValueError("warmup_until_error: needs a warmup_rate and takes the place of warmup_iterations")
        if self.warmup_rate is not None and self.warmup_until_error is None and not self.warmup_iterations:
            raise ValueError("warmup_rate: say how long, by warmup_iterations or by warmup_until_error")
        if self.shape == "steps" and not self.milestones:
            raise ValueError("shape 'steps' needs milestones: the iterations at which the rate drops")

    def warmup(self, iteration: int) -> float:
        """The rate at an iteration of the warm-up."""
        if self.warmup_rate is not None:
            return self.warmup_rate
        return self.rate * (self.warmup_start + (1 - self.warmup_start) * iteration / self.warmup_iterations)

    def after_warmup(self, iteration: int, plateaus: int = 0) -> float:
        """The rate at a later iteration, after so many plateaus."""
        if self.shape == "steps":
            return self.rate * self.factor ** sum(iteration >= milestone for milestone in self.milestones)
        if self.shape == "plateau":
            return self.rate * self.factor**plateaus
        if self.shape == "constant":
            return self.rate
        done = (iteration - self.warmup_iterations) / (self.iterations - self.warmup_iterations)
        return self.rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


class Plateau:
    """Counts how often the error has stopped falling; the rule of torch's `ReduceLROnPlateau`, without an optimiser."""

    def __init__(self, patience: int, min_delta: float) -> None:
        self.patience, self.min_delta = patience, min_delta
        self.best, self.waited, self.count = math.inf, 0, 0

    def update(self, error: float) -> None:
        """Takes the error of the next evaluation, in percent."""
        if error < self.best - self.min_delta:
            self.best, self.waited = error, 0
        else:
            self.waited += 1
        if self.waited == self.patience:
            self.count, self.waited = self.count + 1, 0


class LearningRate:
    """A schedule in a run: asked for the rate before each iteration, told the errors, saved with the checkpoint.

    All processes must be told the same errors.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.plateau = Plateau(schedule.patience, schedule.min_delta)
        self.training_errors: deque[float] = deque(maxlen=schedule.warmup_window)
        self.warm = False

    def at(self, iteration: int) -> float:
        """The rate of the step that makes of state `iteration` the next."""
        if self._warming_up(iteration):
            return self.schedule.warmup(iteration)
        return self.schedule.after_warmup(iteration, self.plateau.count)

    def wants_training_error(self) -> bool:
        """Whether `tell_training_error` still changes anything."""
        return self.schedule.warmup_until_error is not None and not self.warm

    def tell_training_error(self, percent: float) -> None:
        """Takes the error of the next batch; the warm-up can end once there are `warmup_window` of them."""
        if not self.wants_training_error():
            return
        self.training_errors.append(percent)
        full = len(self.training_errors) == self.schedule.warmup_window
        mean = sum(self.training_errors) / len(self.training_errors)
        self.warm = full and mean < (self.schedule.warmup_until_error or 0.0)

    def tell_evaluation_error(self, iteration: int, percent: float) -> None:
        """Takes the error of an evaluation after `iteration` steps; those of the warm-up do not count."""
        if self.schedule.shape == "plateau" and not self._warming_up(iteration):
            self.plateau.update(percent)

    def ended(self, iteration: int) -> bool:
        """Whether the run is over after `iteration` steps."""
        return iteration >= self.schedule.iterations or self.plateau.count >= self.schedule.plateaus

    def state_dict(self) -> dict[str, Any]:
        """What the errors have changed so far."""
        plateau = self.plateau
        return {
            "best": plateau.best, "waited": plateau.waited, "plateaus": plateau.count,
            "warm": self.warm, "training_errors": list(self.training_errors),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`."""
        self.plateau.best, self.plateau.waited, self.plateau.count = (
            state[key] for key in ("best", "waited", "plateaus")
        )
        self.warm = state["warm"]
        self.training_errors.clear()
        self.training_errors.extend(state["training_errors"])

    def _warming_up(self, iteration: int) -> bool:
        if self.schedule.warmup_until_error is not None:
            return not self.warm
        return iteration < self.schedule.warmup_iterations
