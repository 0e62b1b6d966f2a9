"""Reads data in COCO's JSON format into Detectron2's records, and says what is wrong with it."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode
from pycocotools import mask as masks

from resnet_backbone.detection.data.faults import Faults
from resnet_backbone.evaluation.annotations import check_values
from resnet_backbone.evaluation.json_files import read_json

Record = dict[str, Any]


@dataclass
class CocoData:
    """One JSON file.

    Attributes:
        records: as Detectron2's `load_coco_json` makes them, sorted by image id, but `category_id` is still
            the class's name, height and width are None where the file does not say, and every annotation
            keeps its `area`. Without `annotations` in the file the records have none either.
        category_ids: the file's id of every class name, by rising id.
        as_is: the file says everything that the records say, so that COCO's own tools read the same from it.
        notes: what to tell the user.
    """

    records: list[Record]
    category_ids: dict[str, int]
    as_is: bool = True
    notes: list[str] = field(default_factory=list)


def load_coco(file: Path, image_root: Path) -> CocoData:
    """Reads boxes, masks (polygons, run lengths), crowds and classes; any category ids, with gaps or from 0.

    Annotations without their image are left out and counted, as pycocotools does. An annotation with `ignore`
    set, or whose mask has fewer than three points everywhere, keeps its box.

    Raises:
        ValueError: broken JSON, or entries without what COCO's format asks for: a DataError with one sentence for
            every annotation that is wrong.
    """
    content, faults = _read(file), Faults()
    names = _class_names(content["categories"], file)
    data = CocoData([], {name: identity for identity, name in sorted(names.items())})
    objects: dict[Any, list[Mapping[str, Any]]] = {_image_id(image, file): [] for image in content["images"]}
    if len(objects) < len(content["images"]) or len({type(i) for i in objects}) > 1:
        raise ValueError(f"{file}: its images need ids of one kind, each once; two have one id, or ids are mixed")
    stray: list[Mapping[str, Any]] = []
    for one in content["annotations"] or []:
        image_id = one.get("image_id")
        known = isinstance(image_id, (int, str)) and image_id in objects
        (objects[image_id] if known else stray).append(one)
    if stray:
        first = f"(first: image {stray[0].get('image_id')!r:.40})"
        data.notes.append(f"{file.name}: {len(stray)} annotations without their image left out {first}")
    counted: Counter[str] = Counter()
    for image in sorted(content["images"], key=lambda i: i["id"]):
        record = _record(image, image_root)
        if content["annotations"] is not None:
            found = objects[image["id"]]
            made = [faults.tried(_annotation, one, record, names, counted, file) for one in found]
            record["annotations"] = [annotation for annotation in made if annotation is not None]
        data.as_is = data.as_is and record["height"] is not None
        data.records.append(record)
    faults.end()
    data.notes += [f"{file.name}: {n} {what}" for what, n in counted.items()]
    data.as_is = data.as_is and not counted
    return data


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"{file}: No such file; DATA.TRAIN and DATA.TEST name JSON files, from DATA.ROOT")
    content = read_json(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file}: holds no object with images, categories and annotations, as COCO's format has it")
    for key in ("images", "categories", "annotations"):
        given = content.setdefault(key, None)
        if not isinstance(given, list) and (given is not None or key != "annotations"):
            raise ValueError(f"{file}: has no list of {key}, as COCO's format has it; export it again")
    entries = [*content["images"], *content["categories"], *(content["annotations"] or [])]
    odd = [e for e in entries if not isinstance(e, dict)]
    if odd:
        raise ValueError(f"{file}: {odd[0]!r:.60} stands where COCO's format has an object in braces")
    return content


def _class_names(categories: Sequence[Mapping[str, Any]], file: Path) -> dict[int, str]:
    """Names by id; equal names, which some exporters write, get their id behind them."""
    ids = [c.get("id") for c in categories]
    whole = all(isinstance(i, int) for i in ids)
    if not categories or not whole or len(set(ids)) < len(ids):
        raise ValueError(f"{file}: its categories need whole numbers as ids, each once; it has {ids[:10]}")
    if any(c.get("name") in (None, "") for c in categories):
        raise ValueError(f"{file}: a category has no name; every class needs one")
    names = Counter(str(c["name"]) for c in categories)
    return {c["id"]: str(c["name"]) + f" (id {c['id']})" * (names[str(c["name"])] > 1) for c in categories}


def _image_id(image: Mapping[str, Any], file: Path) -> Any:
    if not isinstance(image.get("id"), (int, str)) or not isinstance(image.get("file_name"), str):
        raise ValueError(f"{file}: an image needs id and file_name; found {dict(image)!r:.80}")
    return image["id"]


def _record(image: Mapping[str, Any], image_root: Path) -> Record:
    return {
        "file_name": os.path.join(image_root, image["file_name"]),
        "height": _side(image.get("height")),
        "width": _side(image.get("width")),
        "image_id": image["id"],
    }


def _side(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and 0 < value < math.inf else None


def _annotation(
    one: Mapping[str, Any], record: Record, names: Mapping[int, str], counted: Counter[str], file: Path
) -> Record:
    where = f"{file}: annotation {one.get('id')} of image {record['image_id']}"
    category = one.get("category_id")
    if not isinstance(category, int) or category not in names:
        raise ValueError(f"{where} has category_id {category!r:.40}, which is not among the file's categories")
    check_values(one, where)
    if not one.get("bbox"):
        raise ValueError(f"{where} has the bbox {one.get('bbox')!r:.60} and not four numbers (x, y, width, height)")
    annotation: Record = {
        "iscrowd": int(one.get("iscrowd") or 0),
        "bbox": list(one["bbox"]),
        "category_id": names[category],
        "bbox_mode": BoxMode.XYWH_ABS,
    }
    if one.get("ignore") and not annotation["iscrowd"]:
        annotation["iscrowd"] = 1
        counted["objects marked `ignore` are taken as crowds"] += 1
    segmentation = one.get("segmentation")
    if segmentation:
        mask = _mask(segmentation, record, where)
        if mask:
            annotation["segmentation"] = mask
        else:
            counted["masks with fewer than three points: only their boxes are used"] += 1
    if one.get("area") is not None:
        annotation["area"] = one["area"]
    return annotation


def _mask(segmentation: Any, record: Record, where: str) -> Any:
    """Of a checked mask: polygons of three points and more, or compressed run lengths; empty where nothing is left."""
    if isinstance(segmentation, list):
        return [polygon for polygon in segmentation if len(polygon) >= 6 and len(polygon) % 2 == 0]
    size, counts = segmentation["size"], segmentation["counts"]
    image = [record["height"] or size[0], record["width"] or size[1]]
    if size != image:
        raise ValueError(f"{where} has a mask of size {size} on an image of {image} (height, width); correct one")
    plain = {"size": size, "counts": counts}
    return masks.frPyObjects(plain, *size) if isinstance(counts, list) else plain
