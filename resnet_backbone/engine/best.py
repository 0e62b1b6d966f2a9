"""The best value that a metric has had, and when."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from typing import Any


class UnknownMetric(ValueError):
    """A metric that an evaluation does not give."""


class Best:
    """Remembers the highest value of one metric; of equal ones the first, and never one that is no number.

    Args:
        metric: its name.
        key: what the setting is called, for the sentence.

    Attributes:
        value: None before the first.
        iteration: when it was that.
    """

    def __init__(self, metric: str, key: str = "metric") -> None:
        self.metric, self.key = metric, key
        self.value: float | None = None
        self.iteration = 0

    def improved(self, numbers: Mapping[str, float], iteration: int) -> bool:
        """Whether `numbers` have a better value, which is then remembered.

        Raises:
            UnknownMetric: they do not have the metric; names the nearest.
        """
        check_metric(self.metric, numbers, self.key)
        value = float(numbers[self.metric])
        if math.isnan(value) or (self.value is not None and value <= self.value):
            return False
        self.value, self.iteration = value, iteration
        return True

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"metric": self.metric, "value": self.value, "iteration": self.iteration}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a saved state; one of another metric says nothing about this one."""
        if state["metric"] == self.metric:
            self.value, self.iteration = state["value"], state["iteration"]


def check_metric(metric: str, names: Collection[str], key: str = "metric") -> None:
    """Refuses a metric that there is not.

    Raises:
        UnknownMetric: names the nearest that there are.
    """
    if metric in names:
        return
    # "AP50" is nearer to "bbox/AP50" than letters alone say.
    same_end = [name for name in names if name.split("/")[-1] == metric.split("/")[-1]]
    near = list(dict.fromkeys([*same_end, *difflib.get_close_matches(metric, names, n=3, cutoff=0.4)]))[:3]
    remedy = f"the nearest are {', '.join(near)}" if near else f"there are {', '.join(names) or 'none'}"
    raise UnknownMetric(f"{key}: no metric {metric!r}; {remedy}")
