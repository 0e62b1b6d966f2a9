"""Several things that are wrong with data at a time: one sentence each, of which an error's text is the first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


class DataError(ValueError):
    """What is wrong with data.

    Args:
        faults: one sentence each; as text the error is the first one, and how many more there are.
    """

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        more = f" (and {len(faults) - 1} more faults: --check lists them)" if len(faults) > 1 else ""
        super().__init__(faults[0] + more)


class Faults:
    """Gathers what is wrong while everything is looked at."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def tried(self, function: Callable[..., Result], *arguments: Any) -> Result | None:
        """What `function` returns; a ValueError that it raises is kept, and None returned."""
        try:
            return function(*arguments)
        except DataError as error:
            self.found += error.faults
        except ValueError as error:
            self.found.append(str(error))
        return None

    def end(self) -> None:
        """To be called when everything was looked at.

        Raises:
            DataError: something is wrong.
        """
        if self.found:
            raise DataError(list(dict.fromkeys(self.found)))
