"""What category ids of results mean where the annotations do not say: VOC's folders have names and no ids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.text import some
from resnet_backbone.evaluation.json_files import read_json

CATEGORIES_FILE = "coco_categories.json"
"""Beside COCO results, in a list of {"id": ..., "name": ...}: what their category ids are."""


@dataclass(frozen=True)
class ClassIds:
    """Class names by category id, by rising ids, and who says so."""

    names: dict[int, str]
    source: str


def write_class_ids(folder: Path, ids: Sequence[int], names: Sequence[str]) -> None:
    """Writes `CATEGORIES_FILE`; ids and names by class index."""
    content = [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)]
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    write_atomically(folder / CATEGORIES_FILE, lambda file: file.write(text.encode()))


def find_class_ids(results: Path, annotations: Path, classes: Sequence[str] = ()) -> ClassIds | None:
    """From the command line, else from the file beside JSON results; None where neither says anything.

    Args:
        results: JSON results, VOC's text files, or their folder.
        annotations: COCO's say themselves what ids mean.
        classes: names in the order of category ids from 1.

    Raises:
        ValueError: `classes` for COCO's annotations, a name twice, or a file that is no list of ids and names.
    """
    if classes and not annotations.is_dir():
        raise ValueError(f"--classes: {annotations} is no folder in VOC's layout; a COCO file says what its ids mean")
    if len(set(classes)) < len(classes):
        raise ValueError(f"--classes {' '.join(classes)}: a name stands twice; give each once, in the order of ids")
    if classes:
        return ClassIds(dict(enumerate(classes, 1)), "--classes")
    file = results.parent / CATEGORIES_FILE
    if not annotations.is_dir() or not is_json(results) or not file.is_file():
        return None
    content = read_json(file)
    if not isinstance(content, list) or not content or not all(map(_is_category, content)):
        raise ValueError(f"{file}: holds no list of categories with id and name; take it away, or give --classes")
    names = {one["id"]: one["name"] for one in content}
    if len(names) < len(content) or len(set(names.values())) < len(content):
        raise ValueError(f"{file}: an id or a name stands twice; take it away, or give --classes")
    return ClassIds(dict(sorted(names.items())), str(file))


def how_read(class_ids: ClassIds | None, category_ids: Sequence[int], classes: Sequence[str]) -> str:
    """One line on what the category ids of results for a VOC folder were taken for."""
    if class_ids:
        what = f"as {class_ids.source} says"
    else:
        what = "as places in the alphabetical order of VOC's or the folder's classes (--classes says others)"
    return f"category ids are read {what}: {some([f'{i} {name}' for i, name in zip(category_ids, classes)], 6)}"


def is_json(results: Path) -> bool:
    """Whether results have category ids; VOC's text files have class names."""
    return results.suffix != ".txt" and not results.is_dir()


def _is_category(one: Any) -> bool:
    return isinstance(one, Mapping) and type(one.get("id")) is int and isinstance(one.get("name"), str)
