"""Shards of archives and of class folders, read by `tarfile` alone, and by webdataset where it is installed."""

from __future__ import annotations

import json
import runpy
import sys
import tarfile
from pathlib import Path

import pytest
from made_ilsvrc import SYNSETS, TRAIN, TRUTH, VAL, jpeg, tar_of

from resnet_backbone.classification.data.folders import find_splits
from resnet_backbone.classification.data.shard_index import open_splits
from resnet_backbone.classification.data.shards import each_once
from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.prepare import shard_writer
from resnet_backbone.classification.prepare.prepare import PrepareOptions, prepare

TOOL = Path(__file__).parents[1] / "tools" / "prepare_imagenet.py"
SIZE = 0.007  # MB: some shards


def options(archives: Path, **more) -> PrepareOptions:
    given = {"train": archives / "train.tar", "val": archives / "val.tar", "truth": archives / "devkit.tar.gz"}
    return PrepareOptions(archives / "out", **{**given, "any_counts": True, "shard_size": SIZE, **more})


def members(folder: Path) -> list[tuple[str, bytes]]:
    """All files of a split's shards, in their order, by the index."""
    found = []
    for shard in json.loads((folder / "index.json").read_text())["shardlist"]:
        with tarfile.open(folder / shard["url"]) as archive:
            here = [(m.name, archive.extractfile(m).read()) for m in archive]
        assert len(here) == 2 * shard["nsamples"] and (folder / shard["url"]).stat().st_size == shard["filesize"]
        found += here
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_archives_to_shards(archives):
    said: list[str] = []
    assert prepare(options(archives), said.append) == 0
    assert said[0].startswith("train: 12 images of 3 classes") and said[1].startswith("val: 7 images of 3 classes")
    out = archives / "out"
    train = {f"{s}/{name[:-5]}.jpg": data for s, found in TRAIN.items() for name, data in found.items()}
    train |= {f"{s}/{name[:-5]}.cls": b"%d" % k for k, s in enumerate(SYNSETS) for name in TRAIN[s]}
    found = members(out / "train")
    assert dict(found) == train and len(found) == len(train)
    val = {f"{SYNSETS[k]}/{name[:-5]}": (data, b"%d" % k) for k, (name, data) in zip(TRUTH, VAL.items())}
    found = members(out / "val")
    assert dict(found) == {f"{key}.{end}": part for key, both in val.items() for end, part in zip(("jpg", "cls"), both)}
    assert [name.split("/")[1] for name, _ in found[1::2]] == [f"{name[:-5]}.jpg" for name in sorted(VAL)]
    # A label and its image follow each other, and classes are mixed.
    found = members(out / "train")
    assert all(a[:-4] == b[:-4] and a.endswith(".cls") for (a, _), (b, _) in zip(found[::2], found[1::2]))
    labels = [int(data) for _, data in found[::2]]
    assert labels != sorted(labels) and len(list((out / "train").glob("*.tar"))) > 2
    index = json.loads((out / "train" / "index.json").read_text())
    assert index["classes"] == list(SYNSETS) and index["__kind__"] == "wids-shard-index-v1"


def test_webdataset_reads_them(archives):
    wds = pytest.importorskip("webdataset", reason="pip install webdataset, one of the development packages")
    prepare(options(archives))
    shards = [str(path) for path in sorted((archives / "out" / "train").glob("*.tar"))]
    read = {each["__key__"]: (each["jpg"], int(each["cls"])) for each in wds.WebDataset(shards, shardshuffle=False)}
    assert read == {f"{s}/{n[:-5]}": (data, k) for k, s in enumerate(SYNSETS) for n, data in TRAIN[s].items()}


def test_the_same_images_and_labels_as_class_folders(archives):
    """Archives to class folders, those to shards; and archives to shards at once: one and the same."""
    prepare(options(archives, shard_size=None))
    again = PrepareOptions(archives / "again", folders=archives / "out", shard_size=SIZE)
    assert prepare(again, lambda _: None) == 0
    prepare(PrepareOptions(**{**vars(options(archives)), "output": archives / "direct"}))
    for folders, shards, direct in zip(
        find_splits(archives / "out"), open_splits(archives / "again"), open_splits(archives / "direct")
    ):
        assert shards.classes == direct.classes == folders.classes and len(shards) == len(direct) == len(folders)
        read = {sample.name: (sample.data, sample.label) for sample in each_once(shards)}
        assert read == {sample.name: (sample.data, sample.label) for sample in each_once(direct)}
        assert read == {
            f"{path.parent.name}/{path.stem}": (path.read_bytes(), label)
            for path, label in zip(folders.paths, folders.labels)
        }


def test_it_goes_on_behind_whole_shards(archives, monkeypatch):
    prepare(options(archives))
    whole, out = files(archives / "out" / "train"), archives / "out" / "train"
    prepare(PrepareOptions(**{**vars(options(archives)), "output": archives / "twice"}))
    assert files(archives / "twice" / "train") == whole  # bit for bit

    stamps = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    prepare(options(archives))
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == stamps

    # Stopped in the third shard: the first two stay, and nobody takes them for the whole.
    interrupted = archives / "interrupted"
    calls = iter(range(100))

    def add(*given):
        if next(calls) == 2 * sum(shard["nsamples"] for shard in json.loads(whole["index.json"])["shardlist"][:2]) + 1:
            raise OSError(28, "No space left on device")
        return before(*given)

    before = shard_writer._add
    monkeypatch.setattr(shard_writer, "_add", add)
    with pytest.raises(OSError, match="No space left"):
        prepare(PrepareOptions(**{**vars(options(archives)), "output": interrupted}))
    monkeypatch.undo()
    assert {path.name for path in (interrupted / "train").iterdir()} == {"000000.tar", "000001.tar", "unfinished.json"}
    for opening in (open_splits, open_data):
        with pytest.raises(ValueError, match="interrupted/train: not all shards are written; start tools/prepare_ima"):
            opening(str(interrupted))
    first = (interrupted / "train" / "000000.tar").stat().st_mtime_ns
    (interrupted / "train" / ".000002.tar.x.part").write_bytes(b"of a killed process")
    prepare(PrepareOptions(**{**vars(options(archives)), "output": interrupted}))
    assert files(interrupted / "train") == whole
    assert (interrupted / "train" / "000000.tar").stat().st_mtime_ns == first


@pytest.mark.parametrize("lost", ["000000.tar", "000001.tar"])
def test_a_shard_that_was_lost_is_written_again(archives, lost):
    prepare(options(archives))
    whole = files(archives / "out" / "train")
    (archives / "out" / "train" / lost).unlink()
    prepare(options(archives))
    assert files(archives / "out" / "train") == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_smaller_images(archives, workers):
    prepare(options(archives, shard_size=None, short_side=40))
    out = archives / "small"
    prepare(PrepareOptions(**{**vars(options(archives, short_side=40, workers=workers)), "output": out}))
    folders, _ = find_splits(archives / "out")
    shards, _ = open_splits(out)
    assert {sample.data for sample in each_once(shards)} == {path.read_bytes() for path in folders.paths}


def test_labels_of_validation_images_are_those_of_training(archives):
    """Prepared for itself, and without images of one class."""
    prepare(options(archives, val=None))
    (archives / "val.tar").write_bytes(tar_of(dict(list(VAL.items())[:2])))
    (archives / "truth.txt").write_text(f"{SYNSETS[2]}\n{SYNSETS[1]}\n")
    prepare(options(archives, train=None, truth=archives / "truth.txt"))
    train, val = open_splits(archives / "out")
    assert [sample.label for sample in each_once(val)] == [2, 1] and val.classes == train.classes == SYNSETS
    (archives / "truth.txt").write_text("n9\nn9\n")
    with pytest.raises(ValueError, match="val.tar: has images of n9 by the truth, of which there are no training"):
        prepare(options(archives, train=None, truth=archives / "truth.txt"))


def test_odd_names_of_files(tmp_path):
    for split, k in (("train", 0), ("val", 4)):
        for place, name in enumerate(("a.b/1.2.jpeg", "a.b/1/2.PNG", "ü/1 2.JPG")):
            path = tmp_path / "in" / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(k + place))
    made = PrepareOptions(tmp_path / "out", folders=tmp_path / "in", shard_size=1)
    prepare(made, lambda _: None)
    assert {name for name, _ in members(tmp_path / "out" / "val")} == {
        *("a.b/1_2.cls", "a.b/1_2.jpg", "a.b/1/2.cls", "a.b/1/2.png", "ü/1 2.cls", "ü/1 2.jpg")
    }
    assert [s.name for s in each_once(open_splits(tmp_path / "out")[1])] == ["a.b/1/2", "a.b/1_2", "ü/1 2"]
    (tmp_path / "in" / "val" / "ü" / "1 2.png").write_bytes(jpeg(9))
    with pytest.raises(ValueError, match="ü/1 2.jpg and ü/1 2.png of val would have one name"):
        prepare(PrepareOptions(tmp_path / "other", folders=tmp_path / "in", shard_size=1), lambda _: None)


def test_what_is_wrong_is_one_sentence(archives):
    def said(**more) -> str:
        with pytest.raises(ValueError) as caught:
            prepare(options(archives, **more), lambda _: None)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "--shard-size 0: MB a shard, above 0" in said(shard_size=0)
    assert "--shard-size inf" in said(shard_size=float("inf"))
    assert "give it alone" in said(folders=archives)
    assert "give --shards too" in said(folders=archives, train=None, val=None, shard_size=None)
    whole = (archives / "train.tar").read_bytes()
    (archives / "train.tar").write_bytes(whole[: len(whole) // 2])
    assert "cut off" in said()
    (archives / "train.tar").write_bytes(whole)
    assert "not readable as an archive that is not compressed" in said(train=archives / "devkit.tar.gz")
    prepare(options(archives))
    assert "has images 'as they are, in shards of 0.007 MB', now they would be" in said(shard_size=0.03)
    (archives / "train.tar").write_bytes(tar_of({f"{s}.tar": tar_of({"a.JPEG": jpeg(1)}) for s in SYNSETS}))
    assert "has shards of other images, classes or size; choose another --output" in said()


def test_the_command(archives, monkeypatch, capsys):
    def code(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", [str(TOOL), "--output", str(archives / "out"), *words])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(TOOL), run_name="__main__")
        return left.value.code

    train = ("--train", str(archives / "train.tar"))
    assert code(*train, "--shard-size", "1") == 2
    assert code(*train, "--shards", "--shard-size", "0.007") == 1  # not ImageNet's counts
    assert "error: train: ILSVRC2012 has 1,281,167 images" in capsys.readouterr().out
    assert code(*train, "--shards", "--shard-size", "0.007", "--any-counts") == 0
    assert len(members(archives / "out" / "train")) == 24
