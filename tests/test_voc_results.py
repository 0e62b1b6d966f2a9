"""VOC's text files: which image a line means, which class a file is of, and how they are encoded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_backbone.evaluation.from_files import EvaluateOptions, start
from resnet_backbone.evaluation.results_files import read_found
from resnet_backbone.evaluation.truth import read_truth


def truth_file(folder: Path, images: dict[Any, str], classes: tuple[str, ...] = ("cat",)) -> Path:
    """One object of class 1 in each image, given by id and file name."""
    content = {
        "images": [{"id": i, "file_name": name, "height": 50, "width": 50} for i, name in images.items()],
        "categories": [{"id": n, "name": name} for n, name in enumerate(classes, 1)],
        "annotations": [
            {"id": n, "image_id": i, "category_id": 1, "bbox": [9, 9, 20, 20]} for n, i in enumerate(images, 1)
        ],
    }
    (folder / "truth.json").write_text(json.dumps(content))
    return folder / "truth.json"


def lines(folder: Path, *images: Any, name: str = "comp4_det_val_cat.txt") -> Path:
    (folder / name).write_text("".join(f"{i} 0.5 10 10 29 29\n" for i in images))
    return folder / name


def test_names_of_files_come_before_ids(tmp_path: Path) -> None:
    truth = read_truth(truth_file(tmp_path, {1: "b/10.jpg", 2: "b/11.jpg", 13: "b/12.jpg"}))
    found = read_found(lines(tmp_path, "11", "12", "2"), truth)
    assert found.voc.images == [2, 13, 2]


def test_a_name_that_may_be_two_images_is_refused(tmp_path: Path) -> None:
    truth = read_truth(truth_file(tmp_path, {0: "1.jpg", 1: "2.jpg", 2: "3.jpg"}))
    assert read_found(lines(tmp_path, "3", "0"), truth).voc.images == [2, 0]
    with pytest.raises(ValueError, match="line 2: image '1' may be '1.jpg' of id 0 and '2.jpg' of id 1; give JSON"):
        read_found(lines(tmp_path, "3", "1"), truth)
    truth = read_truth(truth_file(tmp_path, {7: "a/0001.jpg", 8: "b/0001.jpg", 9: "b/0002.jpg"}))
    assert read_found(lines(tmp_path, "0002"), truth).voc.images == [9]  # of no use to this line: not looked at
    with pytest.raises(ValueError, match="image '0001' may be 'a/0001.jpg' of id 7 and 'b/0001.jpg' of id 8"):
        read_found(lines(tmp_path, "0002", "0001"), truth)


def test_an_image_whose_name_is_its_id_is_one(tmp_path: Path) -> None:
    truth = read_truth(truth_file(tmp_path, {5: "5.jpg", 6: "6.jpg"}))
    found = read_found(lines(tmp_path, "6", "5"), truth)
    assert found.voc.images == [6, 5] and np.array_equal(found.voc.boxes, [[9, 9, 29, 29]] * 2)


def test_a_class_that_is_the_end_of_another_ones_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the split the name says the class; without it, what it was taken for is said."""
    truth = read_truth(truth_file(tmp_path, {5: "5.jpg"}, ("light", "night light", "a/b")))
    file = lines(tmp_path, "5", name="comp4_det_val_traffic_light.txt")
    with pytest.raises(ValueError, match="traffic_light.txt: its name ends in no class of the annotations"):
        read_found(file, truth, "val")
    note = "text files are taken for classes by the ends of their names: comp4_det_val_traffic_light.txt for 'light'"
    for split in ("", "test"):
        assert read_found(file, truth, split).notes == (note,)
    for name, split, index in (
        ("comp4_det_val_light.txt", "", 0),
        ("comp4_det_val_night light.txt", "val", 1),
        ("comp4_det_val_a_b.txt", "", 2),
        ("comp4_det_mini_val_light.txt", "mini_val", 0),
        ("light.txt", "val", 0),
    ):
        found = read_found(lines(tmp_path, "5", name=name), truth, split)
        assert found.voc.classes.tolist() == [index] and found.notes == ()
    shutil.move(file, tmp_path / "comp4_det_val_night_light.txt")
    assert start(EvaluateOptions(tmp_path / "comp4_det_val_night_light.txt", tmp_path / "truth.json")) == 0
    assert "note: text files are taken for classes" in capsys.readouterr().out


def test_text_in_other_encodings(tmp_path: Path) -> None:
    truth = read_truth(truth_file(tmp_path, {5: "5.jpg"}))
    file = lines(tmp_path, "5")
    text = file.read_text()
    file.write_text(text, encoding="utf-8-sig")
    assert read_found(file, truth).voc.images == [5]
    file.write_text(text, encoding="utf-16")
    with pytest.raises(ValueError, match="comp4_det_val_cat.txt: is no text in UTF-8 .* save it in that encoding"):
        read_found(file, truth)


def test_split_files_of_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    for name in ("000001", "000002"):
        (tmp_path / f"Annotations/{name}.xml").write_text("<annotation/>")
    split = tmp_path / "ImageSets/Main/val.txt"
    for text, encoding in (("000001\n000002", "utf-8-sig"), ("000001\r\n000002 -1\r\n", "utf-8")):
        split.write_text(text, encoding=encoding)
        assert [i["id"] for i in read_truth(tmp_path, "val").coco["images"]] == ["000001", "000002"]
    for text, encoding, said in (
        ("000001.jpg\n000002.jpg", "utf-8", "val.txt: names files, as '000001.jpg'; name images without folder and"),
        ("JPEGImages/000001.jpg 1", "utf-8", "val.txt: names files, as 'JPEGImages/000001.jpg'"),
        (" \n", "utf-8", "val.txt: names no images; add some, or take another split"),
        ("000001", "utf-16", "val.txt: is no text in UTF-8"),
    ):
        split.write_text(text, encoding=encoding)
        with pytest.raises(ValueError, match=said):
            read_truth(tmp_path, "val")
