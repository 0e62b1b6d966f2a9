"""Keys of training images, and others of numbers or names, that Detectron2 would refuse within the run."""

from __future__ import annotations

from importlib.util import find_spec

from detectron2.config import CfgNode

from resnet_backbone.detection.training.config import value_of

CHOICES = {
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
    "INPUT.RANDOM_FLIP": ("horizontal", "vertical", "none"),
    "INPUT.CROP.TYPE": ("relative", "relative_range", "absolute", "absolute_range"),
}
AT_LEAST_1 = ("INPUT.MAX_SIZE_TRAIN", "MODEL.FPN.OUT_CHANNELS")


def check_inputs(cfg: CfgNode) -> None:
    """Looks at sizes, sampling, flips and crops of training images.

    Raises:
        ValueError: names the first key that cannot be, its value and the remedy.
    """
    for key, names in CHOICES.items():
        if value_of(cfg, key) not in names:
            raise ValueError(f"{key}: {value_of(cfg, key)!r}: use one of {', '.join(names)}")
    for key in AT_LEAST_1:
        if value_of(cfg, key) < 1:
            raise ValueError(f"{key}: {value_of(cfg, key)}: give at least 1")
    _check_sizes(cfg)
    if cfg.INPUT.CROP.ENABLED:
        _check_crop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE)


def check_crop_of_masks(cfg: CfgNode) -> None:
    """Detectron2 crops polygons with shapely; the data have settled INPUT.MASK_FORMAT.

    Raises:
        ValueError: it is needed and not installed.
    """
    needed = cfg.INPUT.CROP.ENABLED and cfg.MODEL.MASK_ON and cfg.INPUT.MASK_FORMAT == "polygon"
    if needed and find_spec("shapely") is None:
        raise ValueError("INPUT.CROP.ENABLED: True, but to crop polygons needs shapely: pip install shapely")


def _check_sizes(cfg: CfgNode) -> None:
    sizes, sampling = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    if not sizes or min(sizes) < 0:
        raise ValueError(f"INPUT.MIN_SIZE_TRAIN: {sizes}: give sizes in pixels, as (640, 800), or (0,) to leave them")
    if sampling == "range" and (len(sizes) != 2 or sizes[0] > sizes[1]):
        raise ValueError(
            f"INPUT.MIN_SIZE_TRAIN: {sizes}, but MIN_SIZE_TRAIN_SAMPLING range draws between two sizes: give the "
            "smaller and the larger, or set INPUT.MIN_SIZE_TRAIN_SAMPLING choice"
        )


def _check_crop(kind: str, size: list[float]) -> None:
    absolute = kind.startswith("absolute")
    fits = all(isinstance(v, int) and v > 0 for v in size) if absolute else all(0 < v <= 1 for v in size)
    if len(size) != 2 or not fits:
        what = "two whole numbers of pixels" if absolute else "two shares, above 0 and up to 1"
        raise ValueError(f"INPUT.CROP.SIZE: {size}, but INPUT.CROP.TYPE {kind} needs {what}")
    if kind == "absolute_range" and size[0] > size[1]:
        raise ValueError(f"INPUT.CROP.SIZE: {size}: INPUT.CROP.TYPE absolute_range needs the smaller size first")
