"""The exponential moving average of a model's weights, by torch's `AveragedModel`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def make_ema(model: nn.Module, decay: float) -> AveragedModel:
    """A copy that `update_parameters(model)` after every step moves towards the model; `.module` is the average.

    Running statistics of batch norm are averaged as the weights are, as timm's `ModelEmaV3` and torchvision's
    references do; counters are copied. Its `state_dict` goes into a checkpoint.

    Args:
        model: not wrapped for many processes.
        decay: 0 .. 1, as `ema_decay` reaches it.
    """
    return AveragedModel(model, multi_avg_fn=_warmed_up(decay), use_buffers=True)


def ema_decay(decay: float, updates: int) -> float:
    """The decay after so many updates: min(decay, (1 + n) / (10 + n)), TensorFlow's rule.

    Without it the average of a short run would hold on to the first weights: 0.9998**900 is 0.84.
    """
    return min(decay, (1 + updates) / (10 + updates))


def _warmed_up(decay: float) -> Callable[[Any, Any, Any], None]:
    @torch.no_grad()
    def update(averages: list[torch.Tensor], current: list[torch.Tensor], updates: torch.Tensor | int) -> None:
        # Each call has tensors of one type alone.
        if averages[0].is_floating_point():
            get_ema_multi_avg_fn(ema_decay(decay, int(updates)))(averages, current, updates)
        else:
            for average, now in zip(averages, current, strict=True):
                average.copy_(now)

    return update
