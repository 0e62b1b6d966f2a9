"""What a user can mend ends in one sentence and an exit code, never in a traceback."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Callable

from resnet_backbone.engine.interrupt import Stopped, interrupt_once, on_sigterm

MEMORY = ("out of memory", "not enough memory")


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
    workers: str = "the number of workers",
    interrupted: str = "interrupted",
) -> int:
    """Calls `action`; returns what it returns, 1 after a sentence on what is wrong, or 130 when interrupted.

    Args:
        memory_remedy: what to do when memory is full.
        leave: gets the sentence and the exit code, and gives the code back.
        workers: what the number of a data loader's workers is called.
        interrupted: the sentence for Ctrl-C and SIGTERM, where the interrupt brings none.
    """

    def left(line: str, code: int) -> int:
        with on_sigterm(signal.SIG_IGN):  # torchrun sends it as soon as another process has left
            return leave(line, code)

    with on_sigterm(interrupt_once):
        try:
            return action()
        except KeyboardInterrupt as interrupt:
            return left(str(interrupt) or interrupted, 130)
        except Stopped as stopped:
            return left(str(stopped), 130)
        except (ValueError, OSError) as error:
            said = str(error)
        except (RuntimeError, MemoryError) as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # torch's writer fails of it in its own way
                return left(str(error.__context__) or interrupted, 130)
            remedy = _remedy(error, memory_remedy, workers)
            if remedy is None:
                raise
            said = f"{(str(error) or 'out of memory').splitlines()[0]} Remedy: {remedy}"
        return left(f"error: {said}", 1)


def _remedy(error: RuntimeError | MemoryError, memory_remedy: str, workers: str) -> str | None:
    """What to do about memory of the device, of the machine or between processes; None for any other error."""
    said = str(error)
    if "shared memory" in said:
        return f"a container with --shm-size=8g, or set {workers} to 0"
    if "DataLoader worker (pid" in said:
        return f"lower {workers}, for a worker is mostly killed when the machine's memory is full"
    if isinstance(error, MemoryError):
        return f"lower {workers}, or take {memory_remedy}"
    return memory_remedy if any(sign in said for sign in MEMORY) else None
