"""What a user can mend ends in one sentence and an exit code, never in a traceback."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable


def guarded(action: Callable[[], int], *, memory_remedy: str) -> int:
    """Calls `action`; returns what it returns, 1 after a sentence on what is wrong, or 130 when interrupted.

    Args:
        memory_remedy: what to do when the GPU's memory is full.
    """
    try:
        return action()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        said = str(error)
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        said = f"{str(error).splitlines()[0]} Remedy: {memory_remedy}"
    logging.getLogger("detectron2.run").info("error: %s", said)  # into the log file
    print(f"error: {said}", file=sys.stderr)
    return 1
