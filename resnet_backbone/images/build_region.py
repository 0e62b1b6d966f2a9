"""Builds the helper of `region`: needs a C compiler and libjpeg-turbo's headers, which no training does."""

from __future__ import annotations

import ctypes
import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from resnet_backbone.images.region import SOURCE, Box, decode_region, library, library_path, load

WITHOUT = "images are decoded without it too, only slower"
PACKAGES = "install gcc and libjpeg62-turbo-dev (Debian), libjpeg-turbo8-dev (Ubuntu) or libjpeg-turbo-devel (Fedora)"
SAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
BOXES: tuple[Box, ...] = ((0, 0, 99, 77), (37, 21, 80, 60), (16, 16, 32, 32), (33, 0, 99, 41), (5, 50, 6, 77))


def build() -> Path:
    """Compiles the helper, checks it on generated images and puts it where `region` finds it.

    Raises:
        ValueError: no compiler, no headers, or pixels that are not those of the whole image.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise ValueError(f"no C compiler {os.environ.get('CC', 'cc')!r}: {PACKAGES}, or name one in $CC; {WITHOUT}")
    target = library_path()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(made), str(SOURCE), "-ljpeg"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
            raise ValueError(f"the decoder does not compile ({said}): {PACKAGES}; {WITHOUT}")
        _check(load(made))
        os.replace(made, target)
    library.cache_clear()
    return target


def _check(helper: ctypes.CDLL) -> None:
    """Regions against the same pixels of the whole image."""
    pixels = np.random.default_rng(0).integers(0, 256, (77, 99, 3), dtype=np.uint8)
    for name, sampling in SAMPLINGS.items():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", subsampling=sampling)
        whole = decode_region(file.getvalue(), BOXES[0], helper)
        for left, top, right, bottom in BOXES:
            part = decode_region(file.getvalue(), (left, top, right, bottom), helper)
            if whole is None or part is None or not np.array_equal(part, whole[top:bottom, left:right]):
                raise ValueError(f"the decoder gives wrong pixels of a {name} image with this system's libjpeg-turbo: "
                                 f"it was not put in place; {WITHOUT}")  # fmt: skip
