"""From a file to pixels, as Detectron2 reads them: EXIF rotation applied, grey and palette images made RGB."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

UNREADABLE = (
    OSError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, EOFError, AttributeError,
    NotImplementedError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow's readers raise of damaged files."""


def open_image(path: str | Path | BinaryIO, name: str = "") -> Image.Image:
    """An upright RGB image, from a file or the bytes of one.

    Args:
        name: of the file in messages, where `path` does not say it.

    Raises:
        ValueError: no such file, no image, one that breaks off, or one of more than 8 bits of grey; names the file.
    """
    name = name or str(path)
    try:
        with warnings.catch_warnings():
            # A palette image with transparency in bytes is converted all the same.
            warnings.simplefilter("ignore", UserWarning)
            with Image.open(path) as image:
                check_depth(image)
                image.getexif()  # which the image keeps
                image.info.pop("exif", None)  # it would be written again into a turned image, and may not be writable
                return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise ValueError(f"{name}: no such image") from None
    except UnidentifiedImageError:
        raise ValueError(f"{name}: not an image that Pillow can read; remove it or convert it") from None
    except UNREADABLE as error:
        raise ValueError(f"{name}: the image does not decode ({error}); remove it or get it again") from None


def check_depth(image: Image.Image) -> None:
    """Refuses grey of more than 8 bits and floats, of which Pillow cuts off what is above 255: 16 bits become white.

    Raises:
        ValueError: says what to do.
    """
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels are {image.mode}, more than 8 bits: scale them to 0..255 and save it anew")


def read_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """RGB pixels of shape (height, width, 3), 0..255.

    Raises:
        ValueError: as `open_image`.
    """
    return np.asarray(open_image(path))
