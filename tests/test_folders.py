"""Class folders: what is found in them, in which order, and in how little memory it is kept."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from resnet_backbone.classification.data.broken import Broken
from resnet_backbone.classification.data.folders import Paths, find_splits
from resnet_backbone.classification.testing.images import find_images
from resnet_backbone.weights.verify import labelled_images

NAMES = ["a/b/z.png", "a/b.c/1.jpg", "a/10.jpg", "a/9.JPEG", "a/Ä ö.webp", "b/1.tiff", "b/a.b.jpg"]


@pytest.fixture
def root(tmp_path):
    for split in ("train", "val"):
        for name in (
            *NAMES,
            "a/notes.txt",
            "b/jpg",
            "b/.jpg",
            "a/._9.JPEG",
            "b/.thumbnails/1.jpg",
            ".hidden/1.jpg",
            "readme.md",
        ):
            file = tmp_path / split / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    return tmp_path


def test_images_are_found_in_the_order_of_their_paths(root):
    train, val = find_splits(root)
    assert train.classes == ("a", "b") and len(train) == len(val) == 7
    assert list(train.paths) == sorted(root / "train" / name for name in NAMES)
    assert train.labels.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert train.paths[-1] == train.paths[6] == root / "train/b/a.b.jpg"
    with pytest.raises(IndexError):
        train.paths[7]


def test_links_are_followed_to_images_and_to_classes(root):
    for split in ("train", "val"):
        (root / split / "c").symlink_to(root / split / "a", target_is_directory=True)
        (root / split / "b/2.jpg").symlink_to(root / split / "a/10.jpg")
    train, _ = find_splits(root)
    assert train.classes == ("a", "b", "c") and train.labels.tolist() == [0] * 5 + [1] * 3 + [2] * 5


def test_many_files_take_no_more_than_their_names():
    names = [f"n{n // 1000:08}/n{n // 1000:08}_{n}.JPEG" for n in range(20_000)]
    paths = Paths(Path("/data/train"), names)
    assert len(pickle.dumps(paths)) < sum(map(len, names)) + 8 * len(names) + 1000
    assert paths[12_345] == Path("/data/train") / names[12_345]


def test_what_is_tested_and_verified_on_are_the_images_and_labels_of_training(root):
    _, val = find_splits(root)
    expected = list(zip(val.paths, val.labels.tolist(), strict=True))
    assert labelled_images(root / "val") == expected
    found = find_images(root)
    names = [found.split.name(number) for number in found.numbers]
    assert list(zip(map(Path, names), found.labels, strict=True)) == expected and found.classes == val.classes


def test_broken_images_are_listed_by_their_bytes(tmp_path):
    broken = Broken(1, tmp_path)
    broken.add([(os.fsdecode(b"caf\xe9.jpg"), "caf?.jpg: cut off")])
    assert (tmp_path / "broken_images.txt").read_bytes() == b"caf\xe9.jpg\n"
