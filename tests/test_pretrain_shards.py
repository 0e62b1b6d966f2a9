"""Pretraining from tar shards: the same images as class folders, exact resume, workers, broken images."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_backbone.classification.data.batches import evaluation_batches, training_batches
from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.prepare.prepare import PrepareOptions, prepare
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.training.train import pretrain
from resnet_backbone.weights.files import read_weights

CPU = torch.device("cpu")
SMALL = TrainConfig(
    network="resnet18", stem_out_channels=8, res2_out_channels=8, epochs=2.0, batch_size=4, rate_per_256=1.0,
    scale=(0.5, 1.0), size=32, test_size=32, test_resize=36, exact_norm_images=8, workers=0, save_every=0.25,
    device="cpu",
)  # fmt: skip


@pytest.fixture
def folders(tmp_path):
    """Three classes of 8 and 3 JPEGs, each image of a grey of its own."""
    for split, count in (("train", 8), ("val", 3)):
        for label in range(3):
            folder = tmp_path / "folders" / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                grey = np.full((40, 44, 3), 10 * (8 * label + index) + 5, np.uint8)
                Image.fromarray(grey).save(folder / f"{index}.jpg")
    return tmp_path / "folders"


@pytest.fixture
def shards(folders, tmp_path):
    made = PrepareOptions(tmp_path / "shards", folders=folders, any_counts=True, shard_size=0.006)
    assert prepare(made, lambda line: None) == 0
    return tmp_path / "shards"


def greys(batches):
    return [int(image.float().mean() / 10) for batch in batches for image in batch.images]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_has_the_images_of_the_folders(shards, folders, workers):
    config = replace(SMALL, workers=workers)
    data = open_data(str(shards))
    assert data.classes == ("class0", "class1", "class2") and len(data.train) == 24
    epoch = list(islice(training_batches(data.train, config, 0, CPU), 6))
    assert sorted(greys(epoch)) == list(range(24))
    assert [grey // 8 for grey in greys(epoch)] == [int(label) for batch in epoch for label in batch.labels]
    assert [batch.iteration for batch in epoch] == list(range(6))
    tested = list(evaluation_batches(data.val, config))
    of_folders = list(evaluation_batches(open_data(str(folders)).val, config))
    assert sorted(greys(tested)) == sorted(greys(of_folders))


@pytest.mark.parametrize("workers", [0, 2, 3])
def test_batches_go_on_from_any_iteration(shards, workers):
    config = replace(SMALL, workers=workers, erasing=0.5)
    split = open_data(str(shards)).train
    there = replace(config, augment_on="device")
    whole = [batch.images for batch in islice(training_batches(split, there, 0, CPU), 13)]
    assert all(map(torch.equal, whole, (batch.images for batch in training_batches(split, config, 0, CPU))))
    for start in (1, 5, 8):
        rest = [batch.images for batch in islice(training_batches(split, config, start, CPU), 13 - start)]
        assert all(map(torch.equal, whole[start:], rest)) and len(rest) == 13 - start


def test_a_run_trains_on_shards_and_goes_on(shards, tmp_path):
    whole = pretrain(SMALL, shards, tmp_path / "whole")
    short = replace(SMALL, keep=4)
    pretrain(short, shards, tmp_path / "parts")
    (tmp_path / "parts/last.pth").write_bytes((tmp_path / "parts/last_00000010.pth").read_bytes())
    with pytest.raises(ValueError, match="read by 1 processes with workers 0, now by 1 with 1, in another order"):
        pretrain(replace(SMALL, workers=1), shards, tmp_path / "parts", resume=True)
    parts = pretrain(SMALL, shards, tmp_path / "parts", resume=True)
    first, second = (read_weights(one.weights).state for one in (whole, parts))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_what_shards_cannot_do_is_said(shards, tmp_path):
    with pytest.raises(ValueError, match="holdout: 3, but shards"):
        open_data(str(shards), holdout=3)
    with pytest.raises(ValueError, match="repeats: 2, but shards"):
        pretrain(replace(SMALL, repeats=2), shards, tmp_path / "run")


def test_a_truncated_shard_is_named(shards, tmp_path):
    shard = sorted((shards / "train").glob("*.tar"))[1]
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(ValueError, match=shard.name):
        pretrain(SMALL, shards, tmp_path / "run")


def test_a_run_does_not_go_on_from_shards_to_class_folders_or_back(shards, folders, tmp_path):
    """They hold the same images, in another order."""
    config = replace(SMALL, epochs=None, iterations=1, test_every=0.0, exact_norm_images=0)
    for begun, other, said in (
        (shards, folders, "tar shards, the data are image"),
        (folders, shards, "image files, the"),
    ):
        run = tmp_path / begun.name / "run"
        pretrain(config, begun, run)
        with pytest.raises(ValueError, match=f"last.pth: the run was begun with {said}"):
            pretrain(config, other, run, resume=True)
