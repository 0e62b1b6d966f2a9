"""Words for people."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Sequence


def some(names: Collection[str], limit: int = 12) -> str:
    """The first names, and how many there are more."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(list(names)[:limit]) + more


def spread(values: Sequence[float], digits: int = 1) -> str:
    """One value as it is; from two on, mean and deviation (n - 1)."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, a line each, all but the first column aligned to the right."""
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(row)} |" for row in (header, ruler, *rows)]
