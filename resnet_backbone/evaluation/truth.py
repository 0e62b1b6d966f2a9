"""What is to be found in a data set, read from annotation files alone: COCO's JSON, or VOC's folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as masks

from resnet_backbone.engine.text import some
from resnet_backbone.evaluation.annotations import check_values
from resnet_backbone.evaluation.class_ids import ClassIds
from resnet_backbone.evaluation.coco import has_mask, object_masks, to_rle
from resnet_backbone.evaluation.coco_backends import IouType
from resnet_backbone.evaluation.json_files import kind_of, read_json
from resnet_backbone.evaluation.voc import VocTruth
from resnet_backbone.evaluation.voc_files import read_lines
from resnet_backbone.evaluation.voc_xml import VocAnnotation, read_annotation

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@dataclass(frozen=True)
class GroundTruth:
    """One data set's objects.

    Attributes:
        coco: images, categories and annotations in COCO's format; an annotation may be `difficult`, which
            COCO's metric, as in Detectron2, does not look at.
        classes: names by class index.
        category_ids: COCO's id of every class index.
        annotated: False where only images are known, as in COCO's test sets.
        notes: what was left out in reading them, one line each.
    """

    coco: dict[str, Any]
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    annotated: bool
    notes: tuple[str, ...] = ()

    @property
    def has_masks(self) -> bool:
        """Whether any object has a mask."""
        return any(has_mask(a.get("segmentation")) for a in self.coco.get("annotations") or ())

    def as_voc(self, iou_type: IouType = "bbox") -> VocTruth:
        """The same objects for VOC's metric; crowds count as difficult, and so does a box for want of a mask."""
        indices = {category: index for index, category in enumerate(self.category_ids)}
        images = {image["id"] for image in self.coco["images"]}
        everything = self.coco.get("annotations") or []
        annotations = [a for a in everything if a["category_id"] in indices and a["image_id"] in images]
        boxes = np.array([a["bbox"] for a in annotations], np.float64).reshape(-1, 4)
        difficult = np.array([bool(a.get("difficult") or a.get("iscrowd")) for a in annotations], bool)
        rles = None
        if iou_type == "segm":
            sizes = {image["id"]: (image.get("height"), image.get("width")) for image in self.coco["images"]}
            rles, boxed = object_masks(annotations, [sizes[a["image_id"]] for a in annotations])
            difficult |= boxed
        return VocTruth(
            [a["image_id"] for a in annotations],
            np.array([indices[a["category_id"]] for a in annotations], np.int64),
            np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
            difficult,
            rles,
        )


def read_truth(path: Path, split: str = "", class_ids: ClassIds | None = None) -> GroundTruth:
    """Ground truth of a COCO JSON file, or of a folder in VOC's layout; its images are not looked at.

    Args:
        path: the file or the folder.
        split: of a folder, the file ImageSets/Main/<split>.txt; empty takes every annotation where there are no
            such files.
        class_ids: of a folder, the classes to look for and their ids; see `read_voc_truth`.

    Raises:
        ValueError: one sentence with file, value and remedy for whatever cannot be read.
    """
    if path.is_dir():
        return read_voc_truth(path, split, class_ids)
    if split:
        raise ValueError(f"--split {split}: {path} is no folder in VOC's layout; a COCO file is taken whole")
    return read_coco_truth(path)


def read_coco_truth(file: Path) -> GroundTruth:
    """Ground truth of a COCO JSON file, as the file has it; without `annotations` there is nothing to measure.

    Raises:
        ValueError: no file, no JSON, not COCO's annotations, or an annotation without what the metrics need.
    """
    content = read_json(file)
    if isinstance(content, list):
        raise ValueError(
            f"{file}: holds a list, as results do, and no annotations; the order is RESULTS.json ANNOTATIONS"
        )
    for key in ("images", "categories"):
        entries = content.get(key) if isinstance(content, Mapping) else None
        ids = [one.get("id") if isinstance(one, Mapping) else None for one in entries or ()]
        if not isinstance(entries, list) or any(type(i) not in (int, str) for i in ids):
            raise ValueError(f"{file}: has no list of {key} with ids, as COCO's format has it; export it again")
        if len(set(ids)) < len(ids) or len({type(i) for i in ids}) > 1:
            raise ValueError(f"{file}: its {key} need ids of one kind, each once; two have one id, or ids are mixed")
    annotations = content.get("annotations")
    if annotations is not None and not isinstance(annotations, list):
        raise ValueError(f"{file}: its annotations are no list; export it again")
    sizes = {image["id"]: (image.get("height"), image.get("width")) for image in content["images"]}
    for number, one in enumerate(annotations or ()):
        _check_annotation(one, f"{file}: annotation {number}")
        if not one.get("bbox") and one["image_id"] in sizes:
            one["bbox"] = _box_of_mask(one, sizes[one["image_id"]], f"{file}: annotation {number}")
    notes = [note for key in ("image", "category") for note in _strays(content, key)]
    categories = sorted(content["categories"], key=lambda c: c["id"])
    names = [str(c.get("name", c["id"])) for c in categories]
    once = [n if names.count(n) == 1 else f"{n} (id {c['id']})" for n, c in zip(names, categories)]
    category_ids = tuple(c["id"] for c in categories)
    return GroundTruth(content, tuple(once), category_ids, annotations is not None, tuple(notes))


def _strays(content: Mapping[str, Any], key: str) -> list[str]:
    """One line on annotations of no image or of no category, which pycocotools leaves out without a word."""
    annotations = content.get("annotations") or ()
    known = [one["id"] for one in content["images" if key == "image" else "categories"]]
    there = set(known)
    stray = [one for one in annotations if one[f"{key}_id"] not in there]
    if not stray:
        return []
    first, other = stray[0][f"{key}_id"], ""
    if known and type(first) is not type(known[0]):
        rows = "images" if key == "image" else "categories"
        other = f"; the ids of its {rows} are {kind_of(known[0])}, as {known[0]!r}"
    return [
        f"{len(stray)} of {len(annotations)} annotations are left out, since the file has no {key} of their {key}_id "
        f"(first: {first!r}){other}"
    ]


def _check_annotation(one: Any, where: str) -> None:
    ids = [type(one.get(key)) for key in ("image_id", "category_id")] if isinstance(one, Mapping) else [None]
    if not all(kind in (int, str) for kind in ids):
        raise ValueError(f"{where} has no image_id or no category_id: {one!r:.60}")
    check_values(one, where)
    if not one.get("bbox") and not has_mask(one.get("segmentation")):
        raise ValueError(f"{where} has the bbox {one.get('bbox')!r:.60} and not four numbers (x, y, width, height)")


def _box_of_mask(one: Mapping[str, Any], size: tuple[Any, Any], where: str) -> list[float]:
    try:
        return [float(v) for v in masks.toBbox(to_rle(one["segmentation"], *size))]
    except ValueError as error:
        raise ValueError(f"{where} has no bbox, and {error}") from error


def read_voc_truth(root: Path, split: str = "", class_ids: ClassIds | None = None) -> GroundTruth:
    """Ground truth of a folder in VOC's layout: Annotations, and ImageSets/Main with the splits.

    Where no `class_ids` are given, the classes are VOC's twenty if the folder, whatever the split, has no others,
    else all that it has in alphabetical order; their ids count from 1. Where they are given, objects of other
    classes are left out.

    Raises:
        ValueError: a folder or split that is not there, annotations that are missing or unreadable.
    """
    inside = [root, *sorted(root.glob("VOC*"))]
    with_annotations = [folder for folder in inside if (folder / "Annotations").is_dir()]
    if not with_annotations:
        raise ValueError(f"{root}: has no folder Annotations; give a folder in VOC's layout, or a COCO JSON file")
    if len(with_annotations) > 1 and with_annotations[0] != root:
        raise ValueError(f"{root}: holds {', '.join(f.name for f in with_annotations)}; name one of them")
    root = with_annotations[0]
    there = sorted(name[:-4] for name in os.listdir(root / "Annotations") if name.endswith(".xml"))
    ids = read_split(root, split, there)
    known = set(there)
    missing = [i for i in ids if i not in known]
    if missing and len(missing) < len(ids):
        raise ValueError(
            f"{root}: {len(missing)} of the {len(ids)} images of split {split!r} have no file in Annotations (first: "
            f"{missing[0]}); add the files or take the names out of the split"
        )
    read = {} if missing else {i: read_annotation(root / "Annotations" / f"{i}.xml") for i in ids}
    if class_ids is None:
        rest = (read_annotation(root / "Annotations" / f"{i}.xml") for i in there if i not in read)
        names = {one.name for annotation in (*read.values(), *rest) for one in annotation.objects}
        classes = VOC_CLASSES if names <= set(VOC_CLASSES) else tuple(sorted(names))
        class_ids = ClassIds(dict(enumerate(classes, 1)), "")
    return _voc_truth(ids, read, class_ids)


def read_split(root: Path, split: str, annotated: Sequence[str]) -> list[str]:
    """Image ids of ImageSets/Main/<split>.txt, each once; all of `annotated` where nothing is named or there.

    Raises:
        ValueError: no such split, none named where there are some, or one that names no images, or their files.
    """
    folder = root / "ImageSets" / "Main"
    files = sorted(file.stem for file in folder.glob("*.txt"))
    if not split and not files:
        return list(annotated)
    if split not in files:
        said = f"--split {split}: there is none" if split else "name one with --split"
        raise ValueError(f"{folder}: {said}; the splits there are {', '.join(files) or 'none'}")
    known = set(annotated)
    lines = [line.strip() for line in read_lines(folder / f"{split}.txt") if line.strip()]
    if not lines:
        raise ValueError(f"{folder / split}.txt: names no images; add some, or take another split")
    # The devkit's files of one class have a second column; names with spaces have none.
    ids = list(dict.fromkeys(line if line in known else line.split()[0] for line in lines))
    files = [i for i in ids if i not in known and Path(i).stem in known]
    if files:
        raise ValueError(f"{folder / split}.txt: names files, as {files[0]!r}; name images without folder and ending")
    return ids


def _voc_truth(ids: Sequence[str], read: Mapping[str, VocAnnotation], class_ids: ClassIds) -> GroundTruth:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    by_name = {name: category for category, name in class_ids.names.items()}
    others: Counter[str] = Counter()
    for image in ids:
        height, width = (read[image].size if image in read else None) or (None, None)
        images.append({"id": image, "file_name": f"{image}.jpg", "height": height, "width": width})
        for one in read[image].objects if image in read else ():
            if one.name not in by_name:
                others[one.name] += 1
                continue
            x0, y0, x1, y1 = one.box
            annotations.append({
                "id": len(annotations) + 1, "image_id": image, "category_id": by_name[one.name],
                "bbox": [x0, y0, x1 - x0, y1 - y0], "difficult": one.difficult,
            })  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in class_ids.names.items()]
    content = {"images": images, "categories": categories, "annotations": annotations if read else None}
    notes = (f"{others.total()} objects of classes that {class_ids.source} does not name left out: {some(others)}",)
    return GroundTruth(
        content, tuple(class_ids.names.values()), tuple(class_ids.names), bool(read), notes if others else ()
    )
