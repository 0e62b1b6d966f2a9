"""Places short texts on a picture: each at its box, inside the picture, and not over one another."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Place = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom outside."""

SMALLEST = 10
"""Height in pixels of the smallest letters that can be read."""
MOST_HIDDEN = 0.25
"""A label that would cover others with more than this share of itself is left out; its box keeps its colour."""


def draw_labels(picture: NDArray[np.uint8], labels: Sequence[tuple[str, Place, Colour]]) -> NDArray[np.uint8]:
    """The picture with a text for each box, the first of them first: where all is full, the last go without.

    Args:
        picture: H,W,3 RGB.
        labels: text, the box that it belongs to, and the ground it is written on.
    """
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas, "RGBA")
    height, width = picture.shape[:2]
    font = font_of(max(SMALLEST, round(math.sqrt(height * width) / 42)))
    taken: list[Place] = []
    boxes = [box for _, box, _ in labels]
    for text, box, colour in labels:
        text = shortened(text, font, width)
        wide, high = extent(text, font)
        small = [other for other in boxes if _shared(other, other) < 4 * wide * high]
        place = free_place((wide, high), box, taken, small, (width, height))
        if sum(_shared(place, other) for other in taken) > MOST_HIDDEN * wide * high:
            continue
        taken.append(place)
        pen.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=(*colour, 225))
        middle = ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2)
        pen.text(middle, text, font=font, fill=_ink_on(colour), anchor="mm")
    return np.array(canvas)


def free_place(
    size: tuple[int, int], box: Place, taken: Sequence[Place], small: Sequence[Place], picture: tuple[int, int]
) -> Place:
    """Over the box, in it, under it or beside it: where it hides least, always in the picture.

    Args:
        size: width and height of the label.
        box: what it belongs to.
        taken: labels that are there already.
        small: objects that a label would hide altogether; better on them than on another label.
        picture: width and height.
    """
    wide, high = size
    left, top, right, bottom = box
    over, under = top - high, bottom
    corners = [(left, over), (right - wide, over), (left, top), (left, under), (right - wide, under)]
    corners += [(left, bottom - high), (right, top), (left - wide, top), (right, bottom - high)]
    places = []
    for x, y in corners:
        x = min(max(x, 0), max(picture[0] - wide, 0))
        y = min(max(y, 0), max(picture[1] - high, 0))
        places.append((x, y, min(x + wide, picture[0]), min(y + high, picture[1])))

    def hidden(place: Place) -> int:
        return 3 * sum(_shared(place, other) for other in taken) + sum(_shared(place, other) for other in small)

    return min(places, key=hidden)


def extent(text: str, font: Any) -> tuple[int, int]:
    """Width and height of a text with its margin."""
    rise, fall = font.getmetrics()
    return math.ceil(font.getlength(text)) + max(4, font.size // 3), rise + fall


def shortened(text: str, font: Any, width: int) -> str:
    """The text, cut with an ellipsis so that it fits."""
    while len(text) > 1 and extent(text, font)[0] > width:
        text = text[:-2].rstrip() + "\u2026"
    return text


@lru_cache(maxsize=16)
def font_of(size: int) -> Any:
    """DejaVu Sans, which matplotlib brings along and which has most alphabets; else Pillow's own."""
    spec = importlib.util.find_spec("matplotlib")
    for folder in spec.submodule_search_locations or () if spec else ():
        file = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)


def _ink_on(colour: Colour) -> Colour:
    """Black or white, whichever has more contrast (relative luminance as in WCAG 2)."""
    red, green, blue = ((c / 255) ** 2.2 for c in colour)
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else (255, 255, 255)


def _shared(one: Place, other: Place) -> int:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0) * max(high, 0)
