"""The one exception of this room."""

from __future__ import annotations


class WeightsError(ValueError):
    """Weights that cannot be trusted to be right; the first line says which, and what to do."""
