"""Shards behind a server that fails, in a bucket, damaged: the same samples as from the disk, or one sentence."""

from __future__ import annotations

import itertools
import json
import sys

import fsspec
import pytest
from made_ilsvrc import tar_of
from made_shards import COUNTS, serving, write_index, write_shards

from resnet_backbone.classification.data.shard_files import open_bytes
from resnet_backbone.classification.data.shard_index import ShardSet, open_splits
from resnet_backbone.classification.data.shards import ShardStream, each_once
from resnet_backbone.engine import http_stream

N = sum(COUNTS)


@pytest.fixture
def pauses(monkeypatch):
    """Seconds that were waited for, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(http_stream.time, "sleep", waited.append)
    return waited


@pytest.fixture
def folder(tmp_path):
    write_shards(tmp_path / "train")
    return tmp_path / "train"


@pytest.fixture
def server(folder, pauses):
    with serving(folder) as running:
        yield running


def some(location, start=5, count=N + 20):
    return list(itertools.islice(ShardStream(ShardSet.open(location), seed=2, start=start, buffer=7), count))


def test_the_order_and_the_samples_do_not_depend_on_where_they_are(folder, server):
    local = some(folder)
    assert some(server.url) == some(f"{server.url}/") == some(f"{server.url}/index.json") == local
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe(f"/shards/{path.name}", path.read_bytes())
    assert some("memory://shards") == local
    index = json.loads((folder / "index.json").read_text())
    for shard in index["shardlist"]:
        shard["url"] = f"{server.url}/{shard['url']}"
    (folder / "elsewhere.json").write_text(json.dumps(index))
    assert some(folder / "elsewhere.json") == local


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("stated", [True, False])
def test_a_dropped_connection_goes_on_where_it_broke(folder, server, pauses, ranges, stated):
    local = some(folder)
    split = ShardSet.open(server.url)
    server.ranges, server.stated = ranges, stated  # without a length, the index says when it is the end
    server.drops = 3
    assert list(itertools.islice(ShardStream(split, seed=2, start=5, buffer=7), N + 20)) == local
    assert server.drops == 0 and pauses and max(pauses) <= 4
    wanted = [wanted for _, wanted in server.asked if wanted]
    size = next(s.size for s in split.shards if s.url.endswith(next(p for p, w in server.asked if w)))
    assert wanted[0] == f"bytes={size // 2}-"


def test_errors_of_the_server_that_may_pass(folder, server, pauses):
    server.errors = [503, 500, 429]
    assert some(server.url) == some(folder) and pauses == [1, 2, 4]


def said(location, **more) -> str:
    with pytest.raises(ValueError) as caught:
        some(location, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_pass_is_one_sentence(folder, server, pauses):
    server.drops = 10_000
    assert "index.json: at byte " in said(server.url) and pauses == [1, 2, 4, 8]
    server.drops, pauses[:] = 0, []
    split = ShardSet.open(server.url)
    server.drops = 10_000
    with pytest.raises(ValueError, match=r"http://.*/000000.tar: at byte [\d,]+ the connection dropped \(.* bytes\), 5 "
                                         "times; check the network and the server, then go on$"):  # fmt: skip
        list(each_once(split))
    server.drops = 0
    (folder / "000003.tar").unlink()
    with pytest.raises(ValueError, match="000003.tar: at byte 0 the server says 404 Not Found; check the address"):
        list(each_once(split))
    assert "index.json: at byte 0 the server says 404" in said(f"{server.url}/none")
    assert "no connection" in said("http://127.0.0.1:9/train")


def test_another_file_than_before(folder, server):
    split = ShardSet.open(server.url)
    server.drops, server.changing = 1, True
    with pytest.raises(ValueError, match=r"000000.tar: was changed while it was read, at byte [\d,]+; start again"):
        list(each_once(split))
    (folder / "000001.tar").write_bytes(b"x" * 99)
    with pytest.raises(ValueError, match=r"000001.tar: has 99 bytes, but must have [\d,]+; put the right file there"):
        list(each_once(split))


def test_buckets_need_their_driver(monkeypatch):
    for driver in ("s3fs", "gcsfs"):  # as if they were not installed
        monkeypatch.setitem(sys.modules, driver, None)
    assert "s3://bucket/index.json: to read s3:// addresses: pip install fsspec s3fs" in said("s3://bucket")
    assert "gs://bucket/index.json: to read gs:// addresses: pip install fsspec gcsfs" in said("gs://bucket/")
    assert "pip install fsspec" in said("odd://place")
    assert "memory://nothing/index.json: not readable" in said("memory://nothing")


def damaged(folder, files: dict[str, bytes], samples: int = 3) -> str:
    """What is said of one shard with these files."""
    (folder / "000000.tar").write_bytes(tar_of(files))
    write_index(folder, [{"url": "000000.tar", "nsamples": samples}])
    return said(folder, start=0)


GOOD = {"a.cls": b"0", "a.jpg": b"A", "b.cls": b"1", "b.jpg": b"B", "c.cls": b"2", "c.jpg": b"C"}


def test_samples_that_are_none(folder):
    for change, words in (
        ({"b.cls": None}, "000000.tar: sample b has no label, a file b.cls; copy the shard again, or"),
        ({"b.jpg": None}, "000000.tar: sample b has no image (bmp, jpeg, jpg,"),
        ({"b.cls": b"3"}, "sample b has the label '3', but "),
        ({"b.cls": b"-1"}, "index.json names 3 classes, of labels 0 to 2; correct its classes, or"),
        ({"b.cls": b"cat"}, "sample b has the label 'cat'"),
        ({"b.cls": b"\xff\xb2"}, "sample b has the label "),
    ):
        files = {name: data for name, data in {**GOOD, **change}.items() if data is not None}
        assert words in damaged(folder, files)
    assert "ends after 3 samples (c), but" in damaged(folder, GOOD, 4)
    assert "ends after 3 samples (c), but" in damaged(folder, GOOD, 2)


def test_shards_of_others(folder):
    """As GNU tar and other programs write them."""
    files = {"./x/a.JPEG": b"A", "./x/._a.jpg": b"?", "./x/a.cls": b" 2\n", "./x/a.json": b"{}", "./x/b.png": b"B",
             "./x/b.cls": b"1", "README": b"?"}  # fmt: skip
    (folder / "000000.tar").write_bytes(tar_of(files))
    write_index(folder, [{"url": "000000.tar", "nsamples": 2}])
    read = list(each_once(ShardSet.open(folder)))
    assert [(s.name, s.data, s.label) for s in read] == [("./x/a", b"A", 2), ("./x/b", b"B", 1)]


@pytest.mark.parametrize("remote", [False, True])
def test_cut_off_shards(folder, server, remote):
    """At every 512 bytes and in between, without a size in the index."""
    whole = tar_of(GOOD)
    write_index(folder, [{"url": "000000.tar", "nsamples": 3}])
    where = server.url if remote else folder
    for end in range(0, 6 * 1024, 300):
        (folder / "000000.tar").write_bytes(whole[:end])
        words = said(where, start=0)
        assert "000000.tar" in words and any(
            part in words for part in ("cut off", "not readable as an archive", "ends after", "has no image")
        )
    (folder / "000000.tar").write_bytes(whole[:2048] + b"\xff" * 512 + whole[2560:])  # the header of b's label
    assert "ends after 1 samples (a), but" in said(where, start=0)
    write_index(folder, [{"url": "000000.tar", "nsamples": 3, "filesize": len(whole) + 1}])
    assert "has 10,240 bytes, but " in said(where, start=0)


def test_indexes_that_are_none(folder, tmp_path):
    assert "nowhere/index.json: no such file; tools/prepare_imagenet.py --shards" in said(tmp_path / "nowhere")
    assert "a pattern does not say what is in shards" in said("http://host/train/{000000..000146}.tar")
    shard = {"url": "000000.tar", "nsamples": 5}
    for shards, more, words in (
        ([shard], {"classes": None}, 'names no two classes; add "classes": ["name'),
        ([shard], {"classes": ["one"]}, "names no two classes"),
        ([], {}, "has no shards"),
        ([{**shard, "nsamples": 0}], {}, "or one without samples"),
        ([{"url": "000000.tar"}], {}, "not an index of shards (wids-shard-index-v1)"),
        ([{**shard, "nsamples": "many"}], {}, "not an index of shards"),
        ([{**shard, "filesize": "large"}], {}, "not an index of shards"),
        (None, {}, "not an index of shards"),
    ):
        write_index(folder, shards, **more)
        assert words in said(folder)
    (folder / "index.json").write_text("[1, 2]")
    assert "not an index of shards" in said(folder)
    (folder / "000000.tar").unlink()
    write_index(folder, [shard])
    assert "000000.tar: not readable (No such file or directory); check the place" in said(folder)


def test_both_splits(folder, server):
    write_shards(folder.parent / "val", (4, 3))
    server.folder = folder.parent
    for root in (folder.parent, server.url, f"{server.url}/"):
        assert [len(split) for split in open_splits(root)] == [N, 7]
    write_index(folder.parent / "val", [{"url": "000000.tar", "nsamples": 4}], classes=["ant", "cat", "bee"])
    with pytest.raises(ValueError, match="val/index.json: other classes than .*train/index.json; write both again"):
        open_splits(folder.parent)


def test_a_local_file_opens_by_its_path(folder):
    with open_bytes(str(folder / "000000.tar")) as file:
        assert len(file.read()) == (folder / "000000.tar").stat().st_size


def test_addresses_with_blanks_and_other_letters(folder, server):
    (folder / "my shards ü").mkdir()
    for path in folder.glob("*.*"):
        path.rename(folder / "my shards ü" / path.name)
    local = some(folder / "my shards ü")
    assert some(f"{server.url}/my shards ü") == some(f"{server.url}/my%20shards%20%C3%BC") == local


def test_a_password_in_an_address_is_refused_and_not_repeated(pauses):
    with pytest.raises(ValueError, match="address on 127.0.0.1:9: takes no user name and password") as caught:
        open_splits("http://me:secret@127.0.0.1:9/shards")
    assert "secret" not in str(caught.value) and not pauses


def test_a_driver_that_does_not_reach_its_server_is_one_sentence(monkeypatch):
    def refused(*_) -> None:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refused)
    with pytest.raises(ValueError, match=r"ftp://host/index.json: not readable \(Name or service not known\); check"):
        open_bytes("ftp://host/index.json")
