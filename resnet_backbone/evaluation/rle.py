"""COCO's masks as strangers' files have them, checked: pycocotools believes run lengths, and damaged ones hang it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from resnet_backbone.evaluation.json_files import is_number

LONGEST = 7
"""Characters of one number, five bits each: pycocotools' numbers have 32."""


def check_mask(segmentation: Any, where: str) -> None:
    """Polygons, or run lengths, plain or compressed, with their size.

    Args:
        segmentation: of a result or an annotation.
        where: begins the message: file and place.

    Raises:
        ValueError: it is none, or its run lengths do not add up to its size.
    """
    if isinstance(segmentation, Mapping):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if isinstance(size, list) and len(size) == 2 and all(type(n) is int and n > 0 for n in size):
            if isinstance(counts, list) and all(type(n) is int and n >= 0 for n in counts):
                if sum(counts) != size[0] * size[1]:
                    raise ValueError(f"{where} has a mask with {_wrong(*size)}")
                return
            if isinstance(counts, str):
                try:
                    return check_rle_counts(counts, *size)
                except ValueError as error:
                    raise ValueError(f"{where} has a mask with {error}") from error
    elif isinstance(segmentation, list) and all(isinstance(p, list) and all(map(is_number, p)) for p in segmentation):
        return
    raise ValueError(f"{where} has a segmentation that is neither polygons nor run lengths with their size")


def check_rle_counts(counts: str, height: int, width: int) -> None:
    """Compressed run lengths as pycocotools writes them: none below 0, and together all pixels of the mask.

    A number is its bits in fives, the lowest first, one to a character from "0" on; 32 is added to all but the last,
    whose fifth bit is the sign. From the fourth run length on it is the difference to the last but one.

    Args:
        counts: the text.
        height, width: of the mask, in pixels.

    Raises:
        ValueError: anything else; the message says what a mask has that is so.
    """
    codes = np.frombuffer(counts.encode() if counts.isascii() else b"", np.uint8).astype(np.int64) - 48
    if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] > 31:
        raise ValueError(_wrong(height, width))
    ends = np.flatnonzero(codes < 32)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > LONGEST:
        raise ValueError(_wrong(height, width))
    shifts = 5 * (np.arange(codes.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 31) << shifts, starts) - ((codes[ends] & 16) << (5 * lengths - 4))
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    if runs.min() < 0 or runs.sum() != height * width:
        raise ValueError(_wrong(height, width))


def _wrong(height: int, width: int) -> str:
    return f"run lengths that do not add up to its {height} x {width} pixels; export it again"
