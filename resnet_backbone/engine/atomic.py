"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def remove_unfinished(path: str | Path) -> None:
    """Takes away what `write_atomically` left of `path` in a process that was killed; none may be writing it now."""
    path = Path(path)
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        part.unlink(missing_ok=True)


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Calls `write` on a temporary file beside `path`, which then takes the place of `path` in one step.

    Raises:
        OSError: no such folder, no right to write, disk full; `path` is as before and nothing is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        # mkstemp makes files that only their owner can read.
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        # torch's writer, when anything comes up in its midst, fails of that in its own way.
        cause = (error.__context__ if isinstance(error, RuntimeError) else None) or error
        if isinstance(cause, OSError) and cause.filename is None and cause.errno is not None:
            # A write that fails does not say which file it was.
            raise OSError(cause.errno, cause.strerror, str(path)) from error
        if cause is not error:
            raise cause from None
        raise
