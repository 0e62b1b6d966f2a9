"""Draws detections and ground truth: boxes, masks and labels that stay readable from 160 pixels to 4k."""

from __future__ import annotations

import colorsys
import io
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from resnet_backbone.evaluation.labels import Colour, Place, draw_labels, extent, font_of, shortened

Picture = NDArray[np.uint8]

PAPER: Colour = (255, 255, 255)
INK: Colour = (30, 30, 30)
_HUES = (0.58, 0.08, 0.36, 0.92, 0.15, 0.76, 0.48, 0.02, 0.66, 0.25)


@dataclass(frozen=True)
class Objects:
    """Detections or ground truth of one image.

    Attributes:
        boxes: N,4 XYXY in pixels of the image.
        classes: N class indices.
        scores: N, 0..1; None for ground truth.
        masks: N,H,W, true inside; None where there are none.
        remarks: N short texts behind the class name, as "crowd"; None for none.
    """

    boxes: ArrayLike
    classes: ArrayLike
    scores: ArrayLike | None = None
    masks: ArrayLike | None = None
    remarks: Sequence[str] | None = None


def colour_of(index: int) -> Colour:
    """The RGB colour of a class: always the same, the first ten far apart, later ones darker or paler."""
    turn, place = divmod(index, len(_HUES))
    hue = (_HUES[place] + 0.037 * turn) % 1.0
    saturation, value = ((0.85, 0.95), (0.55, 1.0), (0.95, 0.65))[turn % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw(image: ArrayLike, objects: Objects, names: Sequence[str] = (), *, scale: float = 1.0) -> Picture:
    """The image with boxes, translucent masks and labels on it; larger objects lie below smaller ones.

    Args:
        image: H,W,3 RGB or H,W grey, 0..255; not changed.
        objects: what to draw; boxes without finite coordinates are left out.
        names: class names by index; a class without a name is shown by its number.
        scale: enlarges (or shrinks) the picture first, so that labels on a small one have room.

    Returns:
        RGB, H,W,3 times `scale`.
    """
    picture = _scaled(_as_rgb(image), scale)
    boxes = np.asarray(objects.boxes, np.float64).reshape(-1, 4)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    order = [i for i in np.argsort(-sides.prod(axis=1), kind="stable") if np.isfinite(boxes[i]).all()]
    colours = [colour_of(int(c)) for c in np.asarray(objects.classes).reshape(-1)]
    if objects.masks is not None:
        for i in order:
            _draw_mask(picture, np.asarray(objects.masks[i]), colours[i])  # type: ignore[index, call-overload]
    places = {i: _inside(boxes[i] * scale, picture) for i in order}
    for i in order:
        _draw_box(picture, places[i], colours[i])
    if objects.scores is not None:
        scores = np.asarray(objects.scores)
        order.sort(key=lambda i: -scores[i])
    return draw_labels(picture, [(_label(objects, i, names), places[i], colours[i]) for i in order])


def side_by_side(
    image: ArrayLike,
    truth: Objects,
    found: Objects,
    names: Sequence[str] = (),
    *,
    titles: tuple[str, str] = ("ground truth", "predictions"),
    longest: int = 1000,
) -> Picture:
    """Ground truth and predictions on the same image, the wide ones above each other.

    Args:
        image: as for `draw`.
        truth: the left or upper panel.
        found: the right or lower panel.
        names: class names by index.
        titles: over the panels.
        longest: a panel's longer side is brought to between half of this and this.
    """
    height, width = np.asarray(image).shape[:2]
    scale = min(max(1.0, longest / 2 / max(height, width)), longest / max(height, width))
    panels = [titled(draw(image, part, names, scale=scale), t) for part, t in zip((truth, found), titles)]
    across = width <= 2.2 * height
    gap = np.full((8, panels[0].shape[1], 3), PAPER, np.uint8)
    if across:
        gap = np.full((panels[0].shape[0], 8, 3), PAPER, np.uint8)
    return np.concatenate([panels[0], gap, panels[1]], axis=1 if across else 0)


def titled(picture: Picture, title: str) -> Picture:
    """The picture, H,W,3, with one line of text over it."""
    font = font_of(max(13, picture.shape[1] // 40))
    canvas = Image.new("RGB", (picture.shape[1], extent(title, font)[1] + 6), PAPER)
    text = shortened(title, font, picture.shape[1])
    ImageDraw.Draw(canvas).text((2, 3), text, font=font, fill=INK)
    return np.concatenate([np.asarray(canvas), picture])


def contact_sheet(pictures: Iterable[ArrayLike], *, columns: int | None = None, width: int = 1920) -> Picture:
    """All pictures on one sheet in columns, each picture put where the sheet is shortest.

    Args:
        pictures: any sizes, at least one.
        columns: None chooses so that the sheet is a little wider than high.
        width: of the sheet, pixels; pictures are not enlarged beyond twice their size.

    Raises:
        ValueError: no pictures.
    """
    cells = [_as_rgb(p) for p in pictures]
    if not cells:
        raise ValueError("contact sheet: no pictures given")
    shape = float(np.mean([c.shape[0] / c.shape[1] for c in cells]))
    columns = columns or max(1, min(len(cells), round(math.sqrt(1.4 * len(cells) * shape))))
    gap = max(4, width // 200)
    room = (width - gap * (columns + 1)) // columns
    cells = [_scaled(c, min(2.0, room / c.shape[1])) for c in cells]
    tops, places = [gap] * columns, []
    for cell in cells:
        column = tops.index(min(tops))
        places.append((tops[column], gap + column * (room + gap)))
        tops[column] += cell.shape[0] + gap
    sheet = np.full((max(tops), width, 3), PAPER, np.uint8)
    for cell, (top, left) in zip(cells, places):
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return sheet


def save(path: str | Path, picture: Picture) -> None:
    """Writes PNG or, by the ending .jpg or .jpeg, JPEG; makes the folder.

    Raises:
        ValueError: another ending.
    """
    path = Path(path)
    kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if path.suffix.lower() not in kinds:
        raise ValueError(f"{path}: pictures are written as .png, .jpg or .jpeg; give one of these endings")
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, kinds[path.suffix.lower()], quality=92)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.getvalue())


def unique_names(paths: Iterable[Path]) -> list[str]:
    """A picture's name for each file: the stem; where it is taken, the folder's name before it or a number behind."""
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        tries = itertools.chain(
            (path.stem, f"{path.resolve().parent.name}_{path.stem}"), (f"{path.stem}_{n}" for n in itertools.count(2))
        )
        names.append(next(name for name in tries if name.casefold() not in taken))
        taken.add(names[-1].casefold())
    return names


def _as_rgb(image: ArrayLike) -> Picture:
    """A copy as H,W,3 uint8."""
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"picture of shape {array.shape}: give H,W,3 in RGB or H,W in grey")
    return np.ascontiguousarray(np.clip(array, 0, 255).astype(np.uint8)).copy()


def _scaled(picture: Picture, scale: float) -> Picture:
    if scale == 1:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    way = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, size, interpolation=way), np.uint8)


def _thickness(picture: Picture) -> int:
    return max(1, round(math.sqrt(picture.shape[0] * picture.shape[1]) / 320))


def _draw_mask(picture: Picture, mask: NDArray[Any], colour: Colour) -> None:
    size = (picture.shape[1], picture.shape[0])
    whole = np.ascontiguousarray(mask.astype(np.uint8))
    if whole.shape[::-1] != size:
        whole = np.asarray(cv2.resize(255 * whole, size, interpolation=cv2.INTER_LINEAR) > 127, np.uint8)
    inside = whole.astype(bool)
    picture[inside] = (0.65 * picture[inside] + 0.35 * np.array(colour)).astype(np.uint8)
    outlines, _ = cv2.findContours(whole, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, colour, _thickness(picture), cv2.LINE_AA)


def _inside(box: NDArray[np.float64], picture: Picture) -> Place:
    """The box in whole pixels, at least one, moved inside the picture."""
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = (int(v) for v in np.clip(np.rint(box), -1e6, 1e6))
    left, top = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
    return left, top, min(max(x1, left + 1), width), min(max(y1, top + 1), height)


def _draw_box(picture: Picture, place: Place, colour: Colour) -> None:
    thick = _thickness(picture)
    corners = (place[0], place[1]), (place[2] - 1, place[3] - 1)
    if thick > 1:
        # A dark rim keeps a bright line visible on bright ground.
        cv2.rectangle(picture, *corners, tuple(c // 3 for c in colour), thick + 2)
    cv2.rectangle(picture, *corners, colour, thick)


def _label(objects: Objects, index: int, names: Sequence[str]) -> str:
    number = int(np.asarray(objects.classes)[index])
    name = names[number] if 0 <= number < len(names) else f"class {number}"
    remark = f" ({objects.remarks[index]})" if objects.remarks and objects.remarks[index] else ""
    score = f" {float(np.asarray(objects.scores)[index]):.2f}" if objects.scores is not None else ""
    return f"{name}{remark}{score}"
