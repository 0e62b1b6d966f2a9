"""Draws the images to test on; the same for the same seed, on every machine and in every version."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def seeded_split(ids: Sequence[T], fraction: float, seed: int) -> tuple[list[T], list[T]]:
    """Parts `ids` in two, both in the given order; each id's lot depends on itself and the seed alone.

    Args:
        ids: at least two, each printing differently.
        fraction: share of the second part, between 0 and 1; neither part is ever empty.
        seed: another seed draws another split.

    Raises:
        ValueError: fewer than two ids, or a share that is none.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"DATA.TEST_FRACTION: {fraction} is no share of the images; give one between 0 and 1")
    if len(ids) < 2:
        raise ValueError(f"{len(ids)} annotated image(s) cannot be parted into training and test; add images")
    lots = sorted(range(len(ids)), key=lambda i: hashlib.sha256(f"{seed}:{ids[i]}".encode()).digest())
    chosen = set(lots[: min(max(round(fraction * len(ids)), 1), len(ids) - 1)])
    return [x for i, x in enumerate(ids) if i not in chosen], [x for i, x in enumerate(ids) if i in chosen]
