"""Real steps before a run, real loading, and a test batch: losses, gradients, memory and times."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from resnet_backbone.classification.data.batch import Batch
from resnet_backbone.classification.data.batches import evaluation_batches, training_batches
from resnet_backbone.classification.data.splits import Data, Split, spread
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.testing.evaluate import evaluate
from resnet_backbone.classification.training.classifier import Inputs
from resnet_backbone.classification.training.loop import Loop
from resnet_backbone.classification.training.pace import LIMIT, remedies
from resnet_backbone.engine.loop import PERIOD
from resnet_backbone.engine.preflight import Finding, memory
from resnet_backbone.engine.progress import duration
from resnet_backbone.engine.step import not_finite
from resnet_backbone.models.network import Network

STEPS = {"cpu": 3, "cuda": PERIOD}
"""The first half warms up; the others are timed."""
ON_A_CPU = 4 * 224**2
"""Pixels of such a step on a CPU, which would take minutes for a GPU's batch."""
HIGH = 2.0
"""Times the loss of an untrained network, from which on something is wrong with the images or the weights."""
LOADED = 8
"""Images of a batch of the loader alone."""
LOADING = 3.0
"""Seconds for which it is measured, and two batches of every worker."""


@dataclass(frozen=True)
class Looked:
    """What is stepped through.

    Attributes:
        config: with the batch of a process, or part of it on a CPU.
        share: images of a process's whole batch.
    """

    config: TrainConfig
    share: int

    @property
    def few(self) -> str:
        """Where it is a part, a remark on that."""
        taken = self.config.batch_size
        return f" (looked at with {taken} of the {self.share} images of a process)" if taken < self.share else ""


def looked_at(config: TrainConfig, processes: int, device: torch.device) -> Looked:
    """One process's batch at the size at which a run ends; on a CPU a few images, in as large parts as can be."""
    share = max(config.batch_size // processes, 1)
    size, parts = max(share // config.accumulate, 1), config.accumulate
    # Compiling alone takes minutes there.
    compiled = config.compile and device.type == "cuda"
    if device.type == "cpu":
        few = max(ON_A_CPU // config.size**2, 2)
        size = min(size, few)
        parts = min(parts, few // size)
    settled = dataclasses.replace(
        config, batch_size=size * parts, accumulate=parts, start_size=None, compile=compiled, workers=0
    )
    return Looked(settled, share)


def steps(
    looked: Looked, data: Data, network: Network, device: torch.device, output: Path, total: int
) -> tuple[list[Finding], float]:
    """Steps of the loop's own kind on a real batch; the network is changed by them.

    Args:
        total: iterations of the run.

    Returns:
        What was found, and images a second of this process without reading them.

    Raises:
        Diverged: losses or gradients that are no numbers.
    """
    config = looked.config
    loop = Loop(config, data, network, output, device)
    losses: list[torch.Tensor] = []
    hook = loop.classifier.register_forward_hook(lambda _, __, found: losses.append(found["loss"].detach()))
    trained = loop.wrapped().train()
    batch = next(training_batches(data.train, config, 0, device))
    seconds = _timed(loop, trained, batch, STEPS[device.type])
    hook.remove()
    whole = seconds * looked.share / config.batch_size
    text = f"{whole:.3g} s a step: about {duration(whole * total)} for {total:,} iterations, without tests and without "
    return [
        _first_loss(float(torch.stack(losses[: config.accumulate]).mean()), config, len(data.classes)),
        *_gradients(network, loop.step.scaler.is_enabled()),
        Finding("ok", memory(str(device)) + looked.few),
        Finding("ok", f"{text}waiting for images{looked.few}"),
    ], config.batch_size / seconds


def loader_finding(
    split: Split, config: TrainConfig, gpus: int, computed: float | None, device: torch.device
) -> Finding:
    """The loader alone, with the workers of all processes of this machine, beside what the steps take.

    Args:
        computed: images a second of one process; None where no step could be taken.
    """
    workers = gpus * config.workers
    small = dataclasses.replace(config, batch_size=LOADED, accumulate=1, workers=workers, start_size=None)
    read = _loaded(split, small, device)
    text = f"the loader alone: {read:,.0f} images/s by {workers} workers"
    if computed is None:
        return Finding("ok", text)
    wanted = gpus * computed
    # Without workers, reading and computing take turns.
    share = wanted / (read + wanted) if not workers else max(1 - read / wanted, 0.0)
    text += f", {wanted:,.0f} are computed"
    if share <= LIMIT:
        return Finding("ok", f"{text}: {100 * share:.0f} % of the time is spent waiting for images")
    said = f"loader-bound: {100 * share:.0f} % of the time would be spent waiting for images; {text}"
    return Finding("warning", f"{said}; remedy: {remedies(config)}")


def evaluation_finding(looked: Looked, data: Data, network: Network, device: torch.device) -> Finding:
    """A batch through what would otherwise run for the first time after an epoch."""
    began = time.monotonic()
    config = looked.config
    few = spread(data.val, config.batch_size)
    inputs = Inputs(config, device)
    batches = itertools.islice(evaluation_batches(few, config), 1)  # of shards there are more
    accuracy = evaluate(network, ((b.images, b.labels) for b in batches), inputs, device)
    if accuracy.loss is None or not math.isfinite(accuracy.loss):
        return Finding("error", f"a test batch: the loss is {accuracy.loss}; look at the rate and the images")
    return Finding("ok", f"a test batch: {accuracy}, loss {accuracy.loss:.3g}, {time.monotonic() - began:.2f} s")


def _timed(loop: Loop, trained: torch.nn.Module, batch: Batch, steps: int) -> float:
    """Seconds of one step, behind the first half of them."""
    ends = []
    for number in range(steps):
        loop.step(trained, dataclasses.replace(batch, iteration=number), number)  # type: ignore[arg-type]
        if loop.device.type == "cuda":
            torch.cuda.synchronize(loop.device)
        ends.append(time.monotonic())
    first = (steps - 1) // 2
    return (ends[-1] - ends[first]) / (steps - 1 - first)


def _first_loss(loss: float, config: TrainConfig, classes: int) -> Finding:
    binary = config.loss == "binary_cross_entropy"
    usual, name = (math.log(2), "ln 2") if binary else (math.log(classes), f"ln {classes}")
    text = f"the first loss is {loss:.3g}; an untrained network has about {name} = {usual:.3g}"
    if loss <= HIGH * usual:
        return Finding("ok", text)
    return Finding("warning", f"{text}: look at mean, std, and the norms of the network")


def _gradients(network: Network, scaled: bool) -> Iterator[Finding]:
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    untouched = [name for name, p in trained if p.grad is None]
    wrong = [] if scaled else not_finite((name, p.grad) for name, p in trained if p.grad is not None)
    if wrong:
        text = f"the gradients of {wrong[0]} and {len(wrong) - 1} more are no numbers; lower rate_per_256"
        yield Finding("error", text)
    if untouched:
        text = (
            f"{len(untouched)} of {len(trained)} trainable parameters get no gradient (first: {untouched[0]}); freeze "
        )
        yield Finding("warning", text + "them or correct the network")
    if not wrong and not untouched:
        yield Finding("ok", f"all {len(trained)} trainable parameter tensors get finite gradients")


def _loaded(split: Split, config: TrainConfig, device: torch.device) -> float:
    """Images a second, behind the first batch of every worker."""
    batches = training_batches(split, config, 0, device)
    each = max(config.workers, 1)
    for _ in itertools.islice(batches, each):
        pass
    began, count = time.monotonic(), 0
    for batch in batches:
        count += len(batch)
        seconds = time.monotonic() - began
        if count >= 2 * each * len(batch) and seconds >= LOADING:
            break
    return count / seconds
