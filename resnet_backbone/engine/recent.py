"""The batches of the last steps, for the sentence about the one that went wrong."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from resnet_backbone.engine import group
from resnet_backbone.engine.step import Diverged, DivergedTogether

Files = Callable[[], list[str]]


class _Batch(NamedTuple):
    iteration: int
    rate: float
    files: Files


class Recent:
    """Remembers of each batch its iteration, its rate and how to name its images.

    Args:
        count: batches, as many as steps are looked at together.
        checkpoint: what is kept of the run.
        remedy: what to do about a number that is none.
    """

    def __init__(self, count: int, checkpoint: Path, remedy: str) -> None:
        self._batches: deque[_Batch] = deque(maxlen=count)
        self._checkpoint, self._remedy = checkpoint, remedy

    def add(self, iteration: int, rate: float, files: Files) -> None:
        """The batch of the next step."""
        self._batches.append(_Batch(iteration, rate, files))

    @contextlib.contextmanager
    def told(self, iteration: int) -> Iterator[None]:
        """While entered, what a step says that went wrong gets the iteration, rate and images of its batch.

        Args:
            iteration: of a step that does not say its own.

        Raises:
            Diverged: one sentence.
        """
        try:
            yield
        except Diverged as error:
            at = iteration if error.iteration is None else error.iteration
            batch = next((one for one in self._batches if one.iteration == at), _Batch(at, 0.0, list))
            # Whose images made gradients wrong that all share, is known to none alone.
            together = isinstance(error, DivergedTogether)
            of_processes = group.gather_all(batch.files()) if together else [batch.files()]
            files = ", ".join(name for names in of_processes for name in names)
            saved = f"; the last checkpoint is kept: {self._checkpoint}" if self._checkpoint.exists() else ""
            where = f"at iteration {at + 1} (rate {batch.rate:g}, images {files})"
            raise Diverged(f"{error} {where}: {self._remedy}{saved}") from None
