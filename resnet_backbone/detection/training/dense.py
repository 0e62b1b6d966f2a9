"""What RetinaNet and FCOS remember between steps outside their state dict, so that a resumed run is the same run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class NormalizerState:
    """The running count of positive anchors that a Detectron2 `DenseDetector` divides its losses by.

    Detectron2 keeps it as a plain number that no checkpoint has, so that its resumed runs start from 100 again.

    Args:
        model: any detector; one without such a number has an empty state.
    """

    NAME = "loss_normalizer"

    def __init__(self, model: nn.Module) -> None:
        self._model = model if hasattr(model, "_ema_update") else None

    def state_dict(self) -> dict[str, Any]:
        """Empty before the first step too."""
        value = getattr(self._model, self.NAME, None)
        return {} if value is None else {self.NAME: float(value)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the number back, or away."""
        if self._model is None:
            return
        if self.NAME in state:
            setattr(self._model, self.NAME, state[self.NAME])
        elif hasattr(self._model, self.NAME):
            delattr(self._model, self.NAME)


def same_at_every_call(device: str) -> contextlib.AbstractContextManager[Any]:
    """On the CPU, scripted functions compute at their first call in a process what they do at later ones.

    Their focal loss is a TorchScript function, which torch optimises after a first call: the last bits of its
    gradient change then, and a resumed run has its first call at another iteration. On a GPU, where runs do not
    repeat bit for bit anyway, it stays fast.

    Args:
        device: "cuda" or "cpu".
    """
    return torch.jit.optimized_execution(False) if device == "cpu" else contextlib.nullcontext()  # type: ignore[attr-defined]
