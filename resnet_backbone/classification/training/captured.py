"""A whole step as one CUDA graph: small networks take longer to be told to a GPU, kernel by kernel, than to compute."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from resnet_backbone.classification.data.batch import Batch
from resnet_backbone.classification.data.resident import Drawn, Resident
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.training.classifier import Classifier
from resnet_backbone.engine import group
from resnet_backbone.engine.step import Left, TrainStep

DEVICES = {"cuda"}
"""On others the same step runs as it is; only tests have a use for that."""
REHEARSALS = 3
"""Steps before the capture, in which libraries choose their algorithms and reserve memory."""


class CapturedStep(TrainStep):
    """`TrainStep` on images that lie on the device: crops, forward, backward and optimiser, replayed as one graph.

    A graph repeats the very same work on the same memory. So all that changes from step to step lies in tensors that
    it reads: which images, their crops, and the rate. Weights, momentum and statistics are where they always are, and
    the graph keeps nothing of its own: whoever saves, loads (before the first step), averages or tests them need not
    know of it. Batch norms' counts of batches, which nothing computes with, go up in one operation for all.

    The rate is rounded to float32, as fused SGD reads it from a tensor; else the arithmetic is `TrainStep`'s.

    Args:
        optimizer: SGD; `fused` on a GPU, which alone reads its rate from the device.
        resident: the training images.
        batch_size: images a step.
        dtype: autocast's; None for full precision. float16, which needs a scale of the loss, is not for this.
        device: that of everything.
        check_every: see `TrainStep`; above 1 on a GPU, which cannot be waited for within a graph.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        resident: Resident,
        batch_size: int,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device,
        check_every: int,
    ) -> None:
        super().__init__(optimizer, dtype=dtype, device=device.type, check_every=check_every)
        self._resident = resident
        self._packed = torch.zeros(batch_size, 4, dtype=torch.int64, device=device)
        self._rate = torch.zeros((), device=device)
        self._replay: Callable[[], None] | None = None
        self._made: Left | None = None

    def __call__(self, model: nn.Module, batch: Drawn, iteration: int) -> dict[str, float]:  # type: ignore[override]
        """See `TrainStep`; `model` has to be the same `Classifier` each time, in training mode.

        Raises:
            Diverged: in this step or in one before that was not looked at.
        """
        self._packed.copy_(torch.from_numpy(batch.packed), non_blocking=True)
        self._rate.fill_(self._optimizer.param_groups[0]["lr"])
        if self._replay is None:
            assert isinstance(model, Classifier)
            self._replay = self._captured(model)
        self._replay()
        assert self._made is not None
        # The next replay writes into the same memory.
        self._leave(Left(iteration, self._made.losses, self._made.gradients, self._made.values.clone()))
        return self._latest

    def _captured(self, model: Classifier) -> Callable[[], None]:
        work = partial(self._work, model)
        if self._device != "cuda":
            self._rehearse(model, work)
            return work
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._rehearse(model, work)
        torch.cuda.current_stream().wait_stream(side)
        self._optimizer.zero_grad()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay  # type: ignore[no-any-return]

    def _rehearse(self, model: Classifier, work: Callable[[], None]) -> None:
        """Does the work some times and takes it back; momentum that was not there is zero then, which is the same."""
        kept = [*model.parameters(), *model.buffers(), model.counts, *self._momentum()]
        copies = [tensor.detach().clone() for tensor in kept]
        for _ in range(REHEARSALS):
            work()
        with torch.no_grad():
            for momentum in self._momentum():
                momentum.zero_()
            for tensor, copy in zip(kept, copies, strict=True):
                tensor.copy_(copy)

    def _momentum(self) -> list[torch.Tensor]:
        states = self._optimizer.state.values()
        return [state["momentum_buffer"] for state in states if state.get("momentum_buffer") is not None]

    def _work(self, model: Classifier) -> None:
        with _counted_at_once(model), self._rate_on_device():
            images, labels = self._resident.views(self._packed)
            batch: Any = Batch(images, labels, 0, _NO_INDICES, ready=True)
            self._made = self._gradients(model, batch, 0)
            self._use()

    @contextlib.contextmanager
    def _rate_on_device(self) -> Iterator[None]:
        """The optimiser's own rate stays a number: checkpoints are the same with a graph and without."""
        rates = [one["lr"] for one in self._optimizer.param_groups]
        for one in self._optimizer.param_groups:
            one["lr"] = self._rate
        try:
            yield
        finally:
            for one, rate in zip(self._optimizer.param_groups, rates, strict=True):
                one["lr"] = rate


_NO_INDICES = np.zeros(0, np.int64)


@contextlib.contextmanager
def _counted_at_once(model: nn.Module) -> Iterator[None]:
    """While entered, batch norms do not count their batches one by one: a tenth of a small network's kernels."""
    norms = [one for one in model.modules() if isinstance(one, _BatchNorm)]
    counts = [(norm, norm.num_batches_tracked) for norm in norms if norm.num_batches_tracked is not None]
    for norm, _ in counts:
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, count in counts:
            norm.num_batches_tracked = count
    if counts:
        torch._foreach_add_([count for _, count in counts], 1)


def check_capture(config: TrainConfig, device: torch.device) -> None:
    """Whether a run can be captured here; what the recipe says against it, `TrainConfig` knows.

    Raises:
        ValueError: it cannot.
    """
    if config.capture and device.type not in DEVICES:
        raise ValueError(f"capture: a CUDA graph needs a GPU, and the run is on {device.type}; leave it out")
    if config.capture and group.world() > 1:
        raise ValueError(f"capture: for one process, not {group.world()}; leave it out")
