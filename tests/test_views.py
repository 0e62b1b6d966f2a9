"""Training views: Pillow's way is torchvision's, the quick ways are within two grey levels of it."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torchvision.transforms as T
import torchvision.transforms.functional as F
from made_photographs import KINDS, content, photograph
from PIL import Image
from torchvision.datasets.folder import pil_loader

from resnet_backbone.images.decode import read_image
from resnet_backbone.images.region import library
from resnet_backbone.images.views import view_of, view_of_pixels


@pytest.fixture(params=["OpenCV", "helper"])
def decoder(request, monkeypatch):
    """Each quick way in turn."""
    if request.param == "helper":
        monkeypatch.setenv("RESNET_BACKBONE_CACHE", str(request.getfixturevalue("built_decoder")))
    library.cache_clear()
    assert (library() is not None) == (request.param == "helper")
    yield request.param
    library.cache_clear()


def torchvision_box(seed, height, width):
    """RandomResizedCrop's."""
    torch.manual_seed(seed)
    top, left, h, w = T.RandomResizedCrop.get_params(torch.empty(3, height, width), [0.08, 1.0], [3 / 4, 4 / 3])
    return left, top, left + w, top + h


def whole(height, width):
    return 0, 0, width, height


def difference(a, b):
    return (a.int() - b.int()).abs()


PATTERNS = ["imagenette/train/*/*", "imagenet_val/*.JPEG", "coco/train2017/*.jpg", "VOC2012/JPEGImages/*.jpg"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_pillows_way_is_torchvisions(real_data, pattern):
    for seed, file in enumerate(sorted(real_data.glob(pattern))[:8]):
        torch.manual_seed(seed)
        expected = F.pil_to_tensor(T.RandomResizedCrop(224)(pil_loader(str(file))))
        view = view_of(file.read_bytes(), lambda h, w, seed=seed: torchvision_box(seed, h, w), 224, plain=True)
        assert torch.equal(view, expected)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_real_photographs_within_two_levels_and_a_tenth_on_average(decoder, real_data, pattern):
    means = []
    for seed, file in enumerate(sorted(real_data.glob(pattern))[::5][:20]):
        data, choose = file.read_bytes(), lambda h, w, seed=seed: torchvision_box(seed, h, w)
        found = difference(view_of(data, choose, 224), view_of(data, choose, 224, plain=True))
        assert found.max() <= 2
        means.append(float(found.float().mean()))
    assert np.mean(means) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_jpeg_is_decoded_the_quick_way(decoder, kind, monkeypatch):
    mode, options = KINDS[kind]
    data = content(photograph(90, 140).convert(mode), **options)
    choose = lambda height, width: (11, 7, 100, 81)  # noqa: E731
    expected = view_of(data, choose, 48, plain=True)
    monkeypatch.setattr("resnet_backbone.images.views.open_image", None)
    view = view_of(data, choose, 48)
    assert view.shape == (3, 48, 48) and view.dtype == torch.uint8 and view.is_contiguous()
    assert difference(view, expected).max() <= 2


def odd_files():
    image = photograph(60, 90)
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "cmyk.jpg": content(image.convert("CMYK")),
        "a PNG.JPEG": content(image, format="PNG"),
        "grey.png": content(image.convert("L"), format="PNG"),
        "palette.gif": content(image.quantize(8), format="GIF"),
        "turned.jpg": content(image, exif=exif),
        "something behind.jpg": content(image) + bytes(9),
    }


@pytest.mark.parametrize("name", odd_files())
def test_odd_files_are_what_read_image_reads(decoder, tmp_path, name):
    data = odd_files()[name]
    (tmp_path / name).write_bytes(data)
    pixels, sizes = read_image(tmp_path / name), []

    def choose(height, width):
        sizes.append((height, width))
        return 5, 9, 51, 60

    expected = Image.fromarray(pixels).crop((5, 9, 51, 60)).resize((32, 32), Image.Resampling.BILINEAR)
    plain = view_of(data, choose, 32, plain=True)
    assert np.array_equal(plain.permute(1, 2, 0), np.asarray(expected)) and sizes == [pixels.shape[:2]]
    quick = view_of(data, choose, 32)  # Pillow's decoding, torch's resizing
    assert torch.equal(quick, view_of_pixels(pixels, (5, 9, 51, 60), 32)) and sizes == [pixels.shape[:2]] * 2
    assert (quick.int() - plain.int()).abs().max() <= 2


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("keep", [0, 2, 20, 300, 0.5, 0.9])
def test_a_file_that_breaks_off_is_one_sentence_with_its_name(decoder, keep, plain):
    data = content(photograph(200, 300))
    data = data[: keep if isinstance(keep, int) else int(len(data) * keep)]
    with pytest.raises(ValueError, match=r"^n01/a.jpg: [^\n]+$"):
        view_of(data, whole, 32, plain=plain, name="n01/a.jpg")


def test_an_enormous_size_is_one_sentence(decoder):
    data = bytearray(content(photograph()))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\x00\xff\x00"
    with pytest.raises(ValueError, match="a.jpg: the image does not decode .*decompression bomb"):
        view_of(bytes(data), lambda h, w: (0, 0, 50, 50), 32, name="a.jpg")


def test_hostile_files_are_a_view_or_one_sentence(decoder):
    good, rng, outcomes = content(photograph(64, 96)), random.Random(0), set()
    for _ in range(300):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data) if rng.random() < 0.5 else 300)] = rng.choice([0, 255, rng.randrange(256)])
        calls = []
        try:
            view = view_of(
                bytes(data), lambda h, w, calls=calls: calls.append(1) or (w // 4, 0, w, h), 32, name="a.jpg"
            )
            outcomes.add(tuple(view.shape))
        except ValueError as error:
            outcomes.add(str(error).split(" ")[0])
        assert len(calls) <= 1  # or random numbers would depend on the decoder
    assert outcomes == {(3, 32, 32), "a.jpg:"}


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("box", [(0, 0, 90, 60), (10, 5, 42, 37), (89, 59, 90, 60)])
def test_of_decoded_pixels_the_same(box, plain):
    data = content(photograph(60, 90), format="PNG")
    pixels = np.array(photograph(60, 90))
    before = pixels.copy()
    view = view_of_pixels(pixels, box, 32, plain=plain)
    assert difference(view, view_of(data, lambda h, w: box, 32, plain=True)).max() <= (0 if plain else 1)
    view.zero_()
    assert np.array_equal(pixels, before)  # no part of a cache
