"""The order of a run's images: complete epochs, any slice alone, and repeated augmentation as timm's."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from timm.data.distributed_sampler import RepeatAugSampler

from resnet_backbone.classification.data.order import Order, share
from resnet_backbone.classification.data.streams import Stream, generator
from resnet_backbone.classification.recipe.config import TrainConfig


def test_every_epoch_is_a_shuffle_of_its_own():
    stream = Order(50, seed=3).indices(0, 150).reshape(3, 50)
    assert (np.sort(stream) == np.arange(50)).all()
    assert len({tuple(epoch) for epoch in stream.tolist()}) == 3
    assert not np.array_equal(stream[0], Order(50, seed=4).indices(0, 50))


def test_any_slice_is_that_of_the_whole():
    whole = Order(7, seed=0).indices(0, 100)
    for start, stop in ((0, 3), (5, 9), (6, 30), (97, 100), (20, 20)):
        assert np.array_equal(pickle.loads(pickle.dumps(Order(7, seed=0))).indices(start, stop), whole[start:stop])


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_repeated_views_are_timms(ranks):
    count, repeats = 24, 3
    stream = Order(count, seed=1, repeats=repeats).indices(count, 2 * count)
    shuffle = Order(count, seed=1).indices(count, 2 * count)
    place = np.argsort(shuffle)
    for rank in range(ranks):
        timm = RepeatAugSampler(range(count), ranks, rank, shuffle=False, num_repeats=repeats, selected_round=0)
        assert place[stream[rank::ranks]].tolist() == [int(index) for index in timm]


def test_streams_do_not_share_their_numbers():
    draws = {generator(stream, seed, at).integers(2**62) for stream in Stream for seed in (0, 1) for at in (0, 1, 2)}
    assert len(draws) == len(Stream) * 6


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_views_of_one_image_are_no_neighbours_in_a_part(accumulate):
    config = TrainConfig("resnet18", epochs=1.0, batch_size=32, repeats=4, accumulate=accumulate)
    for iteration in (0, 3):
        places = share(config, iteration)
        assert sorted(places) == list(range(32 * iteration, 32 * (iteration + 1)))
        for part in np.split(places, accumulate):
            images = part // 4
            assert len(part) == 32 // accumulate and (np.diff(images) != 0).all()
