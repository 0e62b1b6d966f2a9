"""Random numbers as a function of the seed, of what they are for and of a position: nothing to save or replay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What is drawn; each purpose has numbers of its own."""

    ORDER = 0
    VIEW = 1
    CROPS = 2
    MIXING = 3
    SIDES = 4
    HOLDOUT = 5
    STEP = 6
    BROKEN = 7


def generator(stream: Stream, seed: int, position: int) -> np.random.Generator:
    """The numbers of `stream` at a position (an epoch, an iteration, or an image's place in the run)."""
    return np.random.default_rng([seed, stream, position])


@contextmanager
def torch_drawing_from(rng: np.random.Generator) -> Iterator[None]:
    """Within, torch's numbers on the CPU follow from `rng`; behind it they go on as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also set the GPU's numbers, which dropout draws from.
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        yield
