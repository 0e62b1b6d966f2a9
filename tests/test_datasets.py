"""The user's own data in VOC's layout, and what holds for any: the same records as Detectron2's loaders make."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.datasets.pascal_voc import load_voc_instances
from hypothesis import given, settings
from hypothesis import strategies as st
from made_pets import (
    config,
    one_object,
    plain,
    records,
    register,
    write_image,
    xml,
)
from PIL import Image

from resnet_backbone.detection.data.catalog import check_class_count, register_user_data
from resnet_backbone.detection.data.splits import seeded_split


def test_bccd_is_read_as_detectron2_reads_it(real_data: Path) -> None:
    data = register_user_data(config(format="voc", root=real_data / "bccd"))
    assert data.classes == ("Platelets", "RBC", "WBC")
    assert "trainval.txt and test.txt" in data.messages[1] and data.messages[0].endswith("Platelets, RBC, WBC")
    for name, split, count in ((data.train, "trainval", 292), (data.test, "test", 72)):
        theirs = load_voc_instances(str(real_data / "bccd"), split, data.classes)
        assert plain(DatasetCatalog.get(name), "difficult") == theirs and len(theirs) == count
    assert MetadataCatalog.get(data.train).thing_classes == ["Platelets", "RBC", "WBC"]


def test_voc2012_by_its_split_names_keeps_difficult_objects_and_says_which(real_data: Path) -> None:
    data = register_user_data(config(format="voc", root=real_data / "VOC2012", train="train", test="val"))
    annotations = [a for n in (data.train, data.test) for r in DatasetCatalog.get(n) for a in r["annotations"]]
    assert len(annotations) == 3212 and sum(a["difficult"] for a in annotations) == 409 and len(data.classes) == 17


def test_no_split_files_draw_a_seeded_split_and_say_so(voc: Path) -> None:
    data = register(voc)
    names = [[r["image_id"] for r in DatasetCatalog.get(n)] for n in (data.train, data.test)]
    assert len(names[0]) == 8 and len(names[1]) == 2 and not set(names[0]) & set(names[1])
    assert any("8 images to train on and 2 to test on drawn by DATA.SPLIT_SEED 0" in m for m in data.messages)
    again = register(voc)
    assert [r["image_id"] for r in DatasetCatalog.get(again.test)] == names[1]
    others = {tuple(r["image_id"] for r in DatasetCatalog.get(register(voc, split_seed=s).test)) for s in range(6)}
    assert len(others) > 1


@given(st.sets(st.text(max_size=5), min_size=2, max_size=30), st.floats(0.01, 0.99), st.integers())
@settings(max_examples=50, deadline=None)
def test_a_split_is_a_partition_that_keeps_the_order(ids: set[str], fraction: float, seed: int) -> None:
    ordered = sorted(ids)
    train, test = seeded_split(ordered, fraction, seed)
    assert sorted(train + test) == ordered and train == sorted(train) and train and test
    assert abs(len(test) - fraction * len(ids)) <= 1


def test_registering_again_is_harmless_and_other_data_take_the_name(voc: Path, coco: Callable[..., Path]) -> None:
    cfg = config(format="voc", root=voc, name="mine")
    first, second = register_user_data(cfg), register_user_data(cfg)
    assert first == second and first.train == "mine_train" and first.test == "mine_test"
    DatasetCatalog.get("mine_train")[0]["annotations"][0]["bbox"] = None
    assert DatasetCatalog.get("mine_train")[0]["annotations"][0]["bbox"] == [9, 9, 30, 30]
    register(coco(), name="mine")
    assert MetadataCatalog.get("mine_train").thing_classes == ["cat", "dog"]
    with pytest.raises(ValueError, match=r"DATA.NAME: 'voc_2007_train' is already a data set"):
        register(voc, name="voc_2007")


def test_xml_with_floats_and_without_what_is_optional(voc: Path) -> None:
    (voc / "Annotations/pet 0.xml").write_text(xml(one_object(box=("10.5", " 11 ", "20.25", "1e1")), size=None))
    (voc / "Annotations/pet 1.xml").write_text(
        xml(one_object("\n dog ", more="<difficult>1</difficult><part><bndbox/></part>"))
    )
    (voc / "Annotations/pet 2.xml").write_text(xml(size=(0, 0)))
    found = records(voc)
    assert found[0]["annotations"][0]["bbox"] == [9.5, 10, 20.25, 10] and (found[0]["height"], found[0]["width"]) == (
        40,
        60,
    )
    assert found[1]["annotations"][0]["difficult"] and found[1]["annotations"][0]["category_id"] == 1
    assert found[2]["annotations"] == [] and not found[0]["annotations"][0]["difficult"]


def test_split_files_with_a_second_column_doubles_and_overlap(voc: Path) -> None:
    (voc / "ImageSets/Main").mkdir(parents=True)
    shutil.copy(voc / "JPEGImages/pet 0.jpg", voc / "JPEGImages/a.jpg")
    shutil.copy(voc / "Annotations/pet 0.xml", voc / "Annotations/a.xml")
    (voc / "ImageSets/Main/mine.txt").write_text("a  1\npet 1\npet 1\r\n")
    (voc / "ImageSets/Main/yours.txt").write_text("pet 1")
    data = register(voc, train="mine", test="yours")
    assert [r["image_id"] for r in DatasetCatalog.get(data.train)] == ["a", "pet 1"]
    assert any("names 1 images twice" in m for m in data.messages)
    assert any("1 images are in both mine and yours (first: pet 1)" in m for m in data.messages)
    with pytest.raises(ValueError, match=r"DATA.TEST: no file .*theirs.txt; the splits there are mine, yours"):
        register(voc, train="mine", test="theirs")


def test_boxes_that_are_none_are_counted_and_the_mapper_leaves_them_out(voc: Path) -> None:
    boxes = [(10, 10, 30, 30), (31, 10, 30, 20), (70, 10, 90, 30), (50, 30, 80, 90)]
    (voc / "Annotations/pet 0.xml").write_text(xml(*(one_object(box=b) for b in boxes)))
    data = register(voc)
    split = "training" if "pet 0" in {r["image_id"] for r in DatasetCatalog.get(data.train)} else "test"
    for expected in (
        "boxes reach out of their image",
        "boxes lie outside their image",
        "boxes have no width or height",
    ):
        assert any(m.startswith(f"{split}: 1 {expected}") and "pet 0.jpg" in m for m in data.messages)
    record = next(r for r in records(voc) if r["image_id"] == "pet 0")
    mapper = DatasetMapper(is_train=True, augmentations=[T.NoOpTransform()], image_format="RGB")
    kept = mapper(record)["instances"].gt_boxes.tensor.tolist()
    assert kept == [[9, 9, 30, 30], [49, 29, 60, 40]]


def test_an_image_on_its_side_is_as_large_as_its_exif_data_turn_it(voc: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    write_image(voc / "JPEGImages/pet 6.jpg", exif=turned)
    with pytest.raises(ValueError, match=r"pet 6.jpg: the image has 40 x 60 pixels .* annotation says 60 x 40"):
        register(voc)
    (voc / "Annotations/pet 6.xml").write_text(xml(one_object(), size=(40, 60)))
    record = next(r for r in records(voc) if r["image_id"] == "pet 6")
    assert (record["height"], record["width"]) == (60, 40)


def test_bytes_behind_the_end_of_an_image_are_no_mistake(voc: Path) -> None:
    with (voc / "JPEGImages/pet 7.jpg").open("ab") as file:
        file.write(bytes(5000))
    assert register(voc)


def test_a_class_that_only_the_test_set_has(voc: Path) -> None:
    held_out = [r["image_id"] for r in DatasetCatalog.get(register(voc).test)]
    (voc / f"Annotations/{held_out[0]}.xml").write_text(xml(one_object("fox")))
    data = register(voc, split_seed=0, test_fraction=0.21)
    assert data.classes == ("cat", "fox")
    assert "classes of the test set that no training image shows, so their AP will be 0: fox" in data.messages


@pytest.mark.parametrize(("architecture", "key"), [("GeneralizedRCNN", "ROI_HEADS"), ("RetinaNet", "RETINANET")])
def test_class_count_comes_from_the_data_unless_it_was_set(architecture: str, key: str) -> None:
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = architecture
    message = check_class_count(cfg, ["a", "b", "c"], explicit=())
    assert message == f"MODEL.{key}.NUM_CLASSES set from 80 to the data's 3"
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == cfg.MODEL.RETINANET.NUM_CLASSES == 3
    explicit = {f"MODEL.{key}.NUM_CLASSES"}
    assert check_class_count(cfg, ["a", "b", "c"], explicit) is None
    with pytest.raises(ValueError, match=rf"MODEL.{key}.NUM_CLASSES: 3, but the data have 2 classes \(x, y\)"):
        check_class_count(cfg, ["x", "y"], explicit)
