"""Progressive resolution: the side of the training images by iteration."""

from __future__ import annotations


def size_at(iteration: int, sizes: tuple[int, int], ramp: tuple[int, int], multiple: int = 32) -> int:
    """The side in pixels, by FFCV's rule: rising in a straight line between two iterations, in steps.

    Args:
        sizes: sides up to the beginning of the ramp and from its end on; these two are not rounded.
        ramp: iterations at which it begins and ends.
        multiple: the sides between are the nearest multiples of this.
    """
    (low, high), (begin, end) = sizes, ramp
    if iteration <= begin:
        return low
    if iteration >= end:
        return high
    return round((low + (high - low) * (iteration - begin) / (end - begin)) / multiple) * multiple
