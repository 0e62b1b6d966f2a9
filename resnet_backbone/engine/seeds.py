"""Random numbers that depend on where they are drawn, never on what was drawn before: a resumed run draws the same."""

from __future__ import annotations

import numpy as np


def seed_of(*numbers: int) -> int:
    """One seed, 0 .. 2**32 - 1, of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
