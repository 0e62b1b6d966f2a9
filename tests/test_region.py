"""Parts of JPEGs by the compiled helper: the pixels of the whole file, bit for bit, and no harm by hostile ones."""

from __future__ import annotations

import io
import random
import shutil

import numpy as np
import pytest
from made_photographs import KINDS, content, photograph
from PIL import Image

from resnet_backbone.cli import main
from resnet_backbone.images import build_region
from resnet_backbone.images.region import decode_region, library, library_path
from resnet_backbone.images.views import view_of


@pytest.fixture
def helper(built_decoder, monkeypatch):
    monkeypatch.setenv("RESNET_BACKBONE_CACHE", str(built_decoder))
    library.cache_clear()
    yield library()
    library.cache_clear()


def some_boxes(height, width, count, seed=0):
    """Whole pixels, from single ones to the image; three of four touch an edge."""
    rng = random.Random(seed)
    for number in range(count):
        left, top = rng.randrange(width), rng.randrange(height)
        right, bottom = rng.randint(left + 1, width), rng.randint(top + 1, height)
        edges = [(left, top, right, bottom), (0, top, right, bottom), (left, top, right, height), (0, 0, width, bottom)]
        yield edges[number % 4]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "progressive"])
@pytest.mark.parametrize(("height", "width"), [(61, 93), (16, 16), (7, 250)])
def test_a_part_is_that_of_pillows_whole_image(helper, kind, height, width):
    mode, options = KINDS[kind]
    data = content(photograph(height, width).convert(mode), **options)
    whole = decode_region(data, (0, 0, width, height), helper)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.abs(whole.astype(int) - expected).max() <= 1  # by another version of libjpeg-turbo, maybe
    for left, top, right, bottom in some_boxes(height, width, 60):
        part = decode_region(data, (left, top, right, bottom), helper)
        assert np.array_equal(part, whole[top:bottom, left:right])


@pytest.mark.parametrize(
    "pattern", ["imagenette/val/*/*", "imagenet_val/*.JPEG", "coco/val2017/*.jpg", "VOC2012/JPEGImages/*.jpg"]
)
def test_a_part_of_a_real_photograph(helper, real_data, pattern):
    for seed, file in enumerate(sorted(real_data.glob(pattern))[::9][:20]):
        expected = np.asarray(Image.open(file).convert("RGB"))
        whole = decode_region(file.read_bytes(), (0, 0, *expected.shape[1::-1]), helper)
        assert np.abs(whole.astype(int) - expected).max() <= 1
        for left, top, right, bottom in some_boxes(*whole.shape[:2], 8, seed):
            part = decode_region(file.read_bytes(), (left, top, right, bottom), helper)
            assert np.array_equal(part, whole[top:bottom, left:right]), file


@pytest.mark.parametrize(
    "box", [(-1, 0, 5, 5), (0, 0, 91, 5), (0, 0, 5, 61), (5, 0, 5, 9), (9, 0, 5, 9), (0, 0, 2**32, 1)]
)
def test_a_box_outside_is_refused(helper, box):
    with pytest.raises(ValueError):
        decode_region(content(photograph(60, 90)), box, helper)


def test_progressive_files_are_not_for_the_helper(helper):
    assert decode_region(content(photograph(), progressive=True), (0, 0, 9, 9), helper) is None


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_files_are_decoded_or_refused(helper, kind):
    mode, options = KINDS[kind]
    good, rng = content(photograph(64, 96).convert(mode), **options), random.Random(0)
    refused = 0
    for _ in range(400):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data) if rng.random() < 0.5 else 300)] = rng.choice([0, 255, rng.randrange(256)])
        try:
            decode_region(bytes(data[: rng.choice([len(data), rng.randrange(len(data))])]), (8, 8, 90, 60), helper)
        except ValueError:
            refused += 1
    assert 100 < refused < 400


def test_damage_that_the_helper_meets_is_pillows_to_judge(helper, monkeypatch):
    data = content(photograph(200, 300), quality=90)
    middle = len(data) // 2
    data = data[:middle] + b"\xff\xdb\xff\xff" + data[middle:]
    with pytest.raises(ValueError, match="a.jpg: the image does not decode"):
        view_of(data, lambda height, width: (0, 0, width, height), 32, name="a.jpg")
    monkeypatch.setattr("resnet_backbone.images.views.open_image", None)  # not needed: the part is whole
    assert view_of(data, lambda height, width: (0, 0, width, 40), 32).shape == (3, 32, 32)


def test_the_command_builds_what_is_found(built_decoder, capsys):
    assert main(["build-decoder"]) == 0
    assert str(library_path()) in capsys.readouterr().out and library_path().is_file()
    assert library() is not None
    library.cache_clear()


@pytest.mark.parametrize("what", ["compiler", "headers", "pixels"])
def test_why_it_is_not_built_is_one_sentence(what, capsys, monkeypatch, tmp_path):
    if what == "compiler":
        monkeypatch.setenv("CC", "no-such-compiler")
    elif shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    elif what == "headers":
        source = tmp_path / "region.c"
        source.write_text("#include <no_such_jpeglib.h>\n")
        monkeypatch.setattr(build_region, "SOURCE", source)
    else:
        real = build_region.decode_region
        monkeypatch.setattr(build_region, "decode_region", lambda d, box, h: real(d, box, h) + np.uint8(box[0] > 0))
    assert main(["build-decoder"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "only slower" in said
    assert not list(library_path().parent.glob("*"))


def test_a_helper_that_does_not_load_is_none(tmp_path):
    library_path().parent.mkdir(parents=True)
    library_path().write_bytes(b"of another system")
    library.cache_clear()
    assert library() is None
    library.cache_clear()
