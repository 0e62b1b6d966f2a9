"""Words for people."""

from __future__ import annotations

from collections.abc import Collection


def some(names: Collection[str], limit: int = 12) -> str:
    """The first names, and how many there are more."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(list(names)[:limit]) + more
