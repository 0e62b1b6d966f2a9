"""One step of an optimiser: the gradients of a batch, whole or in parts, looked at before they are used."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from resnet_backbone.engine.text import some

T = TypeVar("T")

SKIPS = 25
"""Steps in a row that fp16's loss scaling may skip: from 2**16 the scale is then below 1, where no overflow is left."""


class Diverged(ValueError):
    """A loss, a gradient or a weight that is no number."""


class DivergedTogether(Diverged):
    """Of gradients or weights, which all processes share: each of them raises it."""


class TrainStep:
    """Forward, backward and optimiser, in parts of the batch and in lower precision where asked for.

    The gradient of the parts together is the mean of theirs, so a loss that is a mean over images has the
    gradient of the whole batch; batch norm sees the parts one by one. Clipping, which is the optimiser's,
    comes after all parts and after the loss scale is taken out.

    Args:
        optimizer: of the model's parameters.
        parts: micro-batches a step; the batch is a multiple of them.
        dtype: autocast's; None for full precision, float16 with loss scaling.
        device: type of the model's, "cuda" or "cpu".
        seed: called with iteration and part before each part, to seed what is drawn in it.

    Attributes:
        scaler: of the loss; its state belongs into a checkpoint.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        parts: int = 1,
        dtype: torch.dtype | None = None,
        device: str = "cpu",
        seed: Callable[[int, int], None] = lambda iteration, part: None,
    ) -> None:
        self._optimizer, self._parts, self._dtype, self._device, self._seed = optimizer, parts, dtype, device, seed
        self.scaler = torch.amp.GradScaler(device, enabled=dtype is torch.float16)  # type: ignore[attr-defined]
        self._skipped = 0

    def __call__(self, model: nn.Module, batch: Sequence[Any], iteration: int) -> dict[str, float]:
        """Changes the weights once; returns the losses, means over the parts.

        Args:
            model: gives a dict of losses for a list of examples; may be in `DistributedDataParallel`.

        Raises:
            Diverged: the weights are as before; or, in fp16, no step of the last `SKIPS` could be taken.
        """
        self._optimizer.zero_grad()
        sums: dict[str, float] = {}
        for part, examples in enumerate(split(batch, self._parts)):
            self._seed(iteration, part)
            with _gradients_exchanged(model, part == self._parts - 1):
                total, values = self._forward(model, examples)
                self.scaler.scale(total / self._parts).backward()
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value
        self.scaler.unscale_(self._optimizer)
        self._check(model)
        self.scaler.step(self._optimizer)
        self.scaler.update()
        return {name: value / self._parts for name, value in sums.items()}

    def _forward(self, model: nn.Module, examples: Sequence[Any]) -> tuple[torch.Tensor, dict[str, float]]:
        try:
            with self._autocast():
                losses: dict[str, torch.Tensor] = model(examples)
                total = torch.stack([loss.float() for loss in losses.values()]).sum()
        except FloatingPointError:  # Detectron2's own check of proposals
            raise Diverged("the proposals are no numbers") from None
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        if not math.isfinite(sum(values.values())):
            raise Diverged(f"the loss is {values}")
        return total, values

    def _check(self, model: nn.Module) -> None:
        """Gradients that are no numbers end the run, except in fp16 for some steps, which the scaler then skips."""
        wrong = not_finite((name, p.grad) for name, p in model.named_parameters() if p.grad is not None)
        self._skipped = self._skipped + 1 if wrong else 0
        if wrong and not self.scaler.is_enabled():
            raise DivergedTogether(f"the losses are finite, but not the gradients of {some(wrong, 3)}")
        if self._skipped >= SKIPS:
            raise DivergedTogether(
                f"fp16: the gradients of {some(wrong, 3)} were no numbers in {SKIPS} steps in a row, down to a loss "
                f"scale of {self.scaler.get_scale():g}"
            )

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if self._dtype is None else torch.autocast(self._device, self._dtype)


def split(batch: Sequence[T], parts: int) -> list[Sequence[T]]:
    """The batch as `parts` equal parts, in its order.

    Raises:
        ValueError: it is no multiple of them.
    """
    size, rest = divmod(len(batch), parts)
    if rest or not size:
        raise ValueError(f"a batch of {len(batch)} cannot be split into {parts} equal parts")
    return [batch[start : start + size] for start in range(0, len(batch), size)]


def not_finite(tensors: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    """Names of the tensors that hold NaN or infinity; one wait for the device where there are none."""
    named = [(name, tensor) for name, tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    largest = torch.nn.utils.get_total_norm([tensor for _, tensor in named], math.inf)
    if math.isfinite(float(largest)):
        return []
    return [name for name, tensor in named if not bool(torch.isfinite(tensor).all())]


def _gradients_exchanged(model: nn.Module, last: bool) -> contextlib.AbstractContextManager[Any]:
    """Processes exchange gradients once a step, behind the last part."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not last else contextlib.nullcontext()
