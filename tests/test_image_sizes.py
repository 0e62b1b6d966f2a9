"""Sizes of images before they are read: what Detectron2's reader then gives, or one sentence; seldom by decoding."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from PIL import Image, ImageFile

from resnet_backbone.images.size import image_size

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that are decoded while the test runs."""
    files: list[str] = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: files.append(self.filename) or load(self))
    return files


def turned(orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def png(*behind_pixels: bytes, **how: object) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, "PNG", **how)
    data = file.getvalue()
    return data[:-12] + b"".join(behind_pixels) + data[-12:]


EXIF = chunk(b"eXIf", turned().tobytes()[6:])
XMP_TEXT = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP.encode())
RAW = chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  26\n" + turned().tobytes().hex().encode())


@pytest.mark.parametrize(
    ("content", "size", "by_decoding"),
    [
        (png(), (40, 60), False),
        (png(exif=turned()), (60, 40), False),
        (png(chunk(b"tEXt", b"date:create\0today")), (40, 60), False),
        (png(EXIF), (60, 40), True),
        (png(XMP_TEXT), (60, 40), True),
        (png(RAW), (60, 40), True),
        (png(chunk(b"iTXt", b"Title\0\0\0\0\0a cat")), (40, 60), False),
    ],
)
def test_a_png_is_decoded_only_where_its_orientation_may_stand_behind_its_pixels(
    tmp_path: Path, decoded: list[str], content: bytes, size: tuple[int, int], by_decoding: bool
) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(content)
    assert image_size(str(file)) == size and bool(decoded) == by_decoding
    assert read_image(str(file), "RGB").shape[:2] == size


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "mpo"])
def test_sizes_are_those_of_detectron2s_reader(tmp_path: Path, kind: str, orientation: int) -> None:
    file = tmp_path / f"a.{kind}"
    PICTURE.save(file, kind, exif=turned(orientation))
    assert image_size(str(file)) == read_image(str(file), "RGB").shape[:2]


def test_a_photographs_xmp(tmp_path: Path, decoded: list[str]) -> None:
    PICTURE.save(tmp_path / "a.jpg", xmp=XMP.encode())
    assert image_size(str(tmp_path / "a.jpg")) == (60, 40) and not decoded
    assert read_image(str(tmp_path / "a.jpg"), "RGB").shape[:2] == (60, 40)


@pytest.mark.parametrize("kind", ["bmp", "tiff", "gif", "ppm", "webp", "png", "jpeg"])
def test_an_image_that_breaks_off_is_refused_whatever_its_format(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"a.{kind}"
    PICTURE.save(file, kind)
    assert image_size(str(file)) == (40, 60)
    whole = file.read_bytes()
    for share in (0.3, 0.6, 0.95):
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(Exception):  # noqa: B017 (whatever it is: only that it is not read)
            read_image(str(file), "RGB")
        with pytest.raises(ValueError, match="not readable as an image"):
            image_size(str(file))
