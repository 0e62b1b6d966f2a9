"""Images of a run that could not be read: listed, and not too many."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_backbone.engine import group
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.text import some

logger = logging.getLogger(__name__)


class Broken:
    """Images that could not be read: named once, and too many end the run."""

    def __init__(self, limit: int, output: Path) -> None:
        self._limit, self._file = limit, output / "broken_images.txt"
        self.names: list[str] = []
        self._new: list[tuple[str, str]] = []

    def add(self, found: Sequence[tuple[str, str]]) -> None:
        """Takes those of a batch.

        Raises:
            ValueError: there are more than the limit.
        """
        for name, said in found:
            if name in self.names:
                continue
            self.names.append(name)
            self._new.append((name, said))
            logger.warning("passed over, %d of at most %d: %s", len(self.names), self._limit, said)
            self._write()
            if len(self.names) > self._limit:
                raise ValueError(
                    f"broken_images: more than {self._limit} images cannot be read ({some(self.names, 3)}); mend them, "
                    f"or raise broken_images; all are listed in {self._file}"
                )

    def share(self) -> None:
        """Takes those that other processes have met since the last time; all have to call it.

        Raises:
            ValueError: together there are more than the limit.
        """
        new, self._new = self._new, []
        for found in group.gather_all(new):
            self.add(found)
        self._new = []

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"names": list(self.names)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Those that were named before; the list of a run that went further is cut back."""
        self.names = list(state["names"])
        if self.names or self._file.exists():
            self._write()

    def _write(self) -> None:
        if group.is_main():
            lines = "".join(f"{one}\n" for one in self.names)
            write_atomically(self._file, lambda file: file.write(os.fsencode(lines)))  # a name may be no UTF-8
