"""What a user can mend ends in one sentence and an exit code, never in a traceback."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from resnet_backbone.engine.interrupt import Stopped

MEMORY = ("out of memory", "not enough memory", "out of shared memory")


def guarded(action: Callable[[], int], *, memory_remedy: str) -> int:
    """Calls `action`; returns what it returns, 1 after a sentence on what is wrong, or 130 when interrupted.

    Args:
        memory_remedy: what to do when memory is full.
    """
    try:
        return action()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        said = str(error)
    except RuntimeError as error:
        if not any(sign in str(error) for sign in MEMORY):
            raise
        said = f"{str(error).splitlines()[0]} Remedy: {memory_remedy}"
    logging.getLogger("detectron2.run").info("error: %s", said)  # into the log file
    print(f"error: {said}", file=sys.stderr)
    return 1
