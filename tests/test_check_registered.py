"""Registered data sets, that DATASETS.* name: `--check` looks at every image, a run at what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest
from detectron2.data.datasets import register_coco_instances, register_pascal_voc
from made_data import TINY, write_config, write_rectangles
from made_pets import one_object, write_image, xml

from resnet_backbone.detection.preflight.check import check
from resnet_backbone.detection.training.run import run
from resnet_backbone.detection.training.settle import RunOptions


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rectangles(tmp_path / "rectangles")


def options(tmp_path: Path, data: Path, *pairs: str, **more: bool) -> RunOptions:
    name = uuid4().hex[:8]
    for split in ("train", "test"):
        register_coco_instances(f"{name}_{split}", {}, str(data / f"{split}.json"), str(data / "images"))
    keys = ("DATASETS.TRAIN", f"('{name}_train',)", "DATASETS.TEST", f"('{name}_test',)", "DATA.ROOT", "")
    return RunOptions(write_config(tmp_path, TINY), (*keys, *pairs), tmp_path / "run", **more)


def looked_at(given: RunOptions) -> tuple[int, list[str]]:
    lines: list[str] = []
    return check(given, lines.append), [" ".join(line.split()) for line in lines]


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_every_image_of_both_sets_is_looked_at(tmp_path: Path, data: Path) -> None:
    cut_off(data / "images/2.png")
    cut_off(data / "images/6.png")
    write_image(data / "images/3.png", size=(33, 44))
    code, lines = looked_at(options(tmp_path, data, check=True))
    said = "\n".join(line for line in lines if line.startswith("error"))
    assert code == 1
    assert "2.png: not readable as an image" in said and "6.png: not readable as an image" in said
    assert "3.png: the image has 33 x 44 pixels (as its EXIF data turn it), its annotation says 64 x 80" in said


def test_boxes_are_looked_at(tmp_path: Path, data: Path) -> None:
    for split in ("train", "test"):
        content = json.loads((data / f"{split}.json").read_text())
        content["annotations"][0]["bbox"] = [500, 10, 20, 20]
        (data / f"{split}.json").write_text(json.dumps(content))
    code, lines = looked_at(options(tmp_path, data, check=True))
    assert code == 0
    for split in ("training", "test"):
        assert any(line.startswith(f"note {split}: 1 boxes lie outside their image") for line in lines), lines


@pytest.mark.parametrize("image", ["2.png", "6.png"])
def test_a_missing_image_is_found_before_the_run(tmp_path: Path, data: Path, image: str) -> None:
    (data / "images" / image).unlink()
    code, lines = looked_at(options(tmp_path, data, check=True))
    message = rf"{image}: annotated, but there is no such file \(1 of \d are missing\); add the files"
    assert code == 1 and not any("Errno" in line for line in lines)
    with pytest.raises(ValueError, match=message):
        run(options(tmp_path, data))
    assert not (tmp_path / "run/last.pth").exists()


def test_masks_are_looked_at(tmp_path: Path, data: Path) -> None:
    content = json.loads((data / "train.json").read_text())
    content["annotations"][0]["segmentation"] = {"size": [80, 64], "counts": "abc"}
    (data / "train.json").write_text(json.dumps(content))
    code, lines = looked_at(options(tmp_path, data, "MODEL.MASK_ON", "True", check=True))
    (said,) = (line for line in lines if line.startswith("error"))
    assert (
        code == 1
        and "annotation 0 has a mask with run lengths that do not add up to its 80 x 64 pixels" in said
        and ".png" in said
    )


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Whatever evaluator the set is for: `register_pascal_voc` names none."""
    name = f"voc_{uuid4().hex[:8]}"
    register_pascal_voc(name, str(tmp_path / "VOC2007"), "train", 2007, ["cat"])
    keys = ("DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", "()", "DATA.ROOT", "")
    with pytest.raises(ValueError, match=rf"DATASETS.TRAIN: {name}: no .*Main/train.txt; put the data set there"):
        run(RunOptions(write_config(tmp_path, TINY), keys, tmp_path / "run"))


def test_vocs_records_too(tmp_path: Path) -> None:
    root, name = tmp_path / "VOC2007", f"voc_{uuid4().hex[:8]}"
    for number in range(4):
        write_image(root / f"JPEGImages/{number}.jpg", size=(80, 64))
        (root / "Annotations").mkdir(exist_ok=True)
        (root / f"Annotations/{number}.xml").write_text(xml(one_object(), size=(80, 64)))
    (root / "ImageSets/Main").mkdir(parents=True)
    for split, images in (("train", "0\n1\n"), ("test", "2\n3\n")):
        (root / f"ImageSets/Main/{split}.txt").write_text(images)
        register_pascal_voc(f"{name}_{split}", str(root), split, 2007, ["cat"])
    cut_off(root / "JPEGImages/3.jpg")
    keys = ("DATASETS.TRAIN", f"('{name}_train',)", "DATASETS.TEST", f"('{name}_test',)", "DATA.ROOT", "")
    given = RunOptions(write_config(tmp_path, TINY), keys, tmp_path / "run", check=True)
    code, lines = looked_at(given)
    assert code == 1 and any("3.jpg: not readable as an image" in line for line in lines), lines
