"""The order of samples out of shards, against what is in them: each once, the same from anywhere, resumed exactly."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_shards import CLASSES, COUNTS, write_shards

from resnet_backbone.classification.data import shard_reader, shards
from resnet_backbone.classification.data.shard_index import Shard, ShardSet
from resnet_backbone.classification.data.shards import ShardStream, each_once

N = sum(COUNTS)
STARTS = list(itertools.accumulate(COUNTS, initial=0))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return folder, write_shards(folder)


@pytest.fixture(scope="module")
def split(made):
    return ShardSet.open(made[0])


@pytest.fixture
def opened(monkeypatch):
    """Names of the shards that are opened."""
    names: list[str] = []

    def open_bytes(location, size=None):
        names.append(location.rsplit("/", 1)[-1])
        return before(location, size)

    before = shard_reader.open_bytes
    monkeypatch.setattr(shard_reader, "open_bytes", open_bytes)
    return names


def take(stream: ShardStream, count: int) -> list:
    return list(itertools.islice(stream, count))


def test_the_index(split):
    assert split.classes == CLASSES and len(split) == N and [s.samples for s in split.shards] == list(COUNTS)


@pytest.mark.parametrize("readers", [1, 2, 3, 5, 7, N])
@pytest.mark.parametrize("buffer", [1, 6, 2000])
def test_every_epoch_has_every_sample_once_over_all_readers(made, split, readers, buffer):
    """But for a remainder of fewer than `readers`."""
    each = N // readers
    left_out = []
    for epoch in range(3):
        found = []
        for reader in range(readers):
            stream = ShardStream(split, seed=3, reader=reader, readers=readers, start=epoch * each, buffer=buffer)
            found += take(stream, each)
            assert [s.index for s in found[-each:]] == stream.order(epoch).tolist()
            assert [s.position for s in found[-each:]] == list(range(epoch * each, (epoch + 1) * each))
        assert len({s.name for s in found}) == len(found) == each * readers
        assert all(made[1][s.name] == (s.data, s.label) and s.name == f"s{s.index:04}" for s in found)
        assert {s.epoch for s in found} == {epoch}
        left_out.append(set(range(N)) - {s.index for s in found})
    assert all(len(out) == N % readers for out in left_out)
    assert N % readers == 0 or len(set(map(frozenset, left_out))) > 1


def test_the_order_by_hand(split):
    """Without a buffer: whole shards, one behind the other, cut into the readers' ranges."""
    for epoch in (0, 1):
        parts = [ShardStream(split, seed=5, reader=j, readers=4, buffer=1).order(epoch).tolist() for j in range(4)]
        whole = ShardStream(split, seed=5, buffer=1).order(epoch).tolist()
        assert list(itertools.chain(*parts)) == whole[: N // 4 * 4]
        shards_in_order = list(dict.fromkeys(int(np.searchsorted(STARTS, k, "right")) - 1 for k in whole))
        assert whole == [k for s in shards_in_order for k in range(STARTS[s], STARTS[s + 1])]
        assert sorted(shards_in_order) == list(range(len(COUNTS))) != shards_in_order


def test_the_order_is_of_seed_and_epoch_alone(split):
    def order(seed, epoch):
        return tuple(ShardStream(split, seed=seed, readers=2).order(epoch).tolist())

    assert order(1, 2) == order(1, 2)
    assert len({order(0, 0), order(0, 1), order(1, 0), order(1, 1)}) == 4


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 4 * N), st.integers(1, 4), st.sampled_from([1, 4, 13, 2000]), st.data())
def test_resumed_anywhere_it_is_the_tail_of_the_uninterrupted_stream(split, start, readers, buffer, data):
    given_to_both = {"seed": 1, "reader": data.draw(st.integers(0, readers - 1)), "readers": readers, "buffer": buffer}
    whole = take(ShardStream(split, **given_to_both), start + 60)
    assert take(ShardStream(split, **given_to_both, start=start), 60) == whole[start:]


@pytest.mark.parametrize("buffer", [1, 5, 12, 30])
def test_no_more_than_the_buffer_is_read_ahead(split, monkeypatch, buffer):
    read = []

    def counted(*given):
        for found in before(*given):
            read.append(found)
            yield found

    before = shards.read_shard
    monkeypatch.setattr(shards, "read_shard", counted)
    ahead = []
    for start in (0, 17):
        read.clear()
        stream = ShardStream(split, seed=0, start=start, buffer=buffer)
        ahead += [len(read) - taken for taken, _ in enumerate(itertools.islice(stream, N - start))]
    assert max(ahead) <= buffer and max(ahead) > buffer // 3  # of the one given too
    # Mixed: each moves, but by less than the buffer.
    lying = ShardStream(split, seed=0, buffer=1).order(0).tolist()
    moved = [abs(lying.index(k) - place) for place, k in enumerate(ShardStream(split, seed=0, buffer=buffer).order(0))]
    assert max(moved) < buffer and (buffer == 1 or sum(moved) / N > buffer / 10)


def test_only_shards_that_are_still_needed_are_opened(split, opened):
    order = ShardStream(split, seed=0, buffer=1).order(0)
    names = list(dict.fromkeys(f"{int(np.searchsorted(STARTS, k, 'right')) - 1:06}.tar" for k in order))
    take(ShardStream(split, seed=0, buffer=1, start=N - 2), 2)
    assert opened == names[-1:]
    opened.clear()
    take(ShardStream(split, seed=0, buffer=1), 1)
    assert opened == names[:1]
    opened.clear()
    # The middle one of three readers begins and ends within shards of its range alone.
    stream = ShardStream(split, seed=0, reader=1, readers=3, buffer=4)
    take(stream, stream.per_epoch)
    assert opened == [n for n in names if any(f"{int(np.searchsorted(STARTS, k, 'right')) - 1:06}.tar" == n
                                              for k in stream.order(0))]  # fmt: skip


@pytest.mark.parametrize("readers", [1, 2, 4, 50])
def test_a_pass_in_order_gives_the_remainder_too(made, split, readers):
    parts = [list(each_once(split, reader=j, readers=readers)) for j in range(readers)]
    assert [s.name for s in itertools.chain(*parts)] == list(made[1])
    assert [(s.data, s.label) for s in itertools.chain(*parts)] == list(made[1].values())
    assert [s.index for s in itertools.chain(*parts)] == list(range(N))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert list(each_once(split, reader=1 % readers, readers=readers, start=1)) == parts[1 % readers][1:]


def test_at_imagenets_size_the_order_is_a_matter_of_moments():
    """1,281,167 samples, whose order nobody has to read them for."""
    counts = [2300] * 557 + [67]
    big = ShardSet("index.json", CLASSES, tuple(Shard(f"{k}.tar", count) for k, count in enumerate(counts)))
    orders = [ShardStream(big, seed=0, reader=j, readers=8).order(7) for j in range(8)]
    together = np.concatenate(orders)
    assert len(np.unique(together)) == len(together) == 1_281_167 // 8 * 8


def test_arguments_that_cannot_be(split):
    for bad, said in (
        ({"reader": 2, "readers": 2}, "reader 2 of 2: must be from 0 to 1"),
        ({"start": -1}, "start -1"),
        ({"buffer": 0}, "buffer 0: must be at least 0, 0 and 1"),
        ({"readers": N + 1}, f"{N} samples for {N + 1} readers; take fewer processes or workers"),
    ):
        with pytest.raises(ValueError, match=said):
            ShardStream(split, **{"seed": 0, **bad})
