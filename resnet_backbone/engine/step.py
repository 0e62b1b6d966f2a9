"""One step of an optimiser: the gradients of a batch, whole or in parts, looked at before their weights are kept."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from resnet_backbone.engine.text import some

T = TypeVar("T")

SKIPS = 25
"""Steps in a row that fp16's loss scaling may skip: from 2**16 the scale is then below 1, where no overflow is left."""


class Diverged(ValueError):
    """A loss, a gradient or a weight that is no number.

    Attributes:
        iteration: of which step, from 0; None where that is not known.
    """

    def __init__(self, said: str, iteration: int | None = None) -> None:
        super().__init__(said)
        self.iteration = iteration


class DivergedTogether(Diverged):
    """Of gradients or weights, which all processes share: each of them raises it."""


@dataclass(frozen=True)
class Left:
    """What a step has left on the device.

    Attributes:
        losses: their names, for each part of the batch.
        gradients: names of the parameters that have one.
        values: float32: the losses part by part, then the largest absolute value of each gradient.
    """

    iteration: int
    losses: Sequence[Sequence[str]]
    gradients: Sequence[str]
    values: torch.Tensor


class TrainStep:
    """Forward, backward and optimiser, in parts of the batch and in lower precision where asked for.

    The gradient of the parts together is the mean of theirs, so a loss that is a mean over images has the
    gradient of the whole batch; batch norm sees the parts one by one. Clipping, which is the optimiser's,
    comes after all parts and after the loss scale is taken out.

    To look at a loss the computer waits for the GPU, which then has nothing to do until it is fed again. With
    `check_every` above 1, losses and the gradients' largest values stay on the device for so many steps and are looked
    at together. Whoever keeps the weights in between has to call `take` before.

    Args:
        optimizer: of the model's parameters.
        parts: micro-batches a step; the batch is a multiple of them.
        dtype: autocast's; None for full precision, float16 with loss scaling.
        device: type of the model's, "cuda" or "cpu".
        seed: called with iteration and part before each part, to seed what is drawn in it.
        check_every: steps; with 1 a loss is looked at before its gradient is computed, and that before it is used.

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
        check_every: int = 1,
    ) -> None:
        self._optimizer, self._parts, self._dtype, self._device, self._seed = optimizer, parts, dtype, device, seed
        self.scaler = torch.amp.GradScaler(device, enabled=dtype is torch.float16)  # type: ignore[attr-defined]
        self.check_every = check_every
        self._skipped = 0
        self._left: list[Left] = []
        self._taken: list[dict[str, float]] = []
        self._latest: dict[str, float] = {}

    def __call__(self, model: nn.Module, batch: Sequence[Any], iteration: int) -> dict[str, float]:
        """Changes the weights once; returns the latest losses that were looked at, means over the parts.

        Args:
            model: gives a dict of losses for a list of examples; may be in `DistributedDataParallel`.

        Raises:
            Diverged: in this step or in one before that was not looked at; or, in fp16, no step of the last `SKIPS`
                could be taken. With `check_every` 1 the weights are as before.
        """
        self._leave(self._gradients(model, batch, iteration))
        self._use()
        return self._latest

    def take(self) -> list[dict[str, float]]:
        """The losses of all steps since the last call, once all are looked at.

        Raises:
            Diverged: of the first step that went wrong.
        """
        self._look()
        taken, self._taken = self._taken, []
        return taken

    def _gradients(self, model: nn.Module, batch: Sequence[Any], iteration: int) -> Left:
        self._optimizer.zero_grad()
        found: list[Mapping[str, torch.Tensor]] = []
        for part, examples in enumerate(split(batch, self._parts)):
            self._seed(iteration, part)
            with _gradients_exchanged(model, part == self._parts - 1):
                total, losses = self._forward(model, examples)
                if self.check_every == 1:
                    _check_losses({name: float(loss) for name, loss in losses.items()}, iteration)
                self.scaler.scale(total / self._parts).backward()
            found.append(losses)
        self.scaler.unscale_(self._optimizer)
        names, largest = largest_gradients(model)
        values = torch.stack([loss.float() for losses in found for loss in losses.values()])
        return Left(iteration, [list(losses) for losses in found], names, torch.cat([values, largest.to(values)]))

    def _forward(self, model: nn.Module, examples: Sequence[Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        try:
            with self._autocast():
                losses: dict[str, torch.Tensor] = model(examples)
                total = torch.stack([loss.float() for loss in losses.values()]).sum()
        except FloatingPointError:  # Detectron2's own check of proposals
            raise Diverged("the proposals are no numbers") from None
        return total, {name: loss.detach() for name, loss in losses.items()}

    def _leave(self, left: Left) -> None:
        self._left.append(left)
        if len(self._left) >= self.check_every:
            self._look()

    def _use(self) -> None:
        self.scaler.step(self._optimizer)
        self.scaler.update()

    def _look(self) -> None:
        """Waits for the device, once for all steps."""
        left, self._left = self._left, []
        if not left:
            return
        values = iter(torch.cat([one.values for one in left]).tolist())
        for one in left:
            parts = [{name: next(values) for name in names} for names in one.losses]
            for losses in parts:
                _check_losses(losses, one.iteration)
            self._check_gradients({name: next(values) for name in one.gradients}, one.iteration)
            self._latest = {name: sum(losses[name] for losses in parts) / len(parts) for name in parts[0]}
            self._taken.append(self._latest)

    def _check_gradients(self, largest: Mapping[str, float], iteration: int) -> None:
        """Gradients that are no numbers end the run, except in fp16 for some steps, which the scaler then skips."""
        wrong = [name for name, value in largest.items() if not math.isfinite(value)]
        self._skipped = self._skipped + 1 if wrong else 0
        if wrong and not self.scaler.is_enabled():
            said = f"the losses are finite, but not the gradients of {some(wrong, 3)}"
            raise DivergedTogether(said, iteration)
        if self._skipped >= SKIPS:
            said = (
                f"fp16: the gradients of {some(wrong, 3)} were no numbers in {SKIPS} steps in a row, down to a loss "
                f"scale of {self.scaler.get_scale():g}"
            )
            raise DivergedTogether(said, iteration)

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


def _check_losses(losses: Mapping[str, float], iteration: int) -> None:
    if not math.isfinite(sum(losses.values())):
        raise Diverged(f"the loss is {dict(losses)}", iteration)


def largest_gradients(model: nn.Module) -> tuple[list[str], torch.Tensor]:
    """Names of the parameters that have a gradient, and its largest absolute value, on the device, without a wait."""
    named = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None and p.grad.numel()]
    if not named:
        return [], torch.zeros(0)
    return [name for name, _ in named], torch.stack(torch._foreach_norm([grad for _, grad in named], math.inf))


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
