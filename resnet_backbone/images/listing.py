"""Image files in folders, and which folders are classes.

Names that begin with a dot are passed over: folders that are not whole yet, and what systems and editors leave.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"}


def is_image(name: str) -> bool:
    """Whether a file is called like one."""
    return name[0] != "." and os.path.splitext(name)[1].lower() in SUFFIXES


def class_names(folder: str | Path) -> tuple[str, ...]:
    """Folders in a folder, sorted: label k is the k-th."""
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.name[0] != "." and entry.is_dir()))


def validation_folder(folder: str | Path) -> Path:
    """`folder`/val where there is one, for train/ and val/ beside each other are no classes; else `folder` itself."""
    below = Path(folder) / "val"
    return below if below.is_dir() else Path(folder)


def loose_images(folder: str | Path) -> list[str]:
    """Images in a folder itself, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if is_image(entry.name) and not entry.is_dir())


def image_names(folder: str | Path) -> list[str]:
    """Images in a folder and in those below it (not in links to folders), "/" between their parts, sorted by them."""
    return sorted(_below(str(folder), ""), key=lambda name: name.split("/"))


def has_images(folder: str | Path) -> bool:
    """Whether `image_names` would find any; it looks no further than the first."""
    return any(True for _ in _below(str(folder), ""))


def _below(folder: str, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] == ".":
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path, f"{prefix}{entry.name}/")
            elif is_image(entry.name):
                yield prefix + entry.name
