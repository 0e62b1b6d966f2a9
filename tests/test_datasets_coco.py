"""The user's own data in COCO's JSON: the same records as Detectron2's loader on real data, classes and masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.datasets.coco import load_coco_json
from made_pets import (
    RLE,
    config,
    first_changed,
    plain,
    records,
    register,
    write_image,
)
from pycocotools import mask as masks

from resnet_backbone.detection.data.catalog import register_user_data


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


def test_coco_without_a_test_file_is_split_too(coco: Callable[..., Path]) -> None:
    data = register(coco(), test="", test_fraction=0.5)
    names = [[r["image_id"] for r in DatasetCatalog.get(n)] for n in (data.train, data.test)]
    assert sorted(names[0] + names[1]) == [0, 1, 2, 3] and len(names[1]) == 2
    assert MetadataCatalog.get(data.test).get("json_file") is None
    assert MetadataCatalog.get(data.test).thing_dataset_id_to_contiguous_id == {5: 0, 9: 1}


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


def test_masks_as_run_lengths_ask_for_bitmasks(coco: Callable[..., Path]) -> None:
    data = register(coco(annotations=first_changed(segmentation=RLE)), masks=True)
    assert data.mask_format == "bitmask"
    record = DatasetCatalog.get(data.train)[0]
    mapper = DatasetMapper(
        is_train=True, augmentations=[T.NoOpTransform()], image_format="RGB", use_instance_mask=True,
        instance_mask_format="bitmask",
    )  # fmt: skip
    assert mapper(record)["instances"].gt_masks.tensor.sum() == 40


def test_compressed_run_lengths_stay_as_pycocotools_wrote_them(coco: Callable[..., Path]) -> None:
    drawn = np.asfortranarray(np.random.default_rng(0).integers(0, 2, (40, 60), dtype=np.uint8))
    mask = {"size": [40, 60], "counts": masks.encode(drawn)["counts"].decode()}
    data = register(coco(annotations=first_changed(segmentation=mask)), masks=True)
    assert data.mask_format == "bitmask"
    assert (masks.decode(DatasetCatalog.get(data.train)[0]["annotations"][0]["segmentation"]) == drawn).all()


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


def test_a_file_name_with_two_slashes_is_a_file(coco: Callable[..., Path]) -> None:
    root = coco(images=first_changed(file_name="sub//0.jpg"))
    write_image(root / "images/sub/0.jpg")
    assert records(root)[0]["file_name"].endswith("sub//0.jpg")


def test_a_test_file_without_annotations_is_for_predicting_only(coco: Callable[..., Path]) -> None:
    root = coco()
    content = json.loads((root / "all.json").read_text())
    del content["annotations"]
    (root / "test.json").write_text(json.dumps(content))
    data = register(root, test="test.json")
    assert all("annotations" not in r for r in DatasetCatalog.get(data.test))
    assert any("nothing to measure an AP on" in m for m in data.messages)
