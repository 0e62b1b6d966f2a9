"""Our way from a file to a training image, against Detectron2's: the same objects, pixels within one grey level."""

from __future__ import annotations

import copy
import struct

import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import read_image as detectron2_read
from detectron2.structures import BoxMode
from made_photographs import KINDS, photograph
from PIL import Image
from pycocotools import mask as masks

from resnet_backbone.detection.config import default_config
from resnet_backbone.detection.data.mapper import FastMapper, channels_first, read_image, training_mapper
from resnet_backbone.images.jpeg import decode_jpeg


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("kind", KINDS)
def test_jpegs_are_decoded_to_pillows_pixels(tmp_path, kind, order):
    mode, options = KINDS[kind]
    photograph(61, 93).convert(mode).save(tmp_path / "a.jpg", **options)
    pixels = decode_jpeg((tmp_path / "a.jpg").read_bytes(), order)
    expected = detectron2_read(str(tmp_path / "a.jpg"), format=order).astype(int)
    assert pixels is not None and pixels.shape == (61, 93, 3)
    assert np.abs(pixels - expected).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_detectron2_turns_it(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif[0x0112] = orientation
    photograph().save(tmp_path / "a.jpg", exif=exif)
    data = (tmp_path / "a.jpg").read_bytes()
    expected = detectron2_read(str(tmp_path / "a.jpg"), format="BGR")
    assert np.abs(read_image(str(tmp_path / "a.jpg"), "BGR").astype(int) - expected).max() <= 1
    assert (decode_jpeg(data) is None) == (orientation != 1)
    little = b"II*\0" in data
    assert little or b"MM\0*" in data


def test_both_byte_orders_of_exif_are_read(tmp_path):
    photograph().save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        for orientation in (1, 6):
            field = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
            tiff = mark + struct.pack(order + "IH", 8, 1) + field + bytes(4)
            segment = b"Exif\0\0" + tiff
            marker = b"\xff\xe1" + struct.pack(">H", len(segment) + 2)
            assert (decode_jpeg(data[:2] + marker + segment + data[2:]) is None) == (orientation == 6)
    # A count that reaches behind the segment: Pillow shall say what it is.
    broken = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 9)
    marker = b"\xff\xe1" + struct.pack(">H", len(broken) + 2)
    assert decode_jpeg(data[:2] + marker + broken + data[2:]) is None


def xmp(said):
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {said}</x:xmpmeta>'.encode()


@pytest.mark.parametrize("said", ["/>"] + [f'tiff:Orientation="{n}"/>' for n in range(1, 9)])
@pytest.mark.parametrize("in_exif", [None, 1, 6])
def test_an_orientation_in_xmp_turns_where_exif_has_none(tmp_path, said, in_exif):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    if in_exif:
        exif[0x0112] = in_exif
    photograph().save(tmp_path / "a.jpg", exif=exif, xmp=xmp(said))
    expected = detectron2_read(str(tmp_path / "a.jpg"), format="BGR").astype(int)
    ours = read_image(str(tmp_path / "a.jpg"), "BGR")
    assert ours.shape == expected.shape and np.abs(ours - expected).max() <= 1
    quick = said in ("/>", 'tiff:Orientation="1"/>') and in_exif != 6
    assert (decode_jpeg((tmp_path / "a.jpg").read_bytes()) is not None) == quick


def test_an_orientation_in_xmp_as_an_element(tmp_path):
    photograph().save(tmp_path / "a.jpg", xmp=xmp("><tiff:Orientation>6</tiff:Orientation></rdf:Description>"))
    assert read_image(str(tmp_path / "a.jpg"), "BGR").shape == (90, 60, 3)


def test_what_the_decoders_read_differently_is_left_to_pillow(tmp_path):
    photograph().convert("CMYK").save(tmp_path / "cmyk.jpg")
    photograph().save(tmp_path / "png.jpg", format="PNG")
    photograph().quantize(8).save(tmp_path / "palette.png")
    for name in ("cmyk.jpg", "png.jpg", "palette.png"):
        assert decode_jpeg((tmp_path / name).read_bytes()) is None
        expected = detectron2_read(str(tmp_path / name), format="RGB")
        assert np.array_equal(read_image(str(tmp_path / name), "RGB"), expected)


@pytest.mark.parametrize("keep", [0, 1, 2, 20, 300, 0.5, -1, -2])
def test_a_file_that_breaks_off_is_an_error_and_not_grey(tmp_path, keep):
    photograph(200, 300).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    assert decode_jpeg((tmp_path / "a.jpg").read_bytes()) is None
    if keep not in (-1, -2):  # Pillow reads what lacks no more than its end mark
        with pytest.raises((OSError, SyntaxError)):
            read_image(str(tmp_path / "a.jpg"), "RGB")


def test_an_enormous_size_is_pillows_to_refuse(tmp_path):
    photograph().save(tmp_path / "a.jpg")
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\x00\xff\x00"
    (tmp_path / "a.jpg").write_bytes(data)
    assert decode_jpeg(bytes(data)) is None
    with pytest.raises(Image.DecompressionBombError):
        read_image(str(tmp_path / "a.jpg"), "RGB")


@pytest.fixture
def record(tmp_path):
    photograph(120, 160).save(tmp_path / "a.jpg", quality=90)
    polygon = [10.0, 12.0, 70.0, 15.0, 60.0, 80.0, 12.0, 70.0]
    other = [80.0, 30.0, 150.0, 35.0, 140.0, 110.0]
    annotations = [
        {"bbox": [10, 12, 60, 68], "segmentation": [polygon], "category_id": 0, "iscrowd": 0},
        {"bbox": [80, 30, 70, 80], "segmentation": [np.array(other)], "category_id": 2, "iscrowd": 0},
        {"bbox": [0, 0, 5, 5], "category_id": 1, "iscrowd": 1},
        {"bbox": [20, 20, 0, 30], "segmentation": [[20, 20, 20, 50, 20, 40]], "category_id": 1, "iscrowd": 0},
    ]
    annotations = [{**a, "bbox_mode": BoxMode.XYWH_ABS} for a in annotations]
    made = {"file_name": str(tmp_path / "a.jpg"), "height": 120, "width": 160, "image_id": 7}
    return {**made, "annotations": annotations}


def settings(**keys):
    cfg = default_config()
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (50, 97, 150), 77
    for key, value in keys.items():
        node = cfg
        *path, last = key.split("__")
        for part in path:
            node = node[part]
        node[last] = value
    return cfg


VARIANTS = [
    {},
    {"MODEL__MASK_ON": True},
    {"INPUT__RANDOM_FLIP": "vertical", "MODEL__MASK_ON": True},
    {"INPUT__CROP__ENABLED": True, "INPUT__CROP__SIZE": [0.7, 0.8]},  # Detectron2 crops polygons with shapely
    {"INPUT__FORMAT": "RGB", "INPUT__MIN_SIZE_TRAIN": (0,)},
    {"INPUT__FORMAT": "RGB", "INPUT__MAX_SIZE_TRAIN": 100},
    {"INPUT__FORMAT": "L"},
]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("keys", VARIANTS, ids=lambda keys: ",".join(keys) or "plain")
def test_the_same_objects_and_pixels_within_one_level_of_detectron2s_mapper(record, keys, train):
    cfg = settings(**keys)
    ours, stock = FastMapper(cfg, train), DatasetMapper(cfg, train)
    sizes = set()
    for seed in range(8):
        np.random.seed(seed)
        mine = ours(copy.deepcopy(record))
        np.random.seed(seed)
        theirs = stock(copy.deepcopy(record))
        assert mine.keys() == theirs.keys() and mine["image"].is_contiguous()
        assert mine["image"].dtype == torch.uint8 and mine["image"].shape == theirs["image"].shape
        assert (mine["image"].int() - theirs["image"].int()).abs().max() <= 1
        sizes.add(tuple(mine["image"].shape))
        if train:
            assert torch.equal(mine["instances"].gt_boxes.tensor, theirs["instances"].gt_boxes.tensor)
            assert torch.equal(mine["instances"].gt_classes, theirs["instances"].gt_classes)
            assert mine["instances"].has("gt_masks") == cfg.MODEL.MASK_ON
            if cfg.MODEL.MASK_ON:
                for a, b in zip(mine["instances"].gt_masks.polygons, theirs["instances"].gt_masks.polygons):
                    assert all(np.array_equal(p, q) for p, q in zip(a, b))
    assert len(sizes) > 1 or not train or keys.get("INPUT__MIN_SIZE_TRAIN") == (0,)


def test_run_length_masks_too(record):
    grid = np.zeros((120, 160), np.uint8, order="F")
    grid[20:80, 30:90] = 1
    record["annotations"] = record["annotations"][:1]
    record["annotations"][0]["segmentation"] = masks.encode(grid)
    cfg = settings(MODEL__MASK_ON=True, INPUT__MASK_FORMAT="bitmask")
    np.random.seed(3)
    mine = FastMapper(cfg)(copy.deepcopy(record))
    np.random.seed(3)
    theirs = DatasetMapper(cfg)(copy.deepcopy(record))
    assert mine["instances"].gt_masks.tensor.any()
    assert torch.equal(mine["instances"].gt_masks.tensor, theirs["instances"].gt_masks.tensor)


def test_a_record_stays_as_it_was(record):
    before = copy.deepcopy(record)
    FastMapper(settings(MODEL__MASK_ON=True, INPUT__RANDOM_FLIP="horizontal"))(record)
    np.testing.assert_equal(record, before)


def test_real_photographs(real_data):
    cfg = settings(INPUT__MIN_SIZE_TRAIN=(500,))
    ours, stock = FastMapper(cfg), DatasetMapper(cfg)
    differing = []
    for folder in ("coco/train2017", "VOC2012/JPEGImages", "balloon/train2017"):
        for file in sorted((real_data / folder).glob("*.jpg"))[:12]:
            np.random.seed(0)
            mine = ours({"file_name": str(file)})["image"].int()
            np.random.seed(0)
            difference = (mine - stock({"file_name": str(file)})["image"].int()).abs()
            assert difference.max() <= 1, file
            differing.append(float(difference.float().mean()))
    assert len(differing) == 36 and np.mean(differing) < 0.01


def test_channels_first_of_any_view():
    image = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    for view in (image, image[:, ::-1], image[::-1], image[::-1, ::-1], image[1:4, 2:6], image[:, 1:6][:, ::-1]):
        made = channels_first(view)
        assert np.array_equal(made, view.transpose(2, 0, 1)) and made.flags.c_contiguous
    assert np.array_equal(channels_first(image[:, :, :1]), image[:, :, :1].transpose(2, 0, 1))


def test_the_mapper_is_chosen_by_name():
    cfg = settings()
    assert type(training_mapper(cfg)) is FastMapper
    cfg.INPUT.MAPPER_TRAIN = "detectron2"
    assert type(training_mapper(cfg)) is DatasetMapper
    cfg.INPUT.MAPPER_TRAIN = "pil"
    with pytest.raises(ValueError, match="INPUT.MAPPER_TRAIN: 'pil' is neither 'fast' nor 'detectron2'"):
        training_mapper(cfg)
