"""Writes the generated data set: the same pictures as COCO JSON, in VOC's layout, and as class folders of crops.

ROOT/JPEGImages/*.jpg                       the pictures of both splits
ROOT/annotations/instances_{train,val}.json COCO, masks as RLE, crowds as `iscrowd`
ROOT/Annotations/*.xml                      VOC, crowds and hardly visible objects as `difficult`
ROOT/ImageSets/Main/{train,val}.txt
ROOT/crops/{train,val}/<class>/*.jpg        one crop for every object of which at least half is to be seen
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from resnet_backbone.demo.scenes import CLASSES, Image, Scene, SceneObject, draw_scene

_MARKER = "shapes.json"
_VERSION = 2
_SPLITS = ("train", "val")


@dataclass(frozen=True)
class ShapesConfig:
    """What is generated; two equal configurations give the same pictures.

    Attributes:
        train: number of training scenes.
        val: number of held-out scenes, drawn from another random stream.
        size: side of a scene in pixels.
        crop_size: side of a crop in pixels.
        seed: everything follows from it.
    """

    train: int = 2400
    val: int = 200
    size: int = 128
    crop_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.train < 1 or self.val < 1:
            raise ValueError(f"train={self.train}, val={self.val}: both splits need at least one scene")
        if self.size < 64 or self.crop_size < 16:
            raise ValueError(f"size={self.size}, crop_size={self.crop_size}: at least 64 and 16 pixels are needed")


def write_shapes(root: Path, config: ShapesConfig | None = None, *, workers: int = 2) -> bool:
    """Writes the data set under `root`; returns False if the same one is there already.

    Raises:
        ValueError: `root` holds something else.
    """
    config = config or ShapesConfig()
    wanted = {"version": _VERSION, "classes": list(CLASSES), **asdict(config)}
    marker = root / _MARKER
    if marker.exists() and json.loads(marker.read_text()) == wanted:
        return False
    if root.exists() and any(root.iterdir()):
        raise ValueError(f"{root} is not empty and holds another data set: remove it or choose another folder")
    # Written beside it and renamed at the end: what stands under `root` is always whole.
    partial = root.with_name(root.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    crops = [f"crops/{split}/{name}" for split in _SPLITS for name in CLASSES]
    for folder in ("JPEGImages", "Annotations", "annotations", "ImageSets/Main", *crops):
        (partial / folder).mkdir(parents=True)
    for split in _SPLITS:
        _write_split(partial, split, config, workers)
    (partial / _MARKER).write_text(json.dumps(wanted, indent=1) + "\n")
    partial.replace(root)
    return True


def _write_split(root: Path, split: str, config: ShapesConfig, workers: int) -> None:
    count = config.train if split == "train" else config.val
    jobs = [(root, split, index, config) for index in range(count)]
    if workers > 1 and count > 50:
        # A forked worker starts at once, where another would first import all that the caller has loaded.
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(workers, context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
            entries = list(pool.map(_write_scene, jobs, chunksize=25))
    else:
        entries = [_write_scene(job) for job in jobs]
    _write_coco(root / "annotations" / f"instances_{split}.json", entries)
    names = "".join(_name(split, index) + "\n" for index in range(count))
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text(names)


def _name(split: str, index: int) -> str:
    return f"{split}_{index:05d}"


def scene(config: ShapesConfig, split: str, index: int) -> Scene:
    """Scene number `index` of a split: it depends on nothing but the seed and these two."""
    return draw_scene(np.random.default_rng([config.seed, _SPLITS.index(split), index]), config.size)


def _write_scene(job: tuple[Path, str, int, ShapesConfig]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Draws and writes one scene with its XML and crops; returns its COCO entry and annotations without ids."""
    root, split, index, config = job
    drawn, name = scene(config, split, index), _name(split, index)
    _write_jpeg(root / "JPEGImages" / f"{name}.jpg", drawn.image)
    annotations = [_annotation(thing) for thing in drawn.objects]
    _write_voc(root / "Annotations" / f"{name}.xml", f"{name}.jpg", drawn, annotations)
    for number, (thing, annotation) in enumerate(zip(drawn.objects, annotations, strict=True)):
        if thing.visible >= 0.5 and not thing.crowd:
            crop = cut(drawn.image, annotation["bbox"], config.crop_size)
            _write_jpeg(root / "crops" / split / CLASSES[thing.label] / f"{name}_{number}.jpg", crop)
    height, width = drawn.image.shape[:2]
    return {"file_name": f"{name}.jpg", "height": height, "width": width}, annotations


def cut(image: Image, box: list[float], size: int) -> Image:
    """A square crop round a box (x, y, width, height) with a quarter of context, scaled to `size`."""
    x, y, width, height = box
    side = max(1.25 * max(width, height), 16.0)
    left, top = x + width / 2 - side / 2, y + height / 2 - side / 2
    scale = size / side
    # Pixel centres: output pixel i is the source position (i + 0.5) / scale - 0.5 + left.
    shift = np.array([[scale, 0, (0.5 - left) * scale - 0.5], [0, scale, (0.5 - top) * scale - 0.5]])
    if scale < 1:
        image = cv2.GaussianBlur(image, (0, 0), 0.4 / scale)  # type: ignore[assignment]
    grey = (124.0, 116.0, 104.0)  # what lies outside the picture
    return np.asarray(cv2.warpAffine(image, shift, (size, size), flags=cv2.INTER_LINEAR, borderValue=grey), np.uint8)


def _write_jpeg(path: Path, image: Image) -> None:
    good, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 93])
    assert good
    path.write_bytes(data.tobytes())


def _annotation(thing: SceneObject) -> dict[str, Any]:
    """COCO's fields; box, area and mask are of the visible part."""
    rle = coco_mask.encode(np.asfortranarray(thing.mask.astype(np.uint8)))
    return {
        "category_id": thing.label + 1,
        "bbox": [float(v) for v in coco_mask.toBbox(rle)],
        "area": float(coco_mask.area(rle)),
        "iscrowd": int(thing.crowd),
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
    }


def _write_coco(path: Path, entries: Iterable[tuple[dict[str, Any], list[dict[str, Any]]]]) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (image, things) in enumerate(entries, start=1):
        images.append({"id": image_id, **image})
        annotations += [{"id": len(annotations) + n, "image_id": image_id, **a} for n, a in enumerate(things, start=1)]
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]
    data = {"info": {"description": "generated shapes"}, "images": images, "annotations": annotations}
    path.write_text(json.dumps({**data, "categories": categories}))


def _write_voc(path: Path, file_name: str, drawn: Scene, annotations: list[dict[str, Any]]) -> None:
    height, width, depth = drawn.image.shape
    root = ElementTree.Element("annotation")
    _add(root, folder="shapes", filename=file_name, segmented=0)
    _add(ElementTree.SubElement(root, "size"), width=width, height=height, depth=depth)
    for thing, annotation in zip(drawn.objects, annotations, strict=True):
        x, y, w, h = (int(v) for v in annotation["bbox"])
        element = ElementTree.SubElement(root, "object")
        _add(element, name=CLASSES[thing.label], pose="Unspecified", truncated=int(thing.truncated))
        _add(element, occluded=int(thing.visible < 0.95), difficult=int(thing.crowd))
        # VOC counts pixels from 1 and both corners belong to the box.
        _add(ElementTree.SubElement(element, "bndbox"), xmin=x + 1, ymin=y + 1, xmax=x + w, ymax=y + h)
    ElementTree.indent(root)
    path.write_bytes(ElementTree.tostring(root) + b"\n")


def _add(parent: ElementTree.Element, **fields: object) -> None:
    for name, value in fields.items():
        ElementTree.SubElement(parent, name).text = str(value)
