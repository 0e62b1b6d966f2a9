"""An image's size as its readers will see it, from as little of the file as will do."""

from __future__ import annotations

import os

from PIL import Image

from resnet_backbone.images.decode import UNREADABLE, check_depth

EXIF_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)
JPEG_END = b"\xff\xd9"
BEHIND_END = 32
"""Bytes behind a JPEG's end mark that are no mistake of anyone's."""
TURNING_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
"""Keywords of a PNG's text chunks in which Pillow looks for an orientation."""


def image_size(file: str) -> tuple[int, int]:
    """Height and width as Detectron2 will see the image, turned as its EXIF data say.

    Of JPEG and PNG the headers and the file's end are read; one without its end mark, and any other format, is decoded.

    Raises:
        ValueError: no image, one that is cut off, or one of more than 8 bits of grey.
    """
    try:
        with Image.open(file) as image:
            check_depth(image)
            width, height = image.size
            enough = _headers_suffice(file, image.format or "")
            # PNG's own getexif decodes the image, for what may stand behind the pixels.
            exif = Image.Image.getexif(image) if enough else image.getexif()
            sideways = exif.get(EXIF_ORIENTATION) in SIDEWAYS
            if not enough:
                image.load()
    except UNREADABLE as error:
        raise ValueError(f"{file}: not readable as an image ({error}); restore it or take it out") from error
    return (width, height) if sideways else (height, width)


def _headers_suffice(file: str, kind: str) -> bool:
    """Whether the file is whole, as far as its chunks or its end mark say, and an orientation would be known by now."""
    if kind == "PNG":
        return _png_suffices(file)
    return kind in ("JPEG", "MPO") and _has_jpeg_end(file)


def _has_jpeg_end(file: str) -> bool:
    with open(file, "rb") as stream:
        stream.seek(-min(len(JPEG_END) + BEHIND_END, os.path.getsize(file)), os.SEEK_END)
        return JPEG_END in stream.read()


def _png_suffices(file: str) -> bool:
    """Whether the chunks reach to the last one, and none behind the pixels can hold an orientation."""
    pixels = False
    with open(file, "rb") as stream:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if kind == b"IEND":
                return True
            start = stream.read(min(length, max(map(len, TURNING_TEXTS))))
            if pixels and (kind == b"eXIf" or start.startswith(TURNING_TEXTS)):
                return False
            pixels = pixels or kind == b"IDAT"
            stream.seek(length - len(start) + 4, os.SEEK_CUR)  # to behind the checksum
    return False
