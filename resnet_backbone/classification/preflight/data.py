"""Images of a run before it: how many of each class, in two sets at a time, not readable, or too small."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet_backbone.classification.data.splits import Array, Data, Files, Part, Split
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.engine.preflight import Finding
from resnet_backbone.engine.text import some
from resnet_backbone.images.views import pixels_of

FEW = 10
"""Training images of a class below which it is hardly learnt."""
LOOKED_AT = 2000
"""Images that are read; of more, so many of them in equal distances."""
SECONDS = 15.0
"""After so long, either look ends with what it has seen."""
LISTED = 20
MANY = 0.1
"""Share of images smaller than the crop from which on it is worth a warning."""
SYNSET = re.compile(r"n\d{8}")


def count_findings(data: Data) -> Iterator[Finding]:
    """Images of the sets and of the classes."""
    out = f", {len(data.holdout):,} held out of it" if data.holdout is not None else ""
    text = f"{data.name}: {len(data.train):,} images to train on{out}, {len(data.val):,} to test on"
    yield Finding("ok", f"{text}, {len(data.classes)} classes")
    counts = np.bincount(data.train.labels, minlength=len(data.classes))
    said = [f"{which} class {data.classes[k]} ({counts[k]:,})" for which, k in
            (("smallest", int(counts.argmin())), ("largest", int(counts.argmax())))]  # fmt: skip
    even = f"{counts[0]:,} of each class" if counts.min() == counts.max() else ", ".join(said)
    yield Finding("ok", even)
    few = [f"{data.classes[k]} ({counts[k]})" for k in np.flatnonzero(counts < FEW)]
    if few:
        text = f"{len(few)} classes have fewer than {FEW} training images: {some(few)}; add some, or leave them out"
        yield Finding("warning", text)
    if len(data.classes) != 1000 and all(SYNSET.fullmatch(name) for name in data.classes):
        text = f"the classes are named like ImageNet's, but there are {len(data.classes)} and not 1000: a part of it, "
        yield Finding("note", text + "whose accuracy is not ImageNet's")


def both_sets_findings(data: Data, seconds: float = SECONDS) -> Iterator[Finding]:
    """Validation images with the bytes of a training image."""
    tested, whole = _sample(len(data.val))
    looked = "" if whole else f" of {len(tested):,} looked at"
    for name, split in [("training", data.train)] + ([("held-out", data.holdout)] if data.holdout is not None else []):
        twice, done = _doubles(split, Part(data.val, tested), seconds)
        early = "" if done == 1 else f", of {100 * done:.0f} % compared in {seconds:g} s"
        if twice:
            text = f"{len(twice)} validation images{looked} are {name} images too{early} (first: {twice[0]})"
            yield Finding("warning", f"{text}: accuracy would flatter; take them out of one set")
        else:
            yield Finding("ok", f"no validation image{looked} is a {name} image too{early}")


def image_findings(data: Data, config: TrainConfig, seconds: float = SECONDS) -> Iterator[Finding]:
    """Images that cannot be read, and those smaller than the crop; all of a small set, a sample of a large one."""
    looked = [("train", data.train), ("val", data.val)] + ([("train", data.holdout)] if data.holdout else [])
    if all(isinstance(_whole(split), Array) for _, split in looked):
        return  # they lie in memory
    seen = _read(looked, seconds, plain=config.reader == "plain")
    count = sum(len(split) for _, split in looked)
    what = f"all {count:,} images" if seen.count == count else f"{seen.count:,} of {count:,} images, evenly spread,"
    broken = [said for _, said in seen.broken]
    passed = all(name == "train" for name, _ in seen.broken) and len(broken) <= config.broken_images
    if not broken:
        yield Finding("ok", f"{what} can be read")
    elif passed:
        text = f"{len(broken)} training images are passed over, as broken_images {config.broken_images} allows"
        yield Finding("warning", f"{text}: {some(broken, 3)}")
    else:
        yield from (Finding("error", said) for said in broken[:LISTED])
        if len(broken) > LISTED:
            yield Finding("error", f"and {len(broken) - LISTED} more images cannot be read, not listed here; mend them")
    small = [(side, name) for side, name in seen.sides if side < config.size]
    if small:
        side, name = min(small)
        text = f"{len(small)} of {seen.count:,} images are smaller than size {config.size} (smallest: {side} pixels, "
        text += f"{name}): they are enlarged"
        level = len(small) > MANY * seen.count
        remedy = "; lower size, or take larger images" * level
        yield Finding("warning" if level else "note", text + remedy)


@dataclass(frozen=True)
class _Seen:
    """Sets and sentences of broken images; shorter sides and names of the others."""

    count: int
    broken: list[tuple[str, str]]
    sides: list[tuple[int, str]]


def _read(splits: Sequence[tuple[str, Split]], seconds: float, *, plain: bool) -> _Seen:
    firsts = np.cumsum([0] + [len(split) for _, split in splits])
    chosen, _ = _sample(int(firsts[-1]))
    # In mixed order, for the time may end it.
    order = np.random.default_rng(0).permutation(chosen).tolist()
    began, count = time.monotonic(), 0
    broken: list[tuple[int, str, str]] = []
    sides: list[tuple[int, str]] = []

    def at(place: int) -> tuple[str, Split, int]:
        number = int(np.searchsorted(firsts, place, side="right")) - 1
        return *splits[number], place - int(firsts[number])

    def side(place: int) -> int | str:
        if time.monotonic() - began > seconds:
            return 0
        _, split, index = at(place)
        try:
            image = split.read(index)
            pixels = pixels_of(image, plain=plain, name=split.name(index)) if isinstance(image, bytes) else image
            return min(pixels.shape[:2])
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for place, found in zip(order, pool.map(side, order), strict=True):
            name, split, index = at(place)
            count += found != 0
            if isinstance(found, str):
                broken.append((place, name, found))
            elif found:
                sides.append((found, split.name(index)))
    return _Seen(count, [(name, said) for _, name, said in sorted(broken)], sides)


def _doubles(train: Split, val: Split, seconds: float) -> tuple[list[str], float]:
    """Names of those of `val` that are in `train`, and the share of `train` that was compared in that time."""
    ends = time.monotonic() + seconds
    sizes = {index: _size(val, index) for index in range(len(val))}
    wanted = set(sizes.values())
    contents: set[bytes] = set()
    alike: set[int] = set()
    done = 0
    # In mixed order, for the time may end it.
    for index in np.random.default_rng(0).permutation(len(train)).tolist():
        if time.monotonic() > ends:
            break
        size = _size(train, index)
        if size in wanted:
            contents.add(_digest(train, index))
            alike.add(size)
        done += 1
    twice = [val.name(k) for k, size in sizes.items() if size in alike and _digest(val, k) in contents]
    return twice, done / len(train)


def _sample(count: int) -> tuple[np.ndarray, bool]:  # type: ignore[type-arg]
    """Places of at most `LOOKED_AT`, and whether these are all."""
    if count <= LOOKED_AT:
        return np.arange(count), True
    return np.linspace(0, count - 1, LOOKED_AT).round().astype(int), False


def _whole(split: Split) -> Split:
    return _whole(split.whole) if isinstance(split, Part) else split


def _path(split: Split, index: int) -> Path | None:
    if isinstance(split, Part):
        return _path(split.whole, int(split.indices[index]))
    return split.folders.paths[index] if isinstance(split, Files) else None


def _size(split: Split, index: int) -> int:
    path = _path(split, index)
    return 0 if path is None else path.stat().st_size


def _digest(split: Split, index: int) -> bytes:
    image = split.read(index)
    return hashlib.sha256(image if isinstance(image, bytes) else image.tobytes()).digest()
