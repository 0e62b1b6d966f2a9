"""Tar archives, of which one may be cut off: then one sentence says which, and what to do."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

DAMAGED = (OSError, EOFError, tarfile.TarError)


@contextmanager
def opened(
    where: Path | str, stream: IO[bytes] | None = None, mode: Literal["r", "r:", "r|"] = "r"
) -> Iterator[tarfile.TarFile]:
    """An archive.

    Args:
        where: its path, or with `stream` what it is called.
        mode: "r:" takes none that is compressed, "r|" only reads on (no seeking), "r" takes any.

    Raises:
        ValueError: none, or not readable.
    """
    try:
        archive = tarfile.open(where if stream is None else None, mode, stream)  # noqa: SIM115
    except FileNotFoundError:
        raise ValueError(f"{where}: no such file") from None
    except DAMAGED as error:
        plain = "" if mode == "r" else " that is not compressed"
        said = str(error).splitlines()[0]
        raise ValueError(f"{where}: not readable as an archive{plain} ({said}); get it again") from None
    with archive:
        yield archive


def files_of(archive: tarfile.TarFile, where: Path | str) -> Iterator[tarfile.TarInfo]:
    """Its plain files, in their order.

    Raises:
        ValueError: the archive is cut off.
    """
    try:
        yield from (member for member in archive if member.isfile())
    except DAMAGED as error:
        raise ValueError(f"{where}: cut off or damaged ({error}); get it again, then go on") from None


def content_of(archive: tarfile.TarFile, member: tarfile.TarInfo, where: Path | str) -> bytes:
    """A file's bytes.

    Raises:
        ValueError: the archive is cut off.
    """
    try:
        stream = archive.extractfile(member)
        content = b"" if stream is None else stream.read()
    except DAMAGED as error:
        raise ValueError(f"{where}: {member.name}: cut off or damaged ({error}); get it again, then go on") from None
    if len(content) != member.size:
        raise ValueError(f"{where}: {member.name}: cut off; get it again, then go on")
    return content
