"""The exponential moving average of a model's weights, by torch's `AveragedModel`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

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
    return Average(model, decay)


class Average(AveragedModel):
    """See `make_ema`. No update waits for a GPU, as torch's own do to learn how many there were."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, use_buffers=True)
        self._decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Moves towards `model`; the first time, to it."""
        updates = int(self.n_averaged)
        moved: tuple[list[torch.Tensor], list[torch.Tensor]] = [], []
        copied: tuple[list[torch.Tensor], list[torch.Tensor]] = [], []
        for average, current in zip(_tensors(self.module), _tensors(model), strict=True):
            one = moved if updates and average.is_floating_point() else copied
            one[0].append(average)
            one[1].append(current)
        if moved[0]:
            get_ema_multi_avg_fn(ema_decay(self._decay, updates))(*moved, updates)
        if copied[0]:
            torch._foreach_copy_(*copied)
        self.n_averaged += 1


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    return itertools.chain(model.parameters(), model.buffers())


def ema_decay(decay: float, updates: int) -> float:
    """The decay after so many updates: min(decay, (1 + n) / (10 + n)), TensorFlow's rule.

    Without it the average of a short run would hold on to the first weights: 0.9998**900 is 0.84.
    """
    return min(decay, (1 + updates) / (10 + updates))
