"""Images in class folders: ROOT/train/<class>/* and ROOT/val/<class>/*."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"}


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
