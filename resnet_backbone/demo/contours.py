"""Outlines of the eight classes and of the clutter around them, as closed curves of about unit radius."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]
"""N,2 points (x, y) of one closed curve."""

TURN = np.radians(40)
"""Objects stand upright, more or less, as most photographed things do: they are turned by up to this angle."""

_POINTS = 64


def _circle(radius: float = 1.0, centre: tuple[float, float] = (0.0, 0.0), points: int = _POINTS) -> Curve:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius + np.asarray(centre)


def _disc() -> list[Curve]:
    return [_circle()]


def _ring() -> list[Curve]:
    return [_circle(), _circle(0.55)]


def _square() -> list[Curve]:
    return [_circle(1.15, points=4)]


def _triangle() -> list[Curve]:
    return [_circle(1.2, points=3)]


def _star() -> list[Curve]:
    star = _circle(1.2, points=10)
    star[1::2] *= 0.42
    return [star]


def _cross() -> list[Curve]:
    long, short = 1.1, 0.38
    quarter = np.array([[long, -short], [long, short], [short, short]])
    turns = [np.array([[c, -s], [s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return [np.concatenate([quarter @ turn.T for turn in turns])]


def _heart() -> list[Curve]:
    t = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) - 2.5
    return [np.stack([x, y], axis=1) / 15.0]


def _moon() -> list[Curve]:
    # An arc of the outer circle, closed by the arc of a second circle that bites into it.
    outer = np.linspace(0.9, 2 * np.pi - 0.9, _POINTS // 2)
    tip = np.array([np.cos(0.9), np.sin(0.9)])
    centre = np.array([0.78, 0.0])
    radius = float(np.hypot(*(tip - centre)))
    start = np.arctan2(*(tip - centre)[::-1])
    inner = np.linspace(2 * np.pi - start, start, _POINTS // 2)[1:-1]
    arcs = [
        np.stack([np.cos(outer), np.sin(outer)], axis=1),
        np.stack([np.cos(inner), np.sin(inner)], axis=1) * radius + centre,
    ]
    return [(np.concatenate(arcs) + np.array([0.25, 0.0])) * 1.1]


SHAPES: dict[str, Callable[[], list[Curve]]] = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "heart": _heart,
    "moon": _moon,
}
"""The classes, in the order of their ids. A second curve is a hole in the first."""


def blob(rng: np.random.Generator) -> list[Curve]:
    """A lumpy closed outline that is none of the classes."""
    angle = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
    radius = np.full_like(angle, 0.75)
    for waves in (2, 3, 5):
        radius += rng.uniform(0.1, 0.28) * np.sin(waves * angle + rng.uniform(0, 2 * np.pi))
    return [_circle() * np.clip(radius, 0.15, None)[:, None]]


def bar(rng: np.random.Generator) -> list[Curve]:
    """A long thin rectangle, a quarter as wide as long at most."""
    half = rng.uniform(0.06, 0.16)
    return [np.array([[-1, -half], [1, -half], [1, half], [-1, half]])]


def squiggle(rng: np.random.Generator) -> list[Curve]:
    """A ribbon that winds along the x axis."""
    x = np.linspace(-1.2, 1.2, _POINTS // 2)
    y = rng.uniform(0.15, 0.4) * np.sin(x * rng.uniform(2, 5) + rng.uniform(0, 2 * np.pi))
    half = rng.uniform(0.05, 0.11)
    upper, lower = np.stack([x, y - half], axis=1), np.stack([x, y + half], axis=1)
    return [np.concatenate([upper, lower[::-1]])]


CLUTTER = (blob, bar, squiggle)


def place(curves: list[Curve], rng: np.random.Generator, size: float, centre: tuple[float, float]) -> list[Curve]:
    """Squeezes, turns, scales and moves an outline so that its longer side is `size` pixels, round `centre`.

    The squeeze is at most 1 : 0.72, along a direction of its own, so that no class is known by its aspect.
    """
    squeeze, turn = rng.uniform(0, np.pi), rng.uniform(-TURN, TURN)
    flat = _rotation(-squeeze) @ np.diag([1.0, rng.uniform(0.72, 1.0)]) @ _rotation(squeeze)
    moved = [curve @ (_rotation(turn) @ flat).T for curve in curves]
    low, high = moved[0].min(axis=0), moved[0].max(axis=0)
    scale = size / float((high - low).max())
    return [(curve - (low + high) / 2) * scale + np.asarray(centre) for curve in moved]


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
