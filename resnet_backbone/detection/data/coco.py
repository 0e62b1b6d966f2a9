"""Reads data in COCO's JSON format into Detectron2's records, and says what is wrong with it."""

from __future__ import annotations

import math
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode
from pycocotools import mask as masks

from resnet_backbone.detection.data.faults import Faults
from resnet_backbone.evaluation.json_files import parse_json
from resnet_backbone.evaluation.rle import check_rle_counts

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
    try:
        content = parse_json(file.read_bytes())
    except OSError as error:
        raise ValueError(
            f"{file}: {error.strerror}; DATA.TRAIN and DATA.TEST name JSON files, from DATA.ROOT"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not readable as JSON ({error}); restore or export it again") from error
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
    annotation: Record = {
        "iscrowd": int(bool(one.get("iscrowd", 0))),
        "bbox": _box(one, where),
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
    area = one.get("area")
    if isinstance(area, (int, float)):
        if not _is_finite(area):
            raise ValueError(f"{where} has the area {area!r:.40}, which is no number; correct it")
        annotation["area"] = area
    return annotation


def _box(one: Mapping[str, Any], where: str) -> list[float]:
    box = one.get("bbox")
    numbers = isinstance(box, list) and all(map(_is_finite, box))
    if not numbers or len(box) != 4:  # type: ignore[arg-type]
        raise ValueError(f"{where} has the bbox {box!r:.60} and not four numbers (x, y, width, height)")
    return list(box)  # type: ignore[arg-type]


def _mask(segmentation: Any, record: Record, where: str) -> Any:
    """Polygons of three points and more, or compressed run lengths; empty where nothing is left."""
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation, record, where)
    if not isinstance(segmentation, list) or any(not _is_polygon(p) for p in segmentation):
        raise ValueError(f"{where} has a segmentation that is neither a list of lists of numbers nor run lengths")
    return [polygon for polygon in segmentation if len(polygon) >= 6 and len(polygon) % 2 == 0]


def _is_polygon(polygon: Any) -> bool:
    return isinstance(polygon, list) and all(map(_is_finite, polygon))


def _is_finite(value: Any) -> bool:
    """A number that a float can hold, which JSON's whole numbers need not be."""
    return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max


def _run_lengths(rle: Mapping[str, Any], record: Record, where: str) -> dict[str, Any]:
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
        raise ValueError(f"{where} has a mask in run lengths without its size (height, width)")
    image = [record["height"] or size[0], record["width"] or size[1]]
    if size != image:
        raise ValueError(f"{where} has a mask of size {size} on an image of {image} (height, width); correct one")
    if isinstance(counts, list):
        if not all(isinstance(n, int) and n >= 0 for n in counts) or sum(counts) != size[0] * size[1]:
            raise ValueError(f"{where} has a mask whose run lengths do not add up to its {size[0]} x {size[1]} pixels")
        return masks.frPyObjects({"size": size, "counts": counts}, *size)
    if not isinstance(counts, str):
        raise ValueError(f"{where} has a mask without run lengths (`counts`)")
    try:
        check_rle_counts(counts, *size)
    except ValueError as error:
        raise ValueError(f"{where} has a mask with {error}") from error
    return {"size": size, "counts": counts}
