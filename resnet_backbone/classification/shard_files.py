"""Bytes of a local file, of one behind an address, or of one in a bucket, from front to back."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import BinaryIO

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
    try:
        file = _by_fsspec(location) if is_remote(location) else Path(location).open("rb")  # noqa: SIM115
    except OSError as error:
        said = error.strerror or error
        raise ValueError(f"{location}: not readable ({said}); check the place and the rights") from None
    found = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size is not None and found != size:
        file.close()
        raise ValueError(f"{location}: has {found:,} bytes, but its index says {size:,}; copy or write it again")
    return file


def _by_fsspec(url: str) -> BinaryIO:
    scheme = url.partition("://")[0]
    try:
        opened: BinaryIO = importlib.import_module("fsspec").open(url, "rb").open()
    except (ImportError, ValueError):
        wanted = " ".join(["fsspec", *filter(None, [DRIVERS.get(scheme)])])
        raise ValueError(f"{url}: to read {scheme}:// addresses: pip install {wanted}") from None
    return opened
