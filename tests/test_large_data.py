"""The generator of the COCO-sized benchmark, and our records of its data beside Detectron2's own reader's."""

from __future__ import annotations

import json

import pytest
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import load_coco_json
from PIL import Image

from benchmarks.coco_size import GAPS, SIZES, generate
from resnet_backbone.detection.data.coco import load_coco


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("large")
    generate(made, images=30, objects=400)
    return made


def test_the_generated_file_is_what_it_claims(folder):
    content = json.loads((folder / "train.json").read_text())
    assert (len(content["images"]), len(content["annotations"]), len(content["categories"])) == (30, 400, 80)
    assert {c["id"] for c in content["categories"]} == set(range(1, 91)) - set(GAPS)
    assert [a["id"] for a in content["annotations"]] == list(range(1, 401))
    assert sum(a["iscrowd"] for a in content["annotations"]) == 4
    for one in content["images"]:
        with Image.open(folder / "images" / one["file_name"]) as image:
            assert image.size == (one["width"], one["height"]) and image.size[::-1] in SIZES
    for one in content["annotations"]:
        (polygon,) = one["segmentation"]
        x, y, w, h = one["bbox"]
        # Rounded to a hundredth each, a corner can be two hundredths off.
        assert abs(min(polygon[::2]) - x) < 0.011 and abs(max(polygon[::2]) - x - w) < 0.021
        assert abs(min(polygon[1::2]) - y) < 0.011 and abs(max(polygon[1::2]) - y - h) < 0.021
        assert min(polygon) >= 0 and max(polygon) <= 480


def test_our_records_are_detectron2s(folder):
    ours = load_coco(folder / "train.json", folder / "images")
    theirs = load_coco_json(str(folder / "train.json"), str(folder / "images"), "made_large_data")
    classes = MetadataCatalog.get("made_large_data").thing_classes
    MetadataCatalog.remove("made_large_data")
    assert ours.as_is and not ours.notes and list(ours.category_ids) == classes
    for record in ours.records:
        for annotation in record["annotations"]:
            annotation["category_id"] = classes.index(annotation["category_id"])
            assert annotation.pop("area") > 0
    assert ours.records == theirs
