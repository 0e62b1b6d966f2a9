"""The data of a run: the user's own by DATA.*, or sets that Detectron2 knows, looked at before they are used."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from resnet_backbone.detection.data.catalog import check_class_count, register_user_data
from resnet_backbone.detection.data.checks import check_there
from resnet_backbone.detection.data.unannotated import allow_unannotated, is_voc, register_voc_2012_test
from resnet_backbone.detection.training.inputs import check_crop_of_masks


def use_data(cfg: CfgNode, explicit: Collection[str], *, test_only: bool = False) -> list[str]:
    """Settles DATASETS.TRAIN and .TEST, the class counts and the mask format; `cfg` is not frozen.

    The settled config names the classes, so that it can be used where the data are not.

    Args:
        explicit: keys that the user set.
        test_only: registered training sets need not be there.

    Returns:
        Lines for the user.

    Raises:
        ValueError: data that are not there or cannot be trained on, or a class count that contradicts them.
    """
    notes = []
    if cfg.DATA.ROOT:
        data = register_user_data(cfg)
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (data.train,), (data.test,)
        if data.mask_format:
            cfg.INPUT.MASK_FORMAT = data.mask_format
        notes += data.messages
        classes = data.classes
        cfg.DATA.CLASSES = list(classes)
    else:
        register_voc_2012_test()
        classes = tuple(_known_sets(cfg, test_only))
        notes += filter(None, map(allow_unannotated, cfg.DATASETS.TEST))
        for name in cfg.DATASETS.TEST:  # of training sets `training_records` looks
            check_there(DatasetCatalog.get(name))
    cfg.DATA.CATEGORY_IDS = category_ids(cfg.DATASETS.TRAIN[0], len(classes))
    if not test_only:
        check_crop_of_masks(cfg)
    changed = check_class_count(cfg, classes, explicit) if classes else None
    return notes + ([changed] if changed else [])


def category_ids(dataset: str, count: int) -> list[int]:
    """The ids that a data set's own files give its classes, by class index; 1, 2, ... where they give none."""
    indices = MetadataCatalog.get(dataset).get("thing_dataset_id_to_contiguous_id")
    return sorted(indices, key=indices.__getitem__) if indices else list(range(1, count + 1))


def _known_sets(cfg: CfgNode, test_only: bool) -> list[str]:
    """Class names of the registered sets, which must be there and agree."""
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATA.ROOT and DATASETS.TRAIN are empty: name your data's folder, or a registered data set")
    classes: list[str] = []
    for key, names in (("DATASETS.TRAIN", cfg.DATASETS.TRAIN), ("DATASETS.TEST", cfg.DATASETS.TEST)):
        for name in names:
            if name not in DatasetCatalog.list():
                near = difflib.get_close_matches(name, DatasetCatalog.list(), n=1, cutoff=0.3)
                raise ValueError(
                    f"{key}: no data set {name!r}{f'; did you mean {near[0]!r}?' if near else ''} "
                    "Your own data need no name: set DATA.ROOT"
                )
            if not test_only or key == "DATASETS.TEST":
                _check_there(key, name)
            mine = list(MetadataCatalog.get(name).get("thing_classes") or [])
            if classes and mine and mine != classes:
                raise ValueError(f"{key}: {name} has other classes than the first data set; use sets of one kind")
            classes = classes or mine
    return classes


def _check_there(key: str, name: str) -> None:
    root = os.getenv("DETECTRON2_DATASETS", "datasets")
    path = missing_path(name)
    if path:
        raise ValueError(
            f"{key}: {name}: no {path}; put the data set there, or set DETECTRON2_DATASETS (now {root!r}) to "
            "the folder that holds it"
        )


def missing_path(name: str) -> Path | None:
    """The first file or folder that a registered data set needs and that is not there; None where all are."""
    return next((path for path in _paths(name) if "://" not in str(path) and not path.exists()), None)


def _paths(name: str) -> Iterator[Path]:
    metadata = MetadataCatalog.get(name)
    for attribute in ("json_file", "image_root"):
        if metadata.get(attribute):
            yield Path(metadata.get(attribute))
    if is_voc(metadata):
        yield Path(metadata.dirname) / "ImageSets" / "Main" / f"{metadata.split}.txt"
