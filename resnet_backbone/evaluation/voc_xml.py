"""Reads PASCAL VOC's annotation files, one XML per image, without trusting them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat


@dataclass(frozen=True)
class VocObject:
    """One object; the box is XYXY from 0, which is (xmin - 1, ymin - 1, xmax, ymax)."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True)
class VocAnnotation:
    """One file; size is (height, width), None where the file does not say."""

    size: tuple[int, int] | None
    objects: tuple[VocObject, ...]


def read_annotation(file: Path) -> VocAnnotation:
    """Reads one annotation file; `difficult`, `pose`, `truncated` and `size` may be missing.

    Raises:
        ValueError: broken XML, entities, an object without name or box, a coordinate that is no number.
        OSError: the file cannot be read.
    """
    root = _parse(file)
    return VocAnnotation(_size(root), tuple(_object(one, file) for one in root.findall("object")))


def _parse(file: Path) -> Element:
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = _refuse_entity  # entities that multiply, or that name other files
    try:
        parser.Parse(file.read_bytes(), True)
        root = builder.close()
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise ValueError(f"{file}: not readable as XML ({error}); restore the file or take it away") from error
    if root.tag != "annotation":
        raise ValueError(f"{file}: starts with <{root.tag}> and not with VOC's <annotation>; not an annotation file")
    return root


def _refuse_entity(name: str, *_: Any) -> NoReturn:
    raise ValueError(f"it declares the entity {name!r}, which annotations do not need")


def _size(root: Element) -> tuple[int, int] | None:
    try:
        height, width = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
    except (ValueError, OverflowError):
        return None
    return (height, width) if height > 0 and width > 0 else None


def _object(element: Element, file: Path) -> VocObject:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise ValueError(f"{file}: an <object> has no <name>; name its class or take it away")
    box = element.find("bndbox")
    if box is None:
        raise ValueError(f"{file}: an object of class {name!r} has no <bndbox>; add its box or take it away")
    x0, y0, x1, y1 = (_coordinate(box, side, name, file) for side in ("xmin", "ymin", "xmax", "ymax"))
    difficult = (element.findtext("difficult") or "").strip().lower() in ("1", "true")
    return VocObject(name, (x0 - 1, y0 - 1, x1, y1), difficult)


def _coordinate(box: Element, side: str, name: str, file: Path) -> float:
    text = box.findtext(side) or ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"{file}: {side} of an object of class {name!r} is {text.strip()!r} and not a number; correct it"
        )
    return value
