"""What a user can mend ends in one sentence and an exit code, never in a traceback."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable

from resnet_backbone.engine.interrupt import Stopped, interrupt_once, on_sigterm

MEMORY = ("out of memory", "not enough memory", "out of shared memory")


def say_and_leave(line: str, code: int) -> int:
    """Prints `line`, for the log file too where it is an error; returns the exit code."""
    if code == 1:
        logging.getLogger("detectron2.run").info("%s", line)  # into the log file
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more, or it is closed
        # At once with its end of line: processes that share a terminal would break into each other's.
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    return code


def guarded(
    action: Callable[[], int],
    *,
    memory_remedy: str,
    leave: Callable[[str, int], int] = say_and_leave,
    interrupted: str = "interrupted",
) -> int:
    """Calls `action`; returns what it returns, 1 after a sentence on what is wrong, or 130 when interrupted.

    Args:
        memory_remedy: what to do when memory is full.
        leave: gets the sentence and the exit code, and gives the code back.
        interrupted: the sentence for Ctrl-C and SIGTERM, where the interrupt brings none.
    """
    with on_sigterm(interrupt_once):
        return _guarded(action, memory_remedy, leave, interrupted)


def _guarded(action: Callable[[], int], memory_remedy: str, leave: Callable[[str, int], int], interrupted: str) -> int:
    try:
        return action()
    except KeyboardInterrupt as interrupt:
        return leave(str(interrupt) or interrupted, 130)
    except Stopped as stopped:
        return leave(str(stopped), 130)
    except (ValueError, OSError) as error:
        said = str(error)
    except RuntimeError as error:
        if not any(sign in str(error) for sign in MEMORY):
            raise
        said = f"{str(error).splitlines()[0]} Remedy: {memory_remedy}"
    return leave(f"error: {said}", 1)
