"""Every kind of bad data ends in one sentence that names file and value."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_pets import (
    RLE,
    config,
    first_changed,
    one_object,
    register,
    write_image,
    xml,
)
from pycocotools import mask as masks

from resnet_backbone.detection.data.catalog import find_root, register_user_data
from resnet_backbone.detection.data.coco import load_coco
from resnet_backbone.detection.data.faults import DataError
from resnet_backbone.evaluation.voc_xml import read_annotation

WHOLE = masks.encode(np.asfortranarray(np.tile(np.uint8([[0, 1], [1, 0]]), (20, 30))))["counts"].decode()


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "has no list of images"),
        ({"categories": {}}, "has no list of categories"),
        ({"annotations": {"a": 1}}, "has no list of annotations"),
        ({"annotations": [3]}, "3 stands where"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, r"each once; it has \[1, 1\]"),
        ({"categories": [{"id": 5}]}, "a category has no name"),
        ({"categories": [{"id": 5, "name": None}]}, "a category has no name"),
        ({"images": first_changed(id=1)}, "two have one id"),
        ({"images": first_changed(id="zero")}, "ids are mixed"),
        ({"images": first_changed(file_name=None)}, "an image needs id and file_name"),
        ({"images": first_changed(file_name="gone.jpg")}, r"gone.jpg: annotated, but there is no such file \(1 of 4"),
        ({"images": first_changed(width=61)}, "0.jpg: the image has 60 x 40 pixels"),
        ({"annotations": first_changed(category_id=6)}, "annotation 0 of image 0 has category_id 6"),
        ({"annotations": first_changed(bbox=[1, 2, 3])}, "not four numbers"),
        ({"annotations": first_changed(bbox=[1, 2, float("nan"), 4])}, "not four numbers"),
        ({"annotations": first_changed(segmentation="mask")}, "neither polygons nor run lengths with their size"),
        ({"annotations": first_changed(segmentation={**RLE, "size": [60, 40]})}, r"mask of size \[60, 40\]"),
        ({"annotations": first_changed(segmentation={**RLE, "counts": [1, 2]})}, "do not add up"),
        (
            {"annotations": first_changed(segmentation={**RLE, "counts": "abc"})},
            "0 has a mask with run lengths that do",
        ),
        ({"annotations": first_changed(segmentation={**RLE, "counts": ""})}, "do not add up to its 40 x 60 pixels"),
        ({"annotations": first_changed(segmentation={**RLE, "counts": WHOLE[:-1]})}, "do not add up to its 40 x 60"),
        ({"annotations": first_changed(segmentation=[[10**400, 1, 2, 3, 4, 5]])}, "neither polygons nor run lengths"),
        ({"annotations": first_changed(bbox=[10**400, 1, 2, 3])}, "not four numbers"),
        ({"annotations": first_changed(area=-(10**400))}, "has the area -1000.* and not a number"),
        ({"annotations": first_changed(area="400")}, "has the area '400' and not a number"),
        ({"annotations": first_changed(iscrowd="0")}, "annotation 0 of image 0 has the iscrowd '0' and not 0 or 1"),
        ({"annotations": lambda entries: [{**e, "iscrowd": 1} for e in entries]}, "has an object to train on"),
        ({"annotations": []}, "has an object to train on"),
        ({"images": [], "annotations": []}, "the training set of .* has no images"),
    ],
)
def test_bad_coco_is_refused_by_name(coco: Callable[..., Path], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        register(coco(**changes))
    assert "\n" not in str(caught.value)


def test_all_that_is_wrong_is_said_at_once(coco: Callable[..., Path], voc: Path) -> None:
    root = coco(annotations=lambda entries: [{**e, "bbox": [1, 2]} if i != 1 else e for i, e in enumerate(entries)])
    shutil.copy(root / "all.json", root / "test.json")
    with pytest.raises(DataError) as caught:
        register(root, test="test.json", test_images="images")
    assert len(caught.value.faults) == 6 and "annotation 3 of image 3 has the bbox [1, 2]" in caught.value.faults[2]
    assert "all.json" in caught.value.faults[2] and "test.json" in caught.value.faults[5]
    assert str(caught.value) == caught.value.faults[0] + " (and 5 more faults: --check lists them)"
    for number, text in ((0, "<annotation>"), (3, xml("<object><bndbox/></object>"))):
        (voc / f"Annotations/pet {number}.xml").write_text(text)
    with pytest.raises(DataError) as caught:
        register(voc)
    assert sorted("pet 0.xml" in fault for fault in caught.value.faults) == [False, True]
    for number in (0, 3):
        (voc / f"Annotations/pet {number}.xml").write_text(xml(one_object(), size=(60, 40)))
    write_image(voc / "JPEGImages/pet 1.jpg", size=(30, 40))
    (voc / "JPEGImages/pet 2.jpg").write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        register(voc)
    assert sorted("30 x 40 pixels" in fault for fault in caught.value.faults) == [False, True]


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
        ({"classes": ["cat", "cat"]}, "DATA.CLASSES: names cat more than once; name each class once"),
        ({"masks": True}, "MODEL.MASK_ON: True, but data in VOC's layout"),
        ({"train": "train", "test": "val"}, r"DATA.TRAIN: no file .*train.txt; the splits there are none"),
        ({"train": "train"}, "DATA.TEST: is empty, but DATA.TRAIN is 'train'; name both splits, or leave both empty"),
        ({"test": "val"}, "DATA.TRAIN: is empty, but DATA.TEST is 'val'; name both splits, or leave both empty"),
    ],
)
def test_wrong_keys_are_refused_by_name(voc: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register_user_data(config(**{"format": "voc", "root": voc, **keys}))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_split_files_are_in_utf8(voc: Path, encoding: str) -> None:
    write_image(voc / "JPEGImages/käse.jpg")
    (voc / "Annotations/käse.xml").write_text(xml(one_object()))
    (voc / "ImageSets/Main").mkdir(parents=True)
    (voc / "ImageSets/Main/train.txt").write_text("pet 0\nkäse\n", encoding=encoding)
    (voc / "ImageSets/Main/val.txt").write_text("pet 1\n")
    if encoding.startswith("utf-8"):
        assert "2 images to train on" in register(voc).messages[0]
    else:
        with pytest.raises(ValueError, match=r"train\.txt: is no text in UTF-8 .*; save it in that encoding"):
            register(voc)


def test_keypoints_of_ones_own_data_are_not_read(coco: Callable[..., Path]) -> None:
    cfg = config(format="coco", root=coco(), train="all.json", train_images="images")
    cfg.MODEL.KEYPOINT_ON = True
    with pytest.raises(ValueError, match="MODEL.KEYPOINT_ON: True, but keypoints of DATA.* are not read"):
        register_user_data(cfg)


def test_a_folder_below_ones_home(voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(voc.parent))
    monkeypatch.setenv("DETECTRON2_DATASETS", "~")
    assert find_root("pets") == voc


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
