"""What a run measured, for machines: JSON lines, TensorBoard, and Weights & Biases where it is asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from resnet_backbone.engine import group
from resnet_backbone.engine.jsonlog import JsonLines
from resnet_backbone.engine.progress import Progress, duration

logger = logging.getLogger(__name__)
# Only into the file: the terminal has the progress line.
file_logger = logging.getLogger("detectron2.training")


class Journal:
    """Means over the iterations since the last line; one line of metrics.jsonl and TensorBoard's events each.

    The first process keeps it: losses are means over all processes, times and what is measured besides its own.

    Args:
        output: folder of the run.
        done: iterations that are done; a resumed run drops what was written behind them.
        device: the model's, whose memory is measured where it is a GPU.
        wandb: project of Weights & Biases that gets the same numbers; empty for none.

    Raises:
        ValueError: Weights & Biases is asked for and not installed.
    """

    def __init__(self, output: Path, done: int, device: str = "cpu", wandb: str = "") -> None:
        self._device = torch.device(device)
        self._main = group.is_main()
        self._sums: dict[str, float] = {}
        self._count, self._seconds, self._rate = 0, 0.0, 0.0
        if self._main:
            self._lines = JsonLines(output / "metrics.jsonl", keep_until=done or None)
            self._board = _board(output / "tensorboard", done)
            self._wandb = _wandb(wandb, output)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._main and self._board is not None:
            self._board.close()
        if self._main and self._wandb is not None:
            self._wandb.finish()

    def add(self, losses: Iterable[Mapping[str, float]], rate: float, seconds: float) -> None:
        """One iteration: the rate that it used and the time it took.

        Args:
            losses: those that are known by now and were not added before; of all iterations when `write` is called.
        """
        for one in losses:
            for name, value in one.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
        self._count, self._seconds, self._rate = self._count + 1, self._seconds + seconds, rate

    def write(self, iteration: int, measured: Mapping[str, float], progress: Progress) -> None:
        """A line for the iterations added since the last one; all processes have to call it.

        Args:
            measured: besides the losses.
        """
        everyone = group.gather(self._sums) if self._count else []
        if self._main and self._count:
            shares = self._count * len(everyone)
            losses = {name: sum(sums[name] for sums in everyone) / shares for name in self._sums}
            values = {"loss": sum(losses.values()), **losses, "rate": self._rate}
            values |= {"seconds_per_iteration": self._seconds / self._count, "data_share": progress.data_share}
            values |= measured
            if self._device.type == "cuda":
                values["gpu_memory_mb"] = torch.cuda.max_memory_allocated(self._device) / 2**20
            self._put(iteration, values)
            left = progress.seconds_left
            file_logger.info(
                "iteration %d/%d: loss %.4g, rate %.3g, %.3f s an iteration, data %.0f %%, %s left",
                iteration, progress.total, values["loss"], self._rate, values["seconds_per_iteration"],
                100 * progress.data_share, "?" if left is None else duration(left),
            )  # fmt: skip
        self._sums, self._count, self._seconds = {}, 0, 0.0

    def evaluated(self, iteration: int, numbers: Mapping[str, float]) -> None:
        """A line with the numbers of an evaluation, as {"bbox/AP50": 63.1}; one of the same iteration gives way."""
        if self._main and numbers:
            self._lines.keep(lambda values: values["iteration"] != iteration or "loss" in values)
            self._put(iteration, dict(numbers))

    def _put(self, iteration: int, values: dict[str, float]) -> None:
        self._lines.write(iteration=iteration, **{name: float(f"{value:.6g}") for name, value in values.items()})
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, iteration)
        if self._wandb is not None:
            self._wandb.log(values, step=iteration)


def _board(folder: Path, done: int) -> Any:
    """TensorBoard's writer; None, with a word, where the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("no TensorBoard files: the package tensorboard is not installed")
        return None
    return SummaryWriter(str(folder), purge_step=done + 1 if done else None)


def _wandb(project: str, output: Path) -> Any:
    """A run of Weights & Biases, the same one when the folder's run is resumed; None where it is not asked for."""
    if not project:
        return None
    try:
        import wandb
    except ImportError:
        raise ValueError(f"wandb: {project!r}, but the package wandb is not installed; pip install wandb") from None
    name = "-".join(output.absolute().parts[-2:])
    return wandb.init(project=project, dir=str(output), id=name, name=name, resume="allow")
