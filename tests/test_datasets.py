"""The user's own data: the same records as Detectron2's loaders on real data, and every kind of bad input."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.datasets.coco import load_coco_json
from detectron2.data.datasets.pascal_voc import load_voc_instances
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from resnet_backbone.detection.data.catalog import UserData, check_class_count, register_user_data
from resnet_backbone.detection.data.coco import load_coco
from resnet_backbone.detection.data.splits import seeded_split
from resnet_backbone.evaluation.voc_xml import read_annotation


def config(masks: bool = False, **keys: Any) -> CfgNode:
    cfg = get_cfg()
    cfg.DATA = CfgNode(
        {
            **dict(FORMAT="", NAME=f"data_{uuid.uuid4().hex[:8]}", ROOT="", TRAIN="", TEST="", TRAIN_IMAGES=""),
            **dict(TEST_IMAGES="", CLASSES=[], SPLIT_SEED=0, TEST_FRACTION=0.2),
            **{key.upper(): str(value) if isinstance(value, Path) else value for key, value in keys.items()},
        }
    )
    cfg.MODEL.MASK_ON = masks
    return cfg


def plain(records: list[dict[str, Any]], *extra: str) -> list[dict[str, Any]]:
    """Without the keys that Detectron2's records do not have."""
    return [
        {**r, "annotations": [{k: v for k, v in a.items() if k not in extra} for a in r["annotations"]]}
        for r in records
    ]


# Real data, beside Detectron2's own loaders


def test_bccd_is_read_as_detectron2_reads_it(real_data: Path) -> None:
    data = register_user_data(config(format="voc", root=real_data / "bccd"))
    assert data.classes == ("Platelets", "RBC", "WBC")
    assert "trainval.txt and test.txt" in data.messages[1] and data.messages[0].endswith("Platelets, RBC, WBC")
    for name, split, count in ((data.train, "trainval", 292), (data.test, "test", 72)):
        theirs = load_voc_instances(str(real_data / "bccd"), split, data.classes)
        assert plain(DatasetCatalog.get(name), "difficult") == theirs and len(theirs) == count
    assert MetadataCatalog.get(data.train).thing_classes == ["Platelets", "RBC", "WBC"]


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize(
    ("root", "train", "test", "folders"),
    [
        ("coco", "instances_train2017.json", "instances_val2017.json", ("train2017", "val2017")),
        ("balloon", "train.json", "val.json", ("train2017", "val2017")),
    ],
)
def test_coco_json_is_read_as_detectron2_reads_it(
    real_data: Path, root: str, train: str, test: str, folders: tuple[str, str], masks: bool
) -> None:
    base = real_data / root
    data = register_user_data(
        config(masks, format="coco", root=base, train=f"annotations/{train}", test=f"annotations/{test}",
               train_images=folders[0], test_images=folders[1])
    )  # fmt: skip
    assert data.mask_format == ("polygon" if masks else "")
    for name, file, folder in ((data.train, train, folders[0]), (data.test, test, folders[1])):
        stock = f"stock_{name}_{masks}"
        theirs = load_coco_json(str(base / "annotations" / file), str(base / folder), stock)
        assert plain(DatasetCatalog.get(name), "area") == theirs
        for key in ("thing_classes", "thing_dataset_id_to_contiguous_id"):
            assert MetadataCatalog.get(name).get(key) == MetadataCatalog.get(stock).get(key)


def test_voc2012_by_its_split_names_keeps_difficult_objects_and_says_which(real_data: Path) -> None:
    data = register_user_data(config(format="voc", root=real_data / "VOC2012", train="train", test="val"))
    annotations = [a for n in (data.train, data.test) for r in DatasetCatalog.get(n) for a in r["annotations"]]
    assert len(annotations) == 3212 and sum(a["difficult"] for a in annotations) == 409 and len(data.classes) == 17


# Small data made here, to break


def write_image(file: Path, size: tuple[int, int] = (60, 40), **how: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(file, **how)


def one_object(name: str = "cat", box: tuple[Any, ...] = (10, 10, 30, 30), more: str = "") -> str:
    sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return f"<object><name>{name}</name>{more}<bndbox>{sides}</bndbox></object>"


def xml(*objects: str, size: tuple[int, int] | None = (60, 40)) -> str:
    said = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation>{said}{''.join(objects)}</annotation>"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Ten images of a cat each, no split files."""
    root = tmp_path / "pets"
    for n in range(10):
        write_image(root / f"JPEGImages/pet {n}.jpg")
        (root / "Annotations").mkdir(exist_ok=True)
        (root / f"Annotations/pet {n}.xml").write_text(xml(one_object()))
    return root


@pytest.fixture
def coco(tmp_path: Path) -> Callable[..., Path]:
    """Writes a COCO data set of four images, changed as asked for, and returns its folder."""

    def write(**changes: Any) -> Path:
        images = [{"id": n, "file_name": f"{n}.jpg", "width": 60, "height": 40} for n in range(4)]
        square = [[10, 10, 30, 10, 30, 30, 10, 30]]
        annotations = [
            {
                "id": n,
                "image_id": n,
                "category_id": 5,
                "bbox": [10, 10, 20, 20],
                "segmentation": square,
                "iscrowd": 0,
                "area": 400,
            }
            for n in range(4)
        ]
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 5, "name": "cat"}, {"id": 9, "name": "dog"}],
        }
        for key, change in changes.items():
            content[key] = change(content[key]) if callable(change) else change
        for n in range(4):
            write_image(tmp_path / f"images/{n}.jpg")
        (tmp_path / "all.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
        return tmp_path

    return write


def first_changed(**change: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda entries: [{**entries[0], **change}, *entries[1:]]


def register(root: Path, **keys: Any) -> UserData:
    if (root / "all.json").is_file():
        keys = {"format": "coco", "train": "all.json", "test": "all.json", "train_images": "images", **keys}
    return register_user_data(config(**{"format": "voc", **keys, "root": root}))


def records(root: Path, **keys: Any) -> list[dict[str, Any]]:
    data = register(root, **keys)
    return sorted(DatasetCatalog.get(data.train) + DatasetCatalog.get(data.test), key=lambda r: str(r["image_id"]))


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


def test_coco_without_a_test_file_is_split_too(coco: Callable[..., Path]) -> None:
    data = register(coco(), test="", test_fraction=0.5)
    names = [[r["image_id"] for r in DatasetCatalog.get(n)] for n in (data.train, data.test)]
    assert sorted(names[0] + names[1]) == [0, 1, 2, 3] and len(names[1]) == 2
    assert MetadataCatalog.get(data.test).get("json_file") is None
    assert MetadataCatalog.get(data.test).thing_dataset_id_to_contiguous_id == {5: 0, 9: 1}


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


BOMB = '<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>' + xml(one_object("&b;"))
OUTSIDE = '<!DOCTYPE annotation [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + xml(one_object("&a;"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", "not readable as XML"),
        ("", "not readable as XML"),
        (BOMB, "declares the entity 'a'"),
        (BOMB.encode("utf-16"), "declares the entity 'a'"),
        (OUTSIDE, "declares the entity 'a'"),
        ("<html></html>", "starts with <html>"),
        (xml("<object><bndbox/></object>"), "has no <name>"),
        (xml("<object><name>cat</name></object>"), "of class 'cat' has no <bndbox>"),
        (xml(one_object(box=(1, "two", 3, 4))), "ymin of an object of class 'cat' is 'two'"),
        (xml(one_object(box=(1, 2, 3, "nan"))), "ymax of an object of class 'cat' is 'nan'"),
        (xml(one_object(), size=(600, 400)), "60 x 40 pixels .* annotation says 600 x 400"),
    ],
)
def test_bad_xml_is_refused_by_name(voc: Path, text: str | bytes, message: str) -> None:
    file = voc / "Annotations/pet 3.xml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as caught:
        register(voc)
    assert "pet 3" in str(caught.value) and "\n" not in str(caught.value)


def test_an_annotation_without_its_image(voc: Path) -> None:
    (voc / "JPEGImages/pet 4.jpg").unlink()
    write_image(voc / "JPEGImages/lonely.png")
    notes = register(voc).messages
    assert any("1 annotations without image left out (first: pet 4)" in n for n in notes)
    assert any("1 images without annotation left out (first: lonely)" in n for n in notes)
    (voc / "ImageSets/Main").mkdir(parents=True)
    (voc / "ImageSets/Main/train.txt").write_text("pet 0\npet 4\n\npet 0\n")
    (voc / "ImageSets/Main/val.txt").write_text("pet 1\n")
    with pytest.raises(ValueError, match=r"train.txt: 1 of its 2 images are not in JPEGImages \(first: 'pet 4'\)"):
        register(voc)


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


@pytest.mark.parametrize("ending", ["jpg", "png"])
@pytest.mark.parametrize("keep", [0, 20, 1500])
def test_images_that_do_not_decode(voc: Path, ending: str, keep: int) -> None:
    (voc / "JPEGImages/pet 5.jpg").unlink()
    file = voc / f"JPEGImages/pet 5.{ending}"
    write_image(file)
    assert len(file.read_bytes()) > 1500
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=rf"pet 5\.{ending}: not readable as an image"):
        register(voc)


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


def test_chosen_classes_in_the_given_order(coco: Callable[..., Path]) -> None:
    root = coco(annotations=first_changed(category_id=9))
    data = register(root, classes=["dog"])
    assert data.classes == ("dog",) and any(
        "6 objects of classes that DATA.CLASSES does not name" in m for m in data.messages
    )
    assert MetadataCatalog.get(data.test).thing_dataset_id_to_contiguous_id == {9: 0}
    both = records(root, classes=["dog", "cat"])
    assert [r["annotations"][0]["category_id"] for r in both[::2]] == [0, 1, 1, 1]
    with pytest.raises(
        ValueError, match=r"DATA.CLASSES: the data have no class 'dgo', but cat, dog; did you mean 'dog'\?"
    ):
        register(root, classes=["dgo"])


def test_test_categories_are_matched_by_name(coco: Callable[..., Path]) -> None:
    root = coco()
    other = json.loads((root / "all.json").read_text())
    other["categories"] = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    for annotation in other["annotations"]:
        annotation["category_id"] = 2
    (root / "test.json").write_text(json.dumps(other))
    data = register(root, test="test.json", test_images="images")
    assert {a["category_id"] for r in DatasetCatalog.get(data.test) for a in r["annotations"]} == {0}
    assert MetadataCatalog.get(data.train).thing_dataset_id_to_contiguous_id == {5: 0, 9: 1}
    assert MetadataCatalog.get(data.test).thing_dataset_id_to_contiguous_id == {2: 0, 1: 1}


def test_equal_category_names_are_told_apart(coco: Callable[..., Path]) -> None:
    data = register(coco(categories=[{"id": 5, "name": "cell"}, {"id": 9, "name": "cell"}]))
    assert data.classes == ("cell (id 5)", "cell (id 9)")


RLE = {"size": [40, 60], "counts": [0, 40, 2360]}


def test_masks_as_run_lengths_ask_for_bitmasks(coco: Callable[..., Path]) -> None:
    data = register(coco(annotations=first_changed(segmentation=RLE)), masks=True)
    assert data.mask_format == "bitmask"
    record = DatasetCatalog.get(data.train)[0]
    mapper = DatasetMapper(
        is_train=True, augmentations=[T.NoOpTransform()], image_format="RGB", use_instance_mask=True,
        instance_mask_format="bitmask",
    )  # fmt: skip
    assert mapper(record)["instances"].gt_masks.tensor.sum() == 40


def test_objects_without_mask_are_not_trained_on_where_masks_are(coco: Callable[..., Path]) -> None:
    root = coco(annotations=first_changed(segmentation=[[1, 2, 3, 4]]))
    data = register(root, masks=True)
    assert "training: 1 objects without a mask are not trained on" in data.messages
    assert [a["iscrowd"] for r in DatasetCatalog.get(data.train) for a in r["annotations"]] == [1, 0, 0, 0]
    assert [a["iscrowd"] for r in DatasetCatalog.get(register(root).train) for a in r["annotations"]] == [0] * 4


def test_strays_and_ignored_are_counted(coco: Callable[..., Path]) -> None:
    root = coco(annotations=lambda entries: [{**entries[0], "image_id": 77}, {**entries[1], "ignore": 1}, *entries[2:]])
    data = register(root)
    assert any("1 annotations without their image left out (first: image 77)" in m for m in data.messages)
    assert any("1 objects marked `ignore` are taken as crowds" in m for m in data.messages)
    assert MetadataCatalog.get(data.test).get("json_file") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "has no list of images"),
        ({"categories": {}}, "has no list of categories"),
        ({"annotations": {"a": 1}}, "has no list of annotations"),
        ({"annotations": [3]}, "3 stands where"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, r"each once; it has \[1, 1\]"),
        ({"categories": [{"id": 5}]}, "a category has no name"),
        ({"images": first_changed(id=1)}, "two have one id"),
        ({"images": first_changed(id="zero")}, "ids are mixed"),
        ({"images": first_changed(file_name=None)}, "an image needs id and file_name"),
        ({"images": first_changed(file_name="gone.jpg")}, r"gone.jpg: annotated, but there is no such file \(1 of 4"),
        ({"images": first_changed(width=61)}, "0.jpg: the image has 60 x 40 pixels"),
        ({"annotations": first_changed(category_id=6)}, "annotation 0 of image 0 has category_id 6"),
        ({"annotations": first_changed(bbox=[1, 2, 3])}, "not four numbers"),
        ({"annotations": first_changed(bbox=[1, 2, float("nan"), 4])}, "not four numbers"),
        ({"annotations": first_changed(segmentation="mask")}, "neither a list of lists of numbers nor run lengths"),
        ({"annotations": first_changed(segmentation={**RLE, "size": [60, 40]})}, r"mask of size \[60, 40\]"),
        ({"annotations": first_changed(segmentation={**RLE, "counts": [1, 2]})}, "do not add up"),
        ({"annotations": lambda entries: [{**e, "iscrowd": 1} for e in entries]}, "has an object to train on"),
        ({"annotations": []}, "has an object to train on"),
        ({"images": [], "annotations": []}, "the training set of .* has no images"),
    ],
)
def test_bad_coco_is_refused_by_name(coco: Callable[..., Path], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        register(coco(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"images": 1' + b"0" * 5000 + b"}"]
)
def test_broken_json_is_refused(coco: Callable[..., Path], content: bytes) -> None:
    root = coco()
    (root / "all.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"all\.json: "):
        register(root)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"format": "yolo"}, "DATA.FORMAT: 'yolo' is neither"),
        ({"root": "/nowhere"}, "DATA.ROOT: no folder /nowhere"),
        ({"format": "coco"}, "DATA.TRAIN: is empty"),
        ({"format": "coco", "train": "no.json"}, "no.json: No such file"),
        ({"format": "voc", "root": "/"}, "DATA.ROOT: / has no folder Annotations"),
        ({"test_fraction": 1.5}, "DATA.TEST_FRACTION: 1.5"),
        ({"masks": True}, "MODEL.MASK_ON: True, but data in VOC's layout"),
        ({"train": "train"}, r"DATA.TRAIN: no file .*train.txt; the splits there are none"),
    ],
)
def test_wrong_keys_are_refused_by_name(voc: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register_user_data(config(**{"format": "voc", "root": voc, **keys}))


def test_a_test_file_without_annotations_is_for_predicting_only(coco: Callable[..., Path]) -> None:
    root = coco()
    content = json.loads((root / "all.json").read_text())
    del content["annotations"]
    (root / "test.json").write_text(json.dumps(content))
    data = register(root, test="test.json")
    assert all("annotations" not in r for r in DatasetCatalog.get(data.test))
    assert any("nothing to measure an AP on" in m for m in data.messages)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: f"<annotation>{t}</annotation>".encode()))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused_as_xml(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "any.xml"
    file.write_bytes(content)
    try:
        read_annotation(file)
    except ValueError as error:
        assert "any.xml" in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(["", "a", "counts"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["size", "counts", "id"]), inner),
    max_leaves=8,
)
FIELDS = [
    "id",
    "image_id",
    "category_id",
    "bbox",
    "segmentation",
    "iscrowd",
    "area",
    "name",
    "file_name",
    "width",
    "height",
]
ENTRIES = st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON | st.just("x.jpg"), max_size=6) | JSON, max_size=3)


@given(st.dictionaries(st.sampled_from(["images", "annotations", "categories"]), ENTRIES | JSON), st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_is_read_or_refused_as_coco(tmp_path: Path, content: dict[str, Any], complete: bool) -> None:
    if complete:
        content["categories"] = [{"id": 1, "name": "a"}]
        content["images"] = [{"id": 0, "file_name": "x.jpg", "width": 3, "height": 2}]
        if isinstance(content.get("annotations"), list):
            usual = {"image_id": 0, "category_id": 1, "bbox": [0, 0, 1, 1]}
            content["annotations"] = [{**usual, **a} if isinstance(a, dict) else a for a in content["annotations"]]
    file = tmp_path / "any.json"
    file.write_text(json.dumps(content))
    try:
        load_coco(file, tmp_path)
    except ValueError as error:
        assert "any.json" in str(error)


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
