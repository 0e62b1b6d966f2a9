"""Draws one scene: textured shapes among clutter, partly hidden, and exactly what of each is still to be seen.

Colour, texture, size and orientation say nothing about the class; only the outline does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from resnet_backbone.demo.contours import CLUTTER, SHAPES, Curve, place
from resnet_backbone.demo.textures import background, surface

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

CLASSES = tuple(SHAPES)
SMALLEST, LARGEST = 18, 80
"""Longer side of an object in pixels, drawn log-uniformly."""
HIDDEN = 0.3
"""An object with a smaller part of its area in sight is not asked for: it becomes an ignored (crowd) region."""

_SUBPIXEL = 4  # fractional bits of cv2's coordinates


@dataclass
class SceneObject:
    """One thing that can be asked for.

    Attributes:
        label: index into `CLASSES`.
        mask: H,W, what is visible of it.
        full_area: its area in pixels if nothing hid it and the picture had no border.
        crowd: a group that is not counted apart, or an object hidden too far.
        truncated: it reaches over the picture's border.
    """

    label: int
    mask: Mask
    full_area: float
    crowd: bool = False
    truncated: bool = False

    @property
    def visible(self) -> float:
        """Visible share of the whole area, 0..1."""
        return float(self.mask.sum()) / max(self.full_area, 1.0)


@dataclass
class Scene:
    """A picture (H,W,3 RGB) and its objects, in the order of painting."""

    image: Image
    objects: list[SceneObject]


@dataclass
class _Painter:
    """A canvas that remembers which object owns each pixel."""

    rng: np.random.Generator
    size: int
    canvas: NDArray[np.float32] = field(init=False)
    owner: NDArray[np.int32] = field(init=False)

    def __post_init__(self) -> None:
        self.canvas = background(self.rng, self.size)
        self.owner = np.full((self.size, self.size), -1, np.int32)
        self.light = self.rng.uniform(0, 2 * np.pi)

    def paint(self, curves: list[Curve], owner: int) -> float:
        """Paints a filled outline with its shadow; returns its whole area, also what lies outside the picture."""
        reach = max(1.0, 0.05 * float(np.ptp(curves[0], axis=0).max()))
        margin = int(3.5 * reach) + 3  # room for the shadow
        low = np.floor(curves[0].min(axis=0)).astype(int) - margin
        high = np.ceil(curves[0].max(axis=0)).astype(int) + margin
        alpha, edge = _coverage(curves, low, high, self.rng)
        area = float((alpha > 0.5).sum())
        colour = surface(alpha, self.rng, self.light)
        shadow = cv2.GaussianBlur(alpha, (0, 0), reach)
        shift = np.array([[1, 0, -reach * np.cos(self.light)], [0, 1, -reach * np.sin(self.light)]])
        shadow = cv2.warpAffine(shadow, shift, shadow.shape[::-1])[..., None] * np.float32(0.45)

        y0, x0 = max(low[1], 0), max(low[0], 0)
        y1, x1 = min(high[1], self.size), min(high[0], self.size)
        if y0 >= y1 or x0 >= x1:
            return area
        part = np.s_[y0 - low[1] : y1 - low[1], x0 - low[0] : x1 - low[0]]
        below = self.canvas[y0:y1, x0:x1] * (1 - shadow[part])
        above = colour[part] * (1 - edge[part][..., None])
        self.canvas[y0:y1, x0:x1] = below + (above - below) * alpha[part][..., None]
        self.owner[y0:y1, x0:x1][alpha[part] > 0.5] = owner
        return area


def _coverage(
    curves: list[Curve], low: NDArray[np.int_], high: NDArray[np.int_], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Anti-aliased coverage 0..1 of the outline in its own window, and the strength of the drawn rim."""
    width, height = (high - low).tolist()
    fixed = [np.round((c - low) * 2**_SUBPIXEL).astype(np.int32) for c in curves]
    alpha = np.zeros((height, width), np.uint8)
    cv2.fillPoly(alpha, fixed, 255, cv2.LINE_AA, _SUBPIXEL)
    edge = np.zeros_like(alpha)
    if rng.random() < 0.6:
        cv2.polylines(edge, fixed, True, int(rng.integers(60, 190)), 1, cv2.LINE_AA, _SUBPIXEL)
    return alpha.astype(np.float32) / np.float32(255), edge.astype(np.float32) / np.float32(255)


def draw_scene(rng: np.random.Generator, size: int = 128) -> Scene:
    """One scene of `size` x `size` pixels with 1 to 5 objects, clutter below and above them, perhaps a crowd."""
    painter = _Painter(rng, size)
    for _ in range(rng.integers(1, 4)):
        _paint_clutter(painter, rng.uniform(15, 60))
    sizes = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST), rng.integers(1, 6)))
    objects: list[SceneObject] = []
    crowded = rng.random() < 0.12
    if crowded:
        objects.append(_paint_crowd(painter, len(objects)))
    # Mostly the large ones first: a small one below a large one is simply gone.
    for side in sorted(sizes, key=lambda s: -s * rng.uniform(0.6, 1.6)):
        label = int(rng.integers(len(CLASSES)))
        curves = place(SHAPES[CLASSES[label]](), rng, side, _free_place(painter, side))
        outside = min(c.min() for c in curves) < 0 or max(c.max() for c in curves) > size
        area = painter.paint(curves, len(objects))
        objects.append(SceneObject(label, np.zeros((0, 0), bool), area, truncated=outside))
    for _ in range(rng.integers(0, 3)):
        _paint_clutter(painter, rng.uniform(15, 40))
    return Scene(_develop(painter.canvas, rng), _settle(objects, painter.owner))


def _paint_clutter(painter: _Painter, side: float) -> None:
    rng = painter.rng
    outline = CLUTTER[rng.integers(len(CLUTTER))](rng)
    x, y = rng.uniform(0, painter.size, 2)
    painter.paint(place(outline, rng, side, (x, y)), -1)


def _paint_crowd(painter: _Painter, owner: int) -> SceneObject:
    """A dozen or so small ones of one class, close together: one crowd region, as COCO has them."""
    rng = painter.rng
    label = int(rng.integers(len(CLASSES)))
    middle = rng.uniform(25, painter.size - 25, 2)
    area = 0.0
    for _ in range(rng.integers(10, 18)):
        x, y = middle + rng.normal(0, 1, 2) * (14, 9)
        curves = place(SHAPES[CLASSES[label]](), rng, rng.uniform(9, 14), (x, y))
        area += painter.paint(curves, owner)
    return SceneObject(label, np.zeros((0, 0), bool), area, crowd=True)


def _free_place(painter: _Painter, side: float) -> tuple[float, float]:
    """The least covered of three random places: partly hidden objects are common, buried ones rare."""
    best, least = (0.0, 0.0), 2.0
    for x, y in painter.rng.uniform(0.04, 0.96, (3, 2)) * painter.size:
        rows = slice(max(int(y - side / 2), 0), int(y + side / 2) + 1)
        columns = slice(max(int(x - side / 2), 0), int(x + side / 2) + 1)
        covered = float((painter.owner[rows, columns] >= 0).mean())
        if covered < least:
            best, least = (float(x), float(y)), covered
    return best


def _settle(objects: list[SceneObject], owner: NDArray[np.int32]) -> list[SceneObject]:
    """Gives every object its visible mask; what cannot be seen at all is dropped, what hardly can is a crowd region."""
    seen = []
    for index, thing in enumerate(objects):
        thing.mask = owner == index
        if thing.mask.sum() < 4:
            continue
        thing.crowd = thing.crowd or thing.visible < HIDDEN
        seen.append(thing)
    return seen


def _develop(canvas: NDArray[np.float32], rng: np.random.Generator) -> Image:
    """Exposure and sensor noise of a camera."""
    noise = rng.standard_normal(canvas.shape, np.float32) * np.float32(rng.uniform(1, 6))
    return np.clip(canvas * np.float32(rng.uniform(0.85, 1.1)) + noise, 0, 255).astype(np.uint8)
