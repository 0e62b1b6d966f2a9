"""The state of a run in one file, which `torch.load(weights_only=True)` reads: there whole or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from resnet_backbone.engine.atomic import write_atomically

CLASSIFIER, DETECTOR = "model.safetensors", "model_final.pth"
"""The weights that a finished run of pretraining, and of fine-tuning, leaves beside its state."""
MARKS = frozenset({"model", "optimizer", "scheduler", "scaler", "iteration", "config"})
"""Keys that the states of both have, and no checkpoint of others all of them."""


class Part(Protocol):
    """A model, an optimiser, a schedule: whatever has a state."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


def save_state(path: Path, parts: Mapping[str, Part], **facts: Any) -> None:
    """Writes the states of the parts and plain facts beside them.

    Raises:
        OSError: the disk is full; an older file stays.
    """
    state = {name: part.state_dict() for name, part in parts.items()} | facts
    write_atomically(path, lambda file: torch.save(state, file))


def read_state(path: Path, needed: Collection[str], remedy: str) -> dict[str, Any]:
    """What `save_state` wrote, on the CPU.

    Args:
        needed: names that must be there.
        remedy: what to do without it, for the sentence.

    Raises:
        ValueError: not such a file, or one cut off.
    """
    try:
        state = dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: not a checkpoint of this tool ({type(error).__name__}); {remedy}") from None
    missing = [name for name in needed if name not in state]
    if missing:
        raise ValueError(f"{path}: not a checkpoint of this tool (it has no {missing[0]!r}); {remedy}")
    return state


def is_state(content: Any) -> bool:
    """Whether the content of a file is what a run of pretraining or of fine-tuning goes on from."""
    return isinstance(content, Mapping) and set(content) >= MARKS


def fill(parts: Mapping[str, Part], state: Mapping[str, Any]) -> None:
    """Gives every part its state back."""
    for name, part in parts.items():
        part.load_state_dict(state[name])
