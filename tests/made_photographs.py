"""Generated photographs, and every kind of JPEG of them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

KINDS = {
    "4:4:4": ("RGB", {"subsampling": 0, "quality": 92}),
    "4:2:0": ("RGB", {"subsampling": 2, "quality": 80}),
    "4:2:2": ("RGB", {"subsampling": 1, "quality": 60}),
    "progressive": ("RGB", {"progressive": True}),
    "grey": ("L", {}),
    "keep_rgb": ("RGB", {"keep_rgb": True}),
}
"""Mode and options of Pillow's `save`."""


def photograph(height=60, width=90, seed=0):
    """Smooth colours with some noise: JPEG is made for those."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 9, 3), dtype=np.uint8)).resize((width, height), 3)
    noisy = np.asarray(coarse, np.int64) + rng.integers(-9, 9, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def content(image, **options):
    """The file's bytes; JPEG unless `format` says another."""
    file = io.BytesIO()
    image.save(file, **{"format": "JPEG", **options})
    return file.getvalue()
