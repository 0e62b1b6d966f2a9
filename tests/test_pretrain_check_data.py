"""Large sets in `--check`: a sample of them, and no more than their time."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from resnet_backbone.classification.data.splits import Array, Data, open_data
from resnet_backbone.classification.preflight import data as looked
from resnet_backbone.classification.recipe.config import TrainConfig

CONFIG = TrainConfig(network="resnet18", epochs=1, size=32)


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("n01440764", "n02102040"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(10):
                pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{index}.png")
    return tmp_path


def texts(findings):
    return [f"{finding.level} {finding.text}" for finding in findings]


def test_names_of_synsets(folders):
    said = texts(looked.count_findings(open_data(str(folders), holdout=2)))
    assert "18 images to train on, 2 held out of it, 20 to test on, 2 classes" in said[0]
    assert any(text.startswith("note the classes are named like ImageNet's, but there are 2") for text in said)


def test_a_sample_says_that_it_is_one(folders, monkeypatch):
    monkeypatch.setattr(looked, "LOOKED_AT", 10)
    data = open_data(str(folders))
    assert texts(looked.image_findings(data, CONFIG)) == ["ok 10 of 40 images, evenly spread, can be read"]
    assert texts(looked.both_sets_findings(data)) == ["ok no validation image of 10 looked at is a training image too"]
    first, last = folders / "train/n01440764/0.png", folders / "val/n02102040/9.png"
    shutil.copy(first, last)
    said = texts(looked.both_sets_findings(open_data(str(folders))))
    assert said[0].startswith(f"warning 1 validation images of 10 looked at are training images too (first: {last})")


def test_time_ends_it(folders):
    data = open_data(str(folders))
    assert texts(looked.image_findings(data, CONFIG, seconds=-1)) == ["ok 0 of 40 images, evenly spread, can be read"]
    assert "of 0 % compared in -1 s" in texts(looked.both_sets_findings(data, seconds=-1))[0]


def test_small_images(folders):
    large = texts(looked.image_findings(open_data(str(folders)), TrainConfig(network="resnet18", epochs=1, size=48)))
    assert large[1].startswith("warning 40 of 40 images are smaller than size 48 (smallest: 40 pixels, ")


def test_images_in_memory_are_compared_by_their_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), np.uint8)
    train, val = (Array(pixels[part], np.array([0, 1, 0, 1])[: len(pixels[part])], name)
                  for part, name in ((slice(0, 4), "train"), (slice(3, 6), "test")))  # fmt: skip
    data = Data(train, val, None, ("a", "b"), "made")
    assert texts(looked.image_findings(data, CONFIG)) == []
    assert "1 validation images are training images too (first: test/0)" in texts(looked.both_sets_findings(data))[0]
