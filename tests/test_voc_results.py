"""VOC's text files: which image a line means, which class a file is of, and how they are encoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
