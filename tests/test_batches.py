"""The order of training data: Detectron2's own, but a resumed run can start in the middle."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper, build_detection_train_loader
from detectron2.data.samplers import TrainingSampler
from made_data import SMALL, write_config, write_rectangles

from resnet_backbone.detection.training.batches import SeededRecords, training_batches, training_records
from resnet_backbone.detection.training.config import read_config
from resnet_backbone.detection.training.sets import use_data
from resnet_backbone.engine.seeds import seed_of


@pytest.fixture
def cfg(tmp_path):
    text = SMALL.replace("[64]", "[48, 64, 80]")
    root = write_rectangles(tmp_path / "rectangles", images=9)
    read = read_config(write_config(tmp_path, text), ["DATA.ROOT", str(root)])
    use_data(read.cfg, read.explicit)
    return read.cfg


def names(batches, count):
    return [[one["file_name"] for one in batch] for batch in islice(batches, count)]


def test_the_same_batches_as_detectron2s_loader(cfg):
    records = training_records(cfg)
    stock = build_detection_train_loader(
        records, mapper=DatasetMapper(cfg, True), sampler=TrainingSampler(len(records), seed=3), total_batch_size=2
    )
    assert names(training_batches(cfg, records, seed=3), 25) == names(stock, 25)
    assert names(training_batches(cfg, records, seed=4), 25) != names(stock, 25)


@pytest.mark.parametrize("start", [1, 7, 16])
@pytest.mark.parametrize("workers", [0, 2])
def test_starting_in_the_middle_gives_the_same_pixels(cfg, start, workers):
    records = training_records(cfg)
    whole = list(islice(training_batches(cfg, records, seed=1), start + 3))[start:]
    cfg.DATALOADER.NUM_WORKERS = workers
    part = list(islice(training_batches(cfg, records, seed=1, start=start), 3))
    for one, other in zip(whole, part, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a["file_name"] == b["file_name"] and torch.equal(a["image"], b["image"])
            assert torch.equal(a["instances"].gt_boxes.tensor, b["instances"].gt_boxes.tensor)


def test_what_is_drawn_differs_from_epoch_to_epoch(cfg):
    records = training_records(cfg)
    sizes = {}
    for batch in islice(training_batches(cfg, records, seed=1), 30):
        for one in batch:
            sizes.setdefault(one["file_name"], set()).add(tuple(one["image"].shape))
    assert max(map(len, sizes.values())) > 1


def test_wide_and_tall_images_do_not_meet(cfg):
    for batch in islice(training_batches(cfg, training_records(cfg), seed=1), 20):
        assert len({one["width"] > one["height"] for one in batch}) == 1


def test_a_failing_image_is_an_error_that_names_it():
    def mapper(record):
        raise KeyError("annotations")

    error = SeededRecords([{"file_name": "a.jpg"}], mapper, 0)[(0, 0)]
    assert isinstance(error, ValueError) and "a.jpg: cannot be trained on (KeyError" in str(error)


def test_seeds_are_spread():
    seeds = {seed_of(a, b, c) for a in range(4) for b in range(4) for c in range(50)}
    assert len(seeds) == 800 and max(seeds) < 2**32 and np.std([s / 2**32 for s in seeds]) > 0.25
