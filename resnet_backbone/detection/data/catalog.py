"""Registers the user's own data, in VOC's layout or COCO's JSON, by the config keys `DATA.*` alone."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from resnet_backbone.detection.data.user import DataSpec, DataSplit, load_user_data
from resnet_backbone.engine.text import some


@dataclass(frozen=True)
class UserData:
    """What was registered.

    Attributes:
        train: name for `DATASETS.TRAIN`.
        test: name for `DATASETS.TEST`.
        classes: names by class index.
        messages: what was found and decided, one line each.
        mask_format: what `INPUT.MASK_FORMAT` must be: "polygon", or "bitmask" where objects have run
            lengths; empty where no mask is asked for.
    """

    train: str
    test: str
    classes: tuple[str, ...]
    messages: list[str]
    mask_format: str = ""


_registered: dict[str, DataSpec] = {}


def register_user_data(cfg: CfgNode) -> UserData:
    """Reads, checks and registers the data that `DATA.*` describes; the same again does nothing new.

    The names are `DATA.NAME` (else the folder's or the file's name) with `_train` and `_test`, so every
    process of a run registers the same. Other data under a name of ours take its place.

    Raises:
        ValueError: one sentence with file or key, value and remedy for whatever cannot be trained on.
    """
    spec = _spec(cfg)
    data = load_user_data(spec)
    names = (f"{spec.name}_train", f"{spec.name}_test")
    for name, split in zip(names, (data.train, data.test)):
        _register(name, spec, split, data.classes)
    return UserData(*names, data.classes, list(data.notes), data.mask_format)


def check_class_count(cfg: CfgNode, classes: Sequence[str], explicit: Collection[str]) -> str | None:
    """Sets the class counts of `cfg` (not frozen) to the data's, and says so; None where they were right.

    Args:
        cfg: the config; which of its counts matters depends on `MODEL.META_ARCHITECTURE`.
        classes: the data's class names.
        explicit: the keys that the user set himself, in a config file or on the command line.

    Raises:
        ValueError: the user set the count that matters, and to another number.
    """
    one_stage = cfg.MODEL.META_ARCHITECTURE in ("RetinaNet", "FCOS")
    message = None
    for name, matters in (("RETINANET", one_stage), ("ROI_HEADS", not one_stage)):
        node, key = cfg.MODEL[name], f"MODEL.{name}.NUM_CLASSES"
        count, node_count = len(classes), node.NUM_CLASSES
        if matters and count != node_count:
            if key in explicit:
                raise ValueError(
                    f"{key}: {node_count}, but the data have {count} classes ({some(classes)}); take the key out "
                    "to have it set from the data, or choose the classes with DATA.CLASSES"
                )
            message = f"{key} set from {node_count} to the data's {count}"
        node.NUM_CLASSES = count
    return message


def _spec(cfg: CfgNode) -> DataSpec:
    data = cfg.DATA
    kind = str(data.FORMAT).lower()
    if kind not in ("voc", "coco"):
        raise ValueError(f"DATA.FORMAT: {data.FORMAT!r} is neither 'voc' (folders of XML) nor 'coco' (JSON files)")
    if cfg.MODEL.KEYPOINT_ON:
        raise ValueError(
            "MODEL.KEYPOINT_ON: True, but keypoints of DATA.* are not read; set it to False, or register the data with "
            "Detectron2 and name them in DATASETS.TRAIN"
        )
    root = find_root(data.ROOT or ".")
    if kind == "coco" and not data.TRAIN:
        raise ValueError("DATA.TRAIN: is empty; name the JSON file to train on, from DATA.ROOT")
    name = data.NAME or (root.resolve().name if kind == "voc" else Path(data.TRAIN).stem)
    return DataSpec(
        format=kind,
        name=re.sub(r"[^\w.-]+", "_", name),
        root=root,
        train=data.TRAIN,
        test=data.TEST,
        train_images=data.TRAIN_IMAGES,
        test_images=data.TEST_IMAGES,
        classes=tuple(data.CLASSES),
        seed=int(data.SPLIT_SEED),
        fraction=float(data.TEST_FRACTION),
        masks=bool(cfg.MODEL.MASK_ON),
    )


def find_root(text: str) -> Path:
    """DATA.ROOT: a folder from the working directory, else from $DETECTRON2_DATASETS.

    Raises:
        ValueError: it is in neither.
    """
    root, datasets = Path(text).expanduser(), Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()
    for folder in (root, datasets / root):
        if folder.is_dir():
            return folder
    raise ValueError(
        f"DATA.ROOT: no folder {root}, nor {datasets / root} ($DETECTRON2_DATASETS); give the folder with the data"
    )


def _register(name: str, spec: DataSpec, split: DataSplit, classes: tuple[str, ...]) -> None:
    if name in DatasetCatalog.list():
        if _registered.get(name) == spec:
            return
        if name not in _registered:
            raise ValueError(f"DATA.NAME: {name!r} is already a data set of another origin; choose another name")
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, lambda: list(split.records))
    MetadataCatalog.get(name).set(thing_classes=list(classes), evaluator_type="coco", **split.metadata)
    _registered[name] = spec
