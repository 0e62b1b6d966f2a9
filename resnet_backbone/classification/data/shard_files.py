"""Bytes of a local file, of one behind an address, or of one in a bucket, from front to back."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from resnet_backbone.engine.http_stream import HttpStream

CHUNK = 1 << 20
DRIVERS = {"s3": "s3fs", "gs": "gcsfs"}


def is_remote(location: str) -> bool:
    """Whether it is an address and no path."""
    return "://" in location


def open_bytes(location: str, size: int | None = None) -> BinaryIO:
    """The file at a path, or at http://, https:// or whatever else fsspec knows (s3://, gs://).

    Args:
        size: bytes that it must have, where they are known.

    Raises:
        ValueError: no such file, another size, or what reads such addresses is not installed.
    """
    if location.startswith(("http://", "https://")):
        return io.BufferedReader(HttpStream(location, size=size), CHUNK)  # type: ignore[return-value]
    open_it = _by_fsspec(location) if is_remote(location) else Path(location).open
    try:
        file: BinaryIO = open_it("rb")
    except Exception as error:  # each driver has errors of its own
        said = getattr(error, "strerror", None) or error
        raise ValueError(f"{location}: not readable ({said}); check the place and the rights") from None
    found = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size is not None and found != size:
        file.close()
        raise ValueError(f"{location}: has {found:,} bytes, but its index says {size:,}; copy or write it again")
    return file


def _by_fsspec(url: str) -> Callable[[str], Any]:
    """What opens the file."""
    scheme = url.partition("://")[0]
    try:
        files, path = importlib.import_module("fsspec.core").url_to_fs(url)
    except OSError as error:  # some drivers connect at once
        raise ValueError(f"{url}: not readable ({error.strerror or error}); check the place and the rights") from None
    except (ImportError, ValueError):
        wanted = " ".join(["fsspec", *filter(None, [DRIVERS.get(scheme)])])
        raise ValueError(f"{url}: to read {scheme}:// addresses: pip install {wanted}") from None
    return partial(files.open, path)
