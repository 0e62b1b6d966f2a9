"""Images made smaller once, before training, in several processes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

from resnet_backbone.images.decode import open_image
from resnet_backbone.images.transforms import resize_shorter_side

QUALITY = 90
TOGETHER = 256
"""Images that are read before they are made smaller by several processes."""
Shrink = Callable[[Iterable[bytes]], Iterator[tuple[bytes, bool]]]
"""Contents of files to contents, and whether each could be read."""


@contextmanager
def shrinking(short_side: int | None, workers: int) -> Iterator[Shrink]:
    """What makes images smaller, in the processes that were asked for; copies without a short side."""
    one = partial(smaller, short_side=short_side)
    if short_side is None or not workers:
        yield lambda contents: map(one, contents)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield lambda contents: pool.map(one, contents, chunksize=16)


def smaller(content: bytes, short_side: int | None) -> tuple[bytes, bool]:
    """A JPEG with the shorter side, and whether it could be read; as it is where it could not, or is small already.

    Other pixels than the original's: a bicubic resize, and a second compression.
    """
    if short_side is None:
        return content, True
    try:
        image = open_image(io.BytesIO(content))
    except ValueError:
        return content, False
    if min(image.size) <= short_side:
        return content, True
    made = io.BytesIO()
    resize_shorter_side(image, short_side, "bicubic").save(made, "JPEG", quality=QUALITY)
    return made.getvalue(), True
