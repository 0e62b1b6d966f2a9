"""JPEG files decoded by OpenCV: the pixels that Pillow gives, sooner."""

from __future__ import annotations

import re
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Order = Literal["RGB", "BGR"]

# Frames of Huffman-coded lossy JPEG, baseline to progressive.
FRAMES = (0xC0, 0xC1, 0xC2)
START_OF_SCAN, APPLICATION_1 = 0xDA, 0xE1
# Where EXIF says no orientation, Pillow takes that of XMP, by the same pattern.
XMP, XMP_ORIENTATION = b"http://ns.adobe.com/xap/1.0/\0", re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def decode_jpeg(data: bytes, order: Order = "BGR") -> npt.NDArray[np.uint8] | None:
    """Pixels of shape (height, width, 3), 0..255; grey becomes three equal channels.

    Pillow's and OpenCV's decoders agree on what this decodes: JPEG of 8 bits with one or three channels, whole,
    and not to be turned by its EXIF or XMP data.

    Args:
        data: a file's content.
        order: of the channels.

    Returns:
        None for anything else, which is for Pillow to read or to refuse.
    """
    if jpeg_size(data) is None:
        return None
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        return None
    return image if order == "BGR" else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of what `decode_jpeg` decodes, by the headers up to the first scan; None for anything else."""
    if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":  # cut off, OpenCV would fill with grey
        return None
    at, size = 2, None
    while at + 10 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        if kind == START_OF_SCAN:
            return size
        if kind == APPLICATION_1 and _may_turn(data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]):
            return None
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            size = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            if not (kind in FRAMES and data[at + 4] == 8 and data[at + 9] in (1, 3) and _has_usual_size(*size)):
                return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _has_usual_size(height: int, width: int) -> bool:
    """Whether Pillow would decode so many pixels without a word."""
    return 0 < height * width <= (Image.MAX_IMAGE_PIXELS or 2**30)  # OpenCV's own limit


def _may_turn(application: bytes) -> bool:
    """Whether an APP1 segment holds an orientation other than upright, or EXIF that is not readable."""
    if application.startswith(XMP):
        return any(found != b"1" for found in XMP_ORIENTATION.findall(application))
    if not application.startswith(b"Exif"):
        return False
    segment = application[6:]
    order: Literal["little", "big"] = "little" if segment[:2] == b"II" else "big"
    if segment[:2] not in (b"II", b"MM"):
        return True
    first = int.from_bytes(segment[4:8], order)
    count = int.from_bytes(segment[first : first + 2], order)
    for entry in range(first + 2, first + 2 + 12 * count, 12):
        field = segment[entry : entry + 12]
        if len(field) < 12:
            return True
        if int.from_bytes(field[:2], order) == 0x0112:
            return int.from_bytes(field[8:10], order) != 1
    return False
