"""The generated data set: what it says of its pictures is what is in them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from resnet_backbone.demo import run as demo
from resnet_backbone.demo.contours import CLUTTER, SHAPES, place
from resnet_backbone.demo.scenes import CLASSES, HIDDEN, draw_scene
from resnet_backbone.demo.shapes import ShapesConfig, cut, scene, write_shapes
from resnet_backbone.demo.textures import PATTERNS, texture
from resnet_backbone.engine.interrupt import Stopped
from resnet_backbone.images.decode import read_image

CONFIG = ShapesConfig(train=30, val=12, seed=3)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes"
    assert write_shapes(root, CONFIG, workers=1)
    return root


@pytest.fixture(scope="module")
def coco(shapes):
    return COCO(shapes / "annotations" / "instances_train.json")


def files(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def polygon_area(points):
    x, y = points.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def test_the_same_seed_writes_the_same_bytes_whatever_the_workers(shapes, tmp_path):
    write_shapes(tmp_path / "again", CONFIG, workers=2)
    assert files(tmp_path / "again") == files(shapes)


def test_another_seed_or_split_draws_other_scenes():
    first = scene(CONFIG, "train", 0).image
    assert not np.array_equal(first, scene(ShapesConfig(seed=4), "train", 0).image)
    assert not np.array_equal(first, scene(CONFIG, "val", 0).image)
    assert np.array_equal(first, scene(ShapesConfig(train=5, seed=3), "train", 0).image)


def test_coco_annotations_are_of_the_visible_part(coco):
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    for index, image in enumerate(coco.loadImgs(sorted(coco.imgs))):
        drawn = scene(CONFIG, "train", index)
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert len(annotations) == len(drawn.objects)
        for annotation, thing in zip(annotations, drawn.objects, strict=True):
            mask = coco.annToMask(annotation).astype(bool)
            assert np.array_equal(mask, thing.mask)
            assert annotation["area"] == mask.sum()
            rows, columns = np.nonzero(mask)
            x, y = columns.min(), rows.min()
            assert annotation["bbox"] == [x, y, columns.max() - x + 1, rows.max() - y + 1]
            assert annotation["category_id"] == thing.label + 1
            assert annotation["iscrowd"] == int(thing.crowd)


def test_masks_never_overlap_and_hidden_objects_are_ignored():
    crowds = 0
    for index in range(40):
        objects = draw_scene(np.random.default_rng([9, index])).objects
        assert sum(thing.mask.astype(int) for thing in objects).max() <= 1
        for thing in objects:
            assert thing.crowd or thing.visible >= HIDDEN
            crowds += thing.crowd
    assert crowds > 0


def test_the_voc_twin_says_the_same(shapes, coco):
    names = (shapes / "ImageSets/Main/train.txt").read_text().split()
    assert names == [image["file_name"].removesuffix(".jpg") for image in coco.loadImgs(sorted(coco.imgs))]
    for image_id, name in enumerate(names, start=1):
        tree = ElementTree.parse(shapes / "Annotations" / f"{name}.xml")
        boxes = [
            (o.findtext("name"), *(int(o.findtext(f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax")))
            for o in tree.findall("object")
        ]
        wanted = []
        for a in coco.loadAnns(coco.getAnnIds(imgIds=image_id)):
            x, y, w, h = (int(v) for v in a["bbox"])
            wanted.append((CLASSES[a["category_id"] - 1], x + 1, y + 1, x + w, y + h))
        assert boxes == wanted
        assert read_image(shapes / "JPEGImages" / tree.findtext("filename")).shape == (128, 128, 3)
        assert all(1 <= x0 <= x1 <= 128 and 1 <= y0 <= y1 <= 128 for _, x0, y0, x1, y1 in boxes)


def test_every_class_occurs_with_small_and_large_objects():
    seen = Counter()
    sides = []
    for index in range(120):
        for thing in draw_scene(np.random.default_rng([1, index])).objects:
            seen[thing.label] += 1
            sides.append(np.sqrt(thing.full_area))
    assert set(seen) == set(range(len(CLASSES)))
    assert min(seen.values()) > 0.5 * max(seen.values())
    assert np.percentile(sides, 10) < 19 and np.percentile(sides, 90) > 45


def test_colour_says_nothing_about_the_class():
    """Hue and strength, that is: compact outlines are lit a little brighter than thin ones."""
    colours = [[] for _ in CLASSES]
    for index in range(400):
        drawn = draw_scene(np.random.default_rng([5, index]))
        lab = cv2.cvtColor(drawn.image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
        for thing in drawn.objects:
            if not thing.crowd:
                colours[thing.label].append(lab[thing.mask].mean(axis=0))
    for channel in (1, 2):
        values = [np.array(one)[:, channel] for one in colours]
        spread = np.std(np.concatenate(values))
        errors = [spread / np.sqrt(len(one)) for one in values]
        means = [one.mean() for one in values]
        assert np.ptp(means) < 5 * max(errors), means


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_texture_has_both_colours_unless_it_is_plain(pattern):
    drawn = texture(90, 70, pattern, np.random.default_rng(1))
    assert drawn.shape == (90, 70) and drawn.dtype == np.float32
    assert drawn.min() == 0.0 and drawn.max() == (0.0 if pattern == "plain" else 1.0)
    assert pattern == "plain" or 0.1 < drawn.mean() < 0.9


def test_a_ring_has_a_hole_and_areas_are_those_of_the_outlines():
    rng = np.random.default_rng(0)
    for name, outline in SHAPES.items():
        curves = outline()
        assert len(curves) == (2 if name == "ring" else 1)
        for curve in curves:
            assert curve.shape[1] == 2 and polygon_area(curve) > 0.5
        placed = place(curves, rng, 50, (80, 80))
        extent = np.ptp(placed[0], axis=0)
        assert extent.max() == pytest.approx(50)
        middle = (placed[0].min(axis=0) + placed[0].max(axis=0)) / 2
        assert middle == pytest.approx([80, 80])
    for make in CLUTTER:
        assert np.isfinite(make(rng)[0]).all()


def test_a_crop_has_its_object_in_the_middle():
    image = np.zeros((160, 160, 3), np.uint8)
    image[40:80, 60:100] = 255
    crop = cut(image, [60.0, 40.0, 40.0, 40.0], 50)  # 50 pixels for 1.25 * 40: one for one
    expected = np.zeros((50, 50, 3), np.uint8)
    expected[5:45, 5:45] = 255
    assert np.array_equal(crop, expected)


def test_crops_lie_in_class_folders(shapes):
    for split in ("train", "val"):
        assert sorted(p.name for p in (shapes / "crops" / split).iterdir()) == sorted(CLASSES)
    crops = list((shapes / "crops").rglob("*.jpg"))
    assert len(crops) > 100
    assert read_image(crops[0]).shape == (64, 64, 3)


def test_what_is_there_is_kept_and_what_is_foreign_is_refused(shapes, tmp_path):
    assert not write_shapes(shapes, CONFIG)
    with pytest.raises(ValueError, match="holds another data set"):
        write_shapes(shapes, ShapesConfig(train=30, val=12, seed=4))
    with pytest.raises(ValueError, match="at least one scene"):
        ShapesConfig(train=0)


def test_a_broken_off_run_leaves_nothing_under_the_name(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    root, threads = tmp_path / "shapes", cv2.getNumThreads()
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("resnet_backbone.demo.shapes._write_coco", full)
        write_shapes(root, ShapesConfig(train=2, val=1), workers=1)
    assert not root.exists()
    assert write_shapes(root, ShapesConfig(train=2, val=1), workers=1)
    assert cv2.getNumThreads() == threads, "the process's own"
    assert json.loads((root / "shapes.json").read_text())["train"] == 2


@pytest.mark.parametrize("step", ["pretrain", "run"])
def test_a_step_that_is_stopped_goes_on_by_its_own_command(tmp_path, monkeypatch, capsys, step):
    def stopped(*arguments, **options):
        raise Stopped("stopped after iteration 3 of 9; go on with --resume")

    monkeypatch.setattr(demo, "write_shapes", lambda root: False)
    monkeypatch.setattr(demo, "pretrain", lambda *arguments, **options: SimpleNamespace(weights=tmp_path))
    monkeypatch.setattr(demo, step, stopped)
    with pytest.raises(Stopped, match="--resume and the command above, or begin the demonstration again"):
        demo.run_demo(Path(__file__).parents[1] / "configs", tmp_path)
    tool = {"pretrain": "pretrain_imagenet", "run": "train_net"}[step]
    assert f"python tools/{tool}.py --config" in capsys.readouterr().out.splitlines()[-1]
