"""Decoding against Detectron2's reader, the test view against torchvision's transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.transforms as T
from detectron2.data.detection_utils import read_image as detectron2_read
from PIL import ExifTags, Image

from resnet_backbone.images.decode import open_image, read_image
from resnet_backbone.images.size import image_size
from resnet_backbone.images.transforms import central_view, normalise


@pytest.fixture(params=["RGB", "L", "P", "RGBA", "CMYK"])
def picture(request, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (37, 53, 3), dtype=np.uint8)
    path = tmp_path / ("image.tif" if request.param == "CMYK" else "image.png")
    Image.fromarray(pixels).convert(request.param).save(path)
    return path


def test_pixels_are_detectron2s(picture):
    assert np.array_equal(read_image(picture), detectron2_read(str(picture), format="RGB"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_detectron2s(tmp_path, orientation):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 32, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "i.jpg", exif=exif)
    ours = read_image(tmp_path / "i.jpg")
    assert np.array_equal(ours, detectron2_read(str(tmp_path / "i.jpg"), format="RGB"))
    assert ours.shape == ((16, 32, 3) if orientation < 5 else (32, 16, 3))


@pytest.mark.parametrize("size", [(50, 80), (81, 50), (64, 64), (30, 31)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_central_view_is_torchvisions(size, interpolation):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8))
    mode = T.InterpolationMode(interpolation)
    expected = T.Compose([T.Resize(48, mode), T.CenterCrop(40), T.PILToTensor()])(image)
    view = central_view(image, 48, 40, interpolation)
    assert torch.equal(view, expected)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    reference = T.Normalize(mean, std)(expected.float() / 255)
    ours = normalise(view, [255 * m for m in mean], [255 * s for s in std])
    assert torch.allclose(ours, reference, atol=1e-5)


def test_bgr_statistics_belong_to_bgr_channels():
    pixels = torch.tensor([10.0, 20.0, 30.0]).view(1, 3, 1, 1)
    out = normalise(pixels, (30.0, 20.0, 10.0), (1.0, 1.0, 1.0), "BGR")
    assert torch.equal(out, torch.zeros(1, 3, 1, 1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_normalising_leaves_the_pixels_as_they_are(dtype, order):
    pixels = torch.full((2, 3, 4, 4), 9, dtype=dtype)
    assert torch.equal(normalise(pixels, (1.0,) * 3, (2.0,) * 3, order), torch.full((2, 3, 4, 4), 4.0))
    assert torch.equal(pixels, torch.full((2, 3, 4, 4), 9, dtype=dtype))


@pytest.mark.parametrize(("content", "message"), [(b"hello", "not an image"), (None, "no such image")])
def test_no_image_is_one_sentence(tmp_path, content, message):
    path = tmp_path / "x.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"x.jpg: {message}"):
        open_image(path)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_more_than_8_bits_are_one_sentence_and_no_white_image(tmp_path, dtype):
    """Pillow cuts off what is above 255, and Detectron2 sees what Pillow gives."""
    path = tmp_path / "x.tiff"
    Image.fromarray(np.arange(300, 2700).reshape(40, 60).astype(dtype)).save(path)
    assert set(detectron2_read(str(path), format="RGB").flatten()) == {255}
    for read in (read_image, image_size):
        with pytest.raises(ValueError, match="x.tiff: .* more than 8 bits: scale them to 0..255 and save it anew"):
            read(path)
    Image.fromarray(np.arange(300, 2700).reshape(40, 60).astype(np.uint8)).save(path)
    assert read_image(path).shape == (40, 60, 3) and image_size(path) == (40, 60)


def test_truncated_image_is_one_sentence(tmp_path):
    path = tmp_path / "x.jpg"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8) + 99).save(path)
    path.write_bytes(path.read_bytes()[:300] + b"")
    with pytest.raises(ValueError, match="does not decode"):
        open_image(path)


@pytest.mark.parametrize(("name", "place", "byte"), [("x.ppm", 4, 0), ("x.png", 11, 0), ("x.tif", 72, 2)])
def test_what_pillow_raises_of_odd_headers_is_one_sentence(tmp_path, name, place, byte):
    """A number that is none, a header of no bytes, rows in a strip as text: ValueErrors and a TypeError."""
    Image.new("RGB", (2, 2)).save(tmp_path / name)
    content = bytearray((tmp_path / name).read_bytes())
    content[place] = byte
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: the image does not decode"):
        open_image(tmp_path / name)


def test_exif_that_pillow_cannot_write_again_is_no_obstacle(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    exif, path = Image.Exif(), tmp_path / "x.jpg"
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.ImageWidth] = 6, 24
    Image.fromarray(pixels).save(path, exif=exif)
    written = path.read_bytes()
    as_number, as_text = b"\x01\x00\x00\x04\x00\x00\x00\x01", b"\x01\x00\x00\x02\x00\x00\x00\x01"
    assert written.count(as_number) == 1
    path.write_bytes(written.replace(as_number, as_text))
    assert np.array_equal(read_image(path), detectron2_read(str(path), "RGB")) and read_image(path).shape == (24, 16, 3)
