"""Data made ready once, before training: class folders or shards, of ILSVRC2012's archives or of class folders."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resnet_backbone.classification.data.folders import find_splits
from resnet_backbone.classification.data.shard_index import INDEX, ShardSet
from resnet_backbone.classification.prepare.ilsvrc import Done, extract_train, extract_val
from resnet_backbone.classification.prepare.ilsvrc_truth import read_truth
from resnet_backbone.classification.prepare.shard_sources import Split, folder_split, train_split, val_split
from resnet_backbone.classification.prepare.shard_writer import write_shards
from resnet_backbone.classification.prepare.shrinking import QUALITY, Shrink, shrinking
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.room import disk, refuse

CLASSES, TRAIN, VAL = 1000, 1_281_167, 50_000
NOTE = "prepared.txt"
SHARD_SIZE = 256.0
"""MB of a shard where nobody says otherwise: read in seconds, and enough of them to be permuted."""


@dataclass(frozen=True)
class PrepareOptions:
    """What is prepared; see the tool's help.

    Attributes:
        train: tar of one tar a class.
        val: tar of the validation images.
        truth: their classes, see `read_truth`.
        folders: class folders instead of archives, for shards.
        short_side: smaller images are written: this shorter side, JPEG of quality 90. None copies.
        workers: processes that make them; 0 works in the main one.
        any_counts: other counts than ILSVRC2012's are no mistake.
        shard_size: shards of about so many MB (10^6 bytes) are written; None writes class folders.
    """

    output: Path
    train: Path | None = None
    val: Path | None = None
    truth: Path | None = None
    folders: Path | None = None
    short_side: int | None = None
    workers: int = 0
    any_counts: bool = False
    shard_size: float | None = None


def prepare(options: PrepareOptions, say: Callable[[str], None] = print) -> int:
    """Writes train/<synset>/*.JPEG and val/<synset>/*.JPEG below `options.output`, or train/*.tar and val/*.tar.

    What is there already stays.

    Returns:
        0; 1 where the counts are not ILSVRC2012's.

    Raises:
        ValueError: an archive or truth that is none, is cut off, or does not fit; another short side than before.
        OSError: nothing can be written; started again, it goes on.
    """
    _check_sources(options)
    _check_output(options)
    complete = True
    with shrinking(options.short_side, options.workers) as shrink:
        steps = _folders(options, shrink) if options.shard_size is None else _shards(options, shrink)
        for split, step in steps.items():
            complete &= _told(step(), split, TRAIN if split == "train" else VAL, options, say)
    return 0 if complete else 1


def _check_sources(options: PrepareOptions) -> None:
    if options.folders is not None:
        if options.train or options.val:
            raise ValueError(f"--from-folders {options.folders}: give it alone, without --train and --val")
        if options.shard_size is None:
            raise ValueError(f"--from-folders {options.folders}: these are class folders; give --shards too")
    elif options.train is None and options.val is None:
        raise ValueError("give --train ILSVRC2012_img_train.tar, or --val ILSVRC2012_img_val.tar with --truth, or both")
    if options.val is not None and options.truth is None:
        raise ValueError(
            f"--val {options.val}: its images lie in one folder; --truth says their classes "
            "(ILSVRC2012_devkit_t12.tar.gz, or LOC_val_solution.csv)"
        )
    if options.short_side is not None and options.short_side < 32:
        raise ValueError(f"--short-side {options.short_side}: at least 32 pixels")
    if options.shard_size is not None and not 0 < options.shard_size < math.inf:
        raise ValueError(f"--shard-size {options.shard_size:g}: MB a shard, above 0")


def _check_output(options: PrepareOptions) -> None:
    """One folder holds images of one kind."""
    refuse([disk(options.output, 0)])
    kind = "as they are" if options.short_side is None else f"shorter side {options.short_side}, JPEG quality {QUALITY}"
    if options.shard_size is not None:
        kind += f", in shards of {options.shard_size:g} MB"
    note = options.output / NOTE
    before = note.read_text(encoding="utf-8").strip() if note.is_file() else kind
    if before != kind:
        raise ValueError(f"{options.output} has images {before!r}, now they would be {kind!r}; choose another --output")
    write_atomically(note, lambda file: file.write(f"{kind}\n".encode()))


def _folders(options: PrepareOptions, shrink: Shrink) -> dict[str, Callable[[], Done]]:
    """What is to be done for class folders, by split."""
    steps: dict[str, Callable[[], Done]] = {}
    train, val, truth = options.train, options.val, options.truth
    if train is not None:
        steps["train"] = lambda: extract_train(train, options.output / "train", shrink)
    if val is not None and truth is not None:
        steps["val"] = lambda: extract_val(val, read_truth(truth), options.output / "val", shrink)
    return steps


def _shards(options: PrepareOptions, shrink: Shrink) -> dict[str, Callable[[], Done]]:
    """What is to be done for shards, by split; the sources have been looked through then."""
    splits: dict[str, Split] = {}
    if options.folders is not None:
        for name, found in zip(("train", "val"), find_splits(options.folders)):
            splits[name] = folder_split(found, options.folders / name, name)
    if options.train is not None:
        splits["train"] = train_split(options.train)
    if options.val is not None and options.truth is not None:
        classes = splits["train"].classes if "train" in splits else _classes_before(options.output / "train")
        splits["val"] = val_split(options.val, read_truth(options.truth), classes)
    if "train" in splits:
        splits["train"] = splits["train"].shuffled()
    return {name: lambda name=name: _write(splits[name], options, name, shrink) for name in splits}  # type: ignore[misc]


def _classes_before(folder: Path) -> tuple[str, ...] | None:
    """Classes of the training shards that are there already, whose labels the validation images get too."""
    return ShardSet.open(folder).classes if (folder / INDEX).is_file() else None


def _write(split: Split, options: PrepareOptions, name: str, shrink: Shrink) -> Done:
    assert options.shard_size is not None
    limit, made_as = round(options.shard_size * 1e6), str(options.short_side)
    unread = write_shards(split, options.output / name, limit=limit, shrink=shrink, made_as=made_as)
    return Done(len(split.images), len({image.label for image in split.images}), unread)


def _told(done: Done, split: str, images: int, options: PrepareOptions, say: Callable[[str], None]) -> bool:
    """Says what is there; whether it is what ILSVRC2012 has, where its archives were the source."""
    say(f"{split}: {done.images:,} images of {done.classes:,} classes in {options.output / split}")
    if done.unread:
        say(f"{split}: {len(done.unread)} images do not decode and were copied as they are (first: {done.unread[0]})")
    right = done.images == images and done.classes == CLASSES
    if options.any_counts or options.folders is not None:
        return True
    if not right:
        say(
            f"error: {split}: ILSVRC2012 has {images:,} images of {CLASSES:,} classes; get the archive again, or, for "
            "other data, give --any-counts"
        )
    return right
