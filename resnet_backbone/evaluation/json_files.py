"""JSON files of strangers: read, and looked at value by value."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

FLOAT_MAX = sys.float_info.max


def read_json(file: Path) -> Any:
    """What the file holds.

    Raises:
        ValueError: it is not there, not readable, or not JSON.
    """
    try:
        return parse_json(file.read_bytes())
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not readable as JSON ({error}); restore or export it again") from error


def parse_json(content: bytes) -> Any:
    """As `json.loads`; the garbage collector waits, or it would look at some million new objects again and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return json.loads(content)
    finally:
        if collecting:
            gc.enable()


def is_number(value: Any) -> bool:
    """A finite number that fits a float; JSON's true and false are none, though Python takes them for 1 and 0."""
    return type(value) in (int, float) and -FLOAT_MAX <= value <= FLOAT_MAX


def is_side(value: Any) -> bool:
    """Pixels of an image's height or width: a whole number above 0, perhaps written as 480.0."""
    # numpy's whole numbers, which records of Detectron2 may hold, are as good.
    number = isinstance(value, (int, float, np.integer)) and not isinstance(value, bool)
    return number and bool(0 < value < 2**31 and value == int(value))


def is_box(value: Any) -> bool:
    """Four finite numbers."""
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def kind_of(identity: Any) -> str:
    """What ids of its kind are called."""
    return "whole numbers" if isinstance(identity, int) else "texts"
