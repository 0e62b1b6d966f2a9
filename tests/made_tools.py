"""How tests run a tool in their own process."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def exit_code(tool: Path, *words: str) -> int:
    """Of `python tool words`."""
    before, sys.argv = sys.argv, [str(tool), *words]
    try:
        runpy.run_path(str(tool), run_name="__main__")
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    raise AssertionError("the tool did not exit")
