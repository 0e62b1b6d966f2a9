"""ILSVRC2012's archives in miniature to class folders: bit for bit, by the right class, and on where it stopped."""

from __future__ import annotations

import io
import runpy
import sys
from pathlib import Path

import pytest
from made_ilsvrc import SYNSETS, TRAIN, TRUTH, VAL, jpeg, tar_of
from PIL import Image

from resnet_backbone.classification.data.folders import find_splits
from resnet_backbone.classification.prepare.ilsvrc_truth import read_truth
from resnet_backbone.classification.prepare.prepare import PrepareOptions, prepare

TOOL = Path(__file__).parents[1] / "tools" / "prepare_imagenet.py"


def options(archives, **more) -> PrepareOptions:
    given = {"train": archives / "train.tar", "val": archives / "val.tar", "truth": archives / "devkit.tar.gz"}
    return PrepareOptions(**{"output": archives / "out", **given, "any_counts": True, **more})


def assert_whole(out: Path) -> None:
    for synset, files in TRAIN.items():
        assert {p.name: p.read_bytes() for p in (out / "train" / synset).iterdir()} == files
    for (name, content), label in zip(VAL.items(), TRUTH):
        assert (out / "val" / SYNSETS[label] / name).read_bytes() == content
    assert sum(1 for _ in (out / "val").rglob("*.JPEG")) == len(VAL)


@pytest.mark.parametrize("truth", ["devkit.tar.gz", "truth.csv", "truth.txt"])
def test_class_folders_hold_the_archives_bytes(archives, truth):
    said: list[str] = []
    assert prepare(options(archives, truth=archives / truth), said.append) == 0
    assert_whole(archives / "out")
    assert said[0].startswith("train: 12 images of 3 classes") and said[1].startswith("val: 7 images of 3 classes")
    train, val = find_splits(archives / "out")
    assert train.classes == SYNSETS and len(train) == 12 and len(val) == 7


def test_it_goes_on_where_it_stopped(archives, monkeypatch):
    """The archive breaks off in the second class; nothing half is left to be taken for whole."""
    whole = (archives / "train.tar").read_bytes()
    (archives / "train.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="train.tar: .*cut off"):
        prepare(options(archives))
    assert not (archives / "out" / "val").exists()
    (archives / "train.tar").write_bytes(whole)
    prepared = archives / "out" / "train" / SYNSETS[0]
    before = prepared.stat().st_mtime_ns if prepared.exists() else None
    half = archives / "out" / "train" / f".{SYNSETS[1]}.part"
    half.mkdir(parents=True, exist_ok=True)
    (half / "left over.JPEG").write_bytes(b"x")
    first = archives / "out" / "val" / SYNSETS[TRUTH[0]] / next(iter(VAL))
    assert prepare(options(archives)) == 0
    assert_whole(archives / "out")
    assert before is None or prepared.stat().st_mtime_ns == before
    stamp = first.stat().st_mtime_ns
    assert prepare(options(archives)) == 0 and first.stat().st_mtime_ns == stamp
    assert not list((archives / "out").rglob("*.part"))


@pytest.mark.parametrize("workers", [0, 2])
def test_smaller_images(archives, workers):
    broken = {"a.JPEG": jpeg(1, (200, 100)), "b.JPEG": jpeg(2, (60, 40)), "c.JPEG": b"no image"}
    (archives / "train.tar").write_bytes(tar_of({f"{SYNSETS[0]}.tar": tar_of(broken)}))
    said: list[str] = []
    prepare(options(archives, val=None, short_side=50, workers=workers), said.append)
    folder = archives / "out" / "train" / SYNSETS[0]
    with Image.open(folder / "a.JPEG") as image:
        assert image.size == (100, 50)
    plain = io.BytesIO()
    with Image.open(io.BytesIO(broken["a.JPEG"])) as image:
        image.resize((100, 50), Image.Resampling.BICUBIC).save(plain, "JPEG", quality=90)
    assert (folder / "a.JPEG").read_bytes() == plain.getvalue()
    assert (folder / "b.JPEG").read_bytes() == broken["b.JPEG"] and (folder / "c.JPEG").read_bytes() == b"no image"
    assert said[1] == "train: 1 images do not decode and were copied as they are (first: c.JPEG)"
    with pytest.raises(ValueError, match="has images 'shorter side 50, JPEG quality 90', now they would"):
        prepare(options(archives))


def test_names_in_an_archive_lead_nowhere_else(archives):
    (archives / "train.tar").write_bytes(tar_of({"../../up.tar": tar_of({"../../../outside.JPEG": jpeg(0)})}))
    prepare(options(archives, val=None))
    assert (archives / "out" / "train" / "up" / "outside.JPEG").is_file()
    assert not list(archives.glob("*.JPEG"))


def test_what_is_wrong_is_one_sentence(archives):
    def said(**more) -> str:
        with pytest.raises(ValueError) as caught:
            prepare(options(archives, **more), lambda _: None)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "give --train" in said(train=None, val=None)
    assert "--truth says their classes" in said(train=None, truth=None)
    assert "--short-side 8: at least 32" in said(short_side=8)
    assert "none.tar: no such file" in said(train=archives / "none.tar")
    assert "holds no tar files, one a class" in said(train=archives / "val.tar")
    (archives / "truth.txt").write_text("n01440764 1\n")
    assert "'n01440764 1' stands where a line has one synset" in said(train=None, truth=archives / "truth.txt")
    (archives / "truth.txt").write_text("n01440764\n")
    assert "7 images, but the truth is of 1" in said(train=None, truth=archives / "truth.txt")
    assert "train.tar is a file and no folder; choose another folder: --output DIR" in said(
        output=archives / "train.tar"
    )
    (archives / "truth.csv").write_text("a,b\n")
    assert "no columns ImageId and PredictionString" in said(train=None, truth=archives / "truth.csv")
    (archives / "kit.tar.gz").write_bytes(tar_of({"meta.mat": b""}, "w:gz"))
    with pytest.raises(ValueError, match="holds no ILSVRC2012_validation_ground_truth.txt"):
        read_truth(archives / "kit.tar.gz")


def test_other_counts_than_imagenets_are_told(archives, monkeypatch, capsys):
    words = ["--train", str(archives / "train.tar"), "--output", str(archives / "out")]
    codes = []
    for more in ([], ["--any-counts"]):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *words, *more])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(TOOL), run_name="__main__")
        codes.append(left.value.code)
    assert codes == [1, 0]
    assert capsys.readouterr().out.count("error: train: ILSVRC2012 has 1,281,167 images of 1,000 classes") == 1
