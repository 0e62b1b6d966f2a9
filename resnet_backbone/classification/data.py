"""Images in class folders: ROOT/train/<class>/* and ROOT/val/<class>/*."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnet_backbone.classification.config import TrainConfig

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"}

# Principal components of ImageNet's RGB values (0..1), as AlexNet's colour shift uses them.
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
_EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ClassFolders:
    """One split: paths and labels, sorted, so that a seed means the same everywhere."""

    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)


def find_splits(root: str | Path) -> tuple[ClassFolders, ClassFolders]:
    """Training and validation images under `root`.

    Raises:
        ValueError: a folder is missing or empty, there is one class only, or the splits differ in their classes.
    """
    train, val = (_find_split(Path(root) / name) for name in ("train", "val"))
    if train.classes != val.classes:
        missing, extra = set(train.classes) - set(val.classes), set(val.classes) - set(train.classes)
        odd = f"class {min(missing)!r} is in train only" if missing else f"class {min(extra)!r} is in val only"
        raise ValueError(f"{root}: train and val must have the same class folders, but {odd}")
    return train, val


def _find_split(folder: Path) -> ClassFolders:
    layout = "expected class folders with images, as train/<class>/*.jpg and val/<class>/*.jpg"
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; {layout}")
    classes = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))
    if not classes:
        raise ValueError(f"{folder} has no class folders; {layout}")
    if len(classes) == 1:
        raise ValueError(f"{folder} has only the class {classes[0]!r}: a classifier needs at least two")
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(path for path in (folder / name).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not found:
            raise ValueError(f"{folder / name} has no images ({', '.join(sorted(SUFFIXES))})")
        paths += found
        labels += [label] * len(found)
    return ClassFolders(classes, tuple(paths), tuple(labels))


def augment(pixels: Pixels, config: TrainConfig, rng: np.random.Generator) -> Pixels:
    """A random view, size,size,3."""
    height, width = pixels.shape[:2]
    if config.augmentation == "resized_crop":
        box = _part_of_area(height, width, config, rng)
    else:
        box = _square_at_scale(height, width, config, rng)
    view = _resize(pixels, box, config.size)
    if config.flip and rng.random() < 0.5:
        view = view[:, ::-1]
    if config.colour_shift:
        shift = _EIGENVECTORS @ (_EIGENVALUES * rng.normal(0, config.colour_shift, 3)) * 255
        view = np.clip(view + shift, 0, 255).astype(np.uint8)
    return view


def _part_of_area(height: int, width: int, config: TrainConfig, rng: np.random.Generator) -> tuple[float, ...]:
    """Left, top, right, bottom of a part with a share of the area from `scale` and a stretch within `ratio`."""
    for _ in range(10):
        area = height * width * rng.uniform(*config.scale)
        stretch = math.exp(rng.uniform(-1, 1) * math.log(config.ratio))
        w, h = math.sqrt(area * stretch), math.sqrt(area / stretch)
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return left, top, left + w, top + h
    side = min(height, width)
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


def _square_at_scale(height: int, width: int, config: TrainConfig, rng: np.random.Generator) -> tuple[float, ...]:
    """The square that is `size` pixels wide once the shorter side is one drawn from `shorter_sides` (Sec. 3.4)."""
    side = min(height, width) * config.size / rng.integers(config.shorter_sides[0], config.shorter_sides[1] + 1)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    return left, top, left + side, top + side


def _resize(pixels: Pixels, box: tuple[float, ...], side: int) -> Pixels:
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box))  # type: ignore[arg-type]
