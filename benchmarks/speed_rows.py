"""What the classifiers' speed is measured with, and in which order where there is not time for all."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

COMPILE_S, EAGER_S = 100.0, 30.0
"""Of a ResNet-50's row with everybody in it, guessed; ResNet-101 takes twice that."""


@dataclass(frozen=True)
class Switches:
    """What everybody has."""

    channels_last: bool = False
    bf16: bool = False
    compile: bool = False

    def __str__(self) -> str:
        return " + ".join(name for name, on in dataclasses.asdict(self).items() if on) or "none"


ROWS = (Switches(), Switches(True, True), Switches(True, True, True))
Row = tuple[str, int, Switches]


def ordered(networks: Sequence[str], batches: Sequence[int]) -> list[Row]:
    """All rows, the most important first: batch 256 before others, then the fastest switches, then networks."""
    rows = itertools.product(networks, batches, ROWS)
    return sorted(rows, key=lambda row: (row[1] != 256, -ROWS.index(row[2]), networks.index(row[0])))


def expected(row: Row) -> float:
    """Seconds that a row may take."""
    network, _, switches = row
    return (COMPILE_S if switches.compile else EAGER_S) * (2 if network == "resnet101" else 1)
