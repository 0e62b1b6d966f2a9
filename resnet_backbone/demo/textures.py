"""Surfaces of objects, clutter and background: patterns of two random colours, softly lit."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
"""H,W,3 in 0..255, or H,W in 0..1."""

PATTERNS = ("stripes", "dots", "waves", "checks", "plain", "speckle", "lattice", "circles")


def surface(alpha: Picture, rng: np.random.Generator, light: float) -> Picture:
    """One of `PATTERNS` in two colours over the window of `alpha`, shaded as if softly rounded and lit from `light`."""
    height, width = alpha.shape
    first, second = _colour(rng, (35, 90), (15, 70)), _colour(rng, (20, 92), (5, 65))
    mix = texture(height, width, _any_pattern(rng), rng)[..., None]
    colour = first + (second - first) * mix * np.float32(rng.uniform(0.35, 0.9))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    slope = x * np.cos(light) + y * np.sin(light)
    rounded = cv2.GaussianBlur(alpha, (0, 0), max(1.0, 0.07 * min(height, width)))
    shade = (1.0 + 0.16 * slope) * (0.7 + 0.36 * rounded)
    return np.clip(colour * shade[..., None], 0, 255).astype(np.float32)


def texture(height: int, width: int, pattern: str, rng: np.random.Generator) -> Picture:
    """One of `PATTERNS`, H,W in 0..1, with a period and an angle of its own."""
    period = rng.uniform(3.5, 4.5 + 0.22 * min(height, width))
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    u = (x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period)
    v = (y * np.cos(angle) - x * np.sin(angle)) * (2 * np.pi / period)
    if pattern == "plain":
        return np.zeros((height, width), np.float32)
    if pattern == "stripes":
        wave = np.sin(u)
    elif pattern == "checks":
        wave = np.sin(u) * np.sin(v) * 2
    elif pattern == "dots":
        wave = (np.cos(u) + np.cos(v)) - 0.6
    elif pattern == "waves":
        wave = np.sin(u + 1.2 * np.sin(v))
    elif pattern == "circles":  # round a corner
        wave = np.sin(np.hypot(u, v))
    elif pattern == "lattice":
        wave = np.maximum(np.cos(u), np.cos(v)) * 2 - 1.5
    else:  # speckle
        wave = _noise(height, width, period, rng)
    return np.clip(0.5 + wave.astype(np.float32) * 1.6, 0, 1)


def _any_pattern(rng: np.random.Generator) -> str:
    return PATTERNS[rng.integers(len(PATTERNS))]


def background(rng: np.random.Generator, size: int) -> Picture:
    """Two muted colours mixed by soft clouds, sometimes with a faint weave over them."""
    first, second = _colour(rng, (35, 95), (2, 30)), _colour(rng, (30, 90), (2, 30))
    clouds = sum(_noise(size, size, size / scale, rng) / weight for scale, weight in ((2, 1), (5, 2), (14, 4)))
    mix = np.clip(0.5 + 0.45 * np.asarray(clouds), 0, 1)[..., None]
    canvas = first + (second - first) * mix
    if rng.random() < 0.6:
        weave = texture(size, size, _any_pattern(rng), rng)[..., None] - 0.5
        canvas = canvas * (1 + np.float32(rng.uniform(-0.22, 0.22)) * weave)
    return np.clip(canvas, 0, 255).astype(np.float32)


def _noise(height: int, width: int, period: float, rng: np.random.Generator) -> Picture:
    """Smooth noise, about -1..1, with features of `period` pixels."""
    rows, columns = int(height / period) + 3, int(width / period) + 3
    coarse = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _colour(rng: np.random.Generator, lightness: tuple[float, float], chroma: tuple[float, float]) -> Picture:
    """A random RGB colour 0..255 by CIE lightness and chroma, so that no hue glares."""
    hue, strength = rng.uniform(0, 2 * np.pi), rng.uniform(*chroma)
    lab = np.array([[[rng.uniform(*lightness), strength * np.cos(hue), strength * np.sin(hue)]]], np.float32)
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)[0, 0], np.float32) * 255
