"""A region of a JPEG, decoded by a compiled helper where `resnet-backbone build-decoder` has built it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import platform
from pathlib import Path

import numpy as np
import numpy.typing as npt

from resnet_backbone.cache import cache_folder

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in whole pixels; the last two are not in it."""

# As region.c returns them.
DECODED, SEVERAL_SCANS = 0, 2
SOURCE = Path(__file__).with_name("region.c")


def library_path() -> Path:
    """Where the helper is kept: another one for another source or kind of machine."""
    source = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    return cache_folder() / f"region-{platform.machine()}-{source}.so"


@functools.cache
def library() -> ctypes.CDLL | None:
    """The helper, None where it is not built or does not load (built on another system, say); looked for once."""
    path = library_path()
    try:
        return load(path) if path.is_file() else None
    except OSError:
        return None


def load(path: Path) -> ctypes.CDLL:
    """The helper in `path`.

    Raises:
        OSError: no shared library of this system, or libjpeg-turbo is not there.
    """
    found = ctypes.CDLL(str(path))
    found.decode_region.argtypes = [ctypes.c_char_p, ctypes.c_size_t, *[ctypes.c_uint] * 4, ctypes.c_void_p]
    found.decode_region.restype = ctypes.c_int
    return found


def decode_region(data: bytes, box: Box, helper: ctypes.CDLL) -> npt.NDArray[np.uint8] | None:
    """RGB of shape (bottom - top, right - left, 3), the pixels that libjpeg-turbo gives for the whole file.

    What is behind the region is not read, so that damage there goes unnoticed.

    Returns:
        None for progressive files, of which the helper would have to read everything.

    Raises:
        ValueError: no JPEG, damaged, or the box reaches outside.
    """
    left, top, right, bottom = box
    if not (0 <= left < right and 0 <= top < bottom):
        raise ValueError(f"no part of an image: {box}")
    pixels = np.empty((bottom - top, right - left, 3), np.uint8)
    reason: int = helper.decode_region(data, len(data), left, top, right, bottom, pixels.ctypes.data)
    if reason not in (DECODED, SEVERAL_SCANS):
        raise ValueError(f"damaged, or without the part {box}")
    return pixels if reason == DECODED else None
