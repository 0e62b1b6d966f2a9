"""Readings of detected boxes under which they meet the objects: another format, another scale, swapped axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from resnet_backbone.evaluation.case import Case
from resnet_backbone.evaluation.voc import Floats, Ints

Reading = tuple[str, Case]
"""What the boxes are, and the case read so."""

AGREE = 0.1
"""How far the logarithms of two ratios may lie apart that say the same."""


def _corners(x0: Floats, y0: Floats, x1: Floats, y1: Floats) -> Floats:
    return np.stack([x0, y0, x1, y1], axis=1)


FORMATS: tuple[tuple[str, Callable[[Floats, Floats, Floats, Floats], Floats]], ...] = (
    ("as they are", lambda x0, y0, x1, y1: _corners(x0, y0, x1, y1)),
    (
        "(x0, y0, x1, y1), written where (x, y, width, height) is asked for",
        lambda x0, y0, x1, y1: _corners(x0, y0, x1 - x0, y1 - y0),
    ),
    (
        "(x, y, width, height), written where (x0, y0, x1, y1) is asked for",
        lambda x0, y0, x1, y1: _corners(x0, y0, x0 + x1, y0 + y1),
    ),
    (
        "(centre x, centre y, width, height), written where (x, y, width, height) is asked for",
        lambda x0, y0, x1, y1: _corners(x0 - (x1 - x0) / 2, y0 - (y1 - y0) / 2, (x0 + x1) / 2, (y0 + y1) / 2),
    ),
    (
        "(centre x, centre y, width, height), written where (x0, y0, x1, y1) is asked for",
        lambda x0, y0, x1, y1: _corners(x0 - x1 / 2, y0 - y1 / 2, x0 + x1 / 2, y0 + y1 / 2),
    ),
)


def box_readings(case: Case) -> Iterator[list[Reading]]:
    """Groups of readings, the likelier groups first; a later one need not be tried where one of an earlier fits."""
    plain = [(what, replace(case, boxes=read(*case.boxes.T))) for what, read in FORMATS]
    swapped = [
        (f"{what}, with x and y swapped" if n else "with x and y swapped", replace(c, boxes=c.boxes[:, [1, 0, 3, 2]]))
        for n, (what, c) in enumerate(plain)
    ]
    yield [*plain[1:], swapped[0], *_mirrored(case)]
    yield [*_scaled("", case), *swapped[1:]]
    yield [reading for what, one in [*plain[1:], *swapped] for reading in _scaled(f"{what}, and ", one)]


def _mirrored(case: Case) -> Iterator[Reading]:
    width, height = case.sizes[case.images].T
    x0, y0, x1, y1 = case.boxes.T
    if np.isfinite(width).all():
        yield "those of the image mirrored left to right", replace(case, boxes=_corners(width - x1, y0, width - x0, y1))
    if np.isfinite(height).all():
        yield "those of the image upside down", replace(case, boxes=_corners(x0, height - y1, x1, height - y0))


def _scaled(before: str, case: Case) -> list[Reading]:
    """Boxes in pixels of a resized image, or in shares of it: the scale is the one that most pairs agree on."""
    detections, across, along = _ratios(case, *_pairs(case))
    even = np.abs(np.log(across / along)) < 0.1
    sizes = case.sizes[case.images]
    width, height = sizes[detections].T
    factor = _vote(across[even])
    constant = [(f"{before}about {factor:.2g} times as large as the objects", np.full_like(sizes, factor))]
    if not np.isfinite(sizes).all():
        return _read(case, constant)
    frame = np.array([_vote(across * width), _vote(along * height)])
    share = _share(frame)
    framed = [
        (f"{before}{share or 'in pixels of the image resized to about {:.0f} x {:.0f}'.format(*frame)}", frame / sizes)
    ]
    sided = []
    for which, side in (("shorter", sizes.min(axis=1)), ("longer", sizes.max(axis=1))):
        length = _vote(across[even] * side[detections[even]])
        said = f"in pixels of the image resized to a {which} side of about {length:.0f}"
        sided.append((f"{before}{said}", np.repeat((length / side)[:, None], 2, axis=1)))
    # Of readings that fit the first is taken: the simpler ones come first.
    return _read(case, [*framed, *constant, *sided] if share else [*constant, *sided, *framed])


def _read(case: Case, scales: list[tuple[str, Floats]]) -> list[Reading]:
    """The case with boxes divided by D,2 factors; a factor for which no pair voted is nan, and tells nothing."""
    return [
        (what, replace(case, boxes=case.boxes / np.tile(factors, 2)))
        for what, factors in scales
        if np.isfinite(factors).all() and len(factors)
    ]


def _share(frame: Floats) -> str:
    for whole, what in ((1, "shares of width and height, from 0 to 1"), (100, "per cent of width and height")):
        if (np.abs(frame / whole - 1) < 0.08).all():
            return what
    return ""


def _pairs(case: Case, most: int = 500_000) -> tuple[Ints, Ints]:
    """Indices of detections and objects of one class and image, the best-scored first, about `most` of them."""
    key = case.truth_images * len(case.names) + case.truth_classes
    order = np.argsort(key, kind="stable")
    mine = np.argsort(-case.scores, kind="stable")
    wanted = case.images[mine] * len(case.names) + case.classes[mine]
    first = np.searchsorted(key[order], wanted, side="left")
    count = np.searchsorted(key[order], wanted, side="right") - first
    ends = np.cumsum(count)
    kept = ends <= most
    mine, first, count, ends = mine[kept], first[kept], count[kept], ends[kept]
    columns = np.arange(count.sum()) - np.repeat(ends - count - first, count)
    return np.repeat(mine, count), order[columns]


def _ratios(case: Case, detections: Ints, objects: Ints) -> tuple[Ints, Floats, Floats]:
    """Of the pairs whose place and side say the same in each direction: detection, and how much larger it is."""
    found, there = case.boxes[detections], case.truth_boxes[objects]
    logs = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for axis in (0, 1):
            centre = (found[:, axis] + found[:, axis + 2]) / (there[:, axis] + there[:, axis + 2])
            side = (found[:, axis + 2] - found[:, axis]) / (there[:, axis + 2] - there[:, axis])
            logs.append((np.log(centre), np.log(side)))
        agree = np.all([np.abs(centre - side) < AGREE for centre, side in logs], axis=0)
    across, along = (np.exp((centre[agree] + side[agree]) / 2) for centre, side in logs)
    return detections[agree], across, along


def _vote(values: Floats) -> float:
    """The value that most are near, by their logarithms; nan of nothing."""
    if not len(values):
        return float("nan")
    logs = np.sort(np.log(values))
    # For every value the number of those up to 5 per cent larger: the densest place.
    among = np.searchsorted(logs, logs + 0.05, side="right") - np.arange(len(logs))
    start = int(np.argmax(among))
    return float(np.exp(np.median(logs[start : start + among[start]])))
