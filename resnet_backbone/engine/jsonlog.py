"""Metrics as JSON lines: one object a line, flushed at once, readable while a run goes on and after it broke off."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from resnet_backbone.engine.atomic import write_atomically


class JsonLines:
    """Appends objects to a file.

    Args:
        path: made with its folder if need be.
        keep_until: for a resumed run, lines whose `key` is above this number are taken out first: they belong to
            the part that is about to be done again. None starts an empty file.
        key: which entry counts the steps.
    """

    def __init__(self, path: str | Path, *, keep_until: float | None = None, key: str = "iteration") -> None:
        self.path = Path(path)
        self.keep(lambda values: keep_until is not None and values.get(key, 0) <= keep_until)

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Takes out the other lines, and one that was cut off; the file is as before, or without them."""
        kept = [values for values in read_json_lines(self.path) if wanted(values)]
        text = "".join(json.dumps(values) + "\n" for values in kept).encode()
        if not self.path.exists() or self.path.read_bytes() != text:
            write_atomically(self.path, lambda file: file.write(text))

    def write(self, **values: Any) -> None:
        """Adds one line; numbers that JSON does not have (NaN, infinity) become null."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({name: _plain(value) for name, value in values.items()}) + "\n")


def read_json_lines(path: str | Path, *, strict: bool = False) -> Iterator[dict[str, Any]]:
    """The objects of a file, none if it is not there; a last line that was cut off is passed over.

    Args:
        strict: other lines that hold no object are an error, not passed over.

    Raises:
        ValueError: such a line, or no text at all; names file and line.
    """
    path = Path(path)
    if not path.exists():
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text file of JSON lines; restore it") from None
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            values = None
        if isinstance(values, dict):
            yield values
        elif strict and line.endswith("\n"):
            raise ValueError(f"{path}, line {number}: {line.strip()[:40]!r} is no JSON object; restore the file")


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
