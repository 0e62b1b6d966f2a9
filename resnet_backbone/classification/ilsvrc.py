"""From ILSVRC2012's original tar files to class folders, once: images are copied bit for bit, or made smaller."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from resnet_backbone.classification.archives import content_of, files_of, opened
from resnet_backbone.classification.ilsvrc_truth import read_truth
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.progress import Progress
from resnet_backbone.images.decode import open_image
from resnet_backbone.images.transforms import resize_shorter_side

CLASSES, TRAIN, VAL = 1000, 1_281_167, 50_000
QUALITY = 90
SUFFIXES = (".jpeg", ".jpg")
NOTE = "prepared.txt"
TOGETHER = 256
"""Validation images that are read before they are made smaller by several processes."""
Shrink = Callable[[Iterable[bytes]], Iterator[tuple[bytes, bool]]]


@dataclass(frozen=True)
class PrepareOptions:
    """What is prepared; see the tool's help.

    Attributes:
        train: tar of one tar a class.
        val: tar of the validation images.
        truth: their classes, see `read_truth`.
        short_side: smaller images are written: this shorter side, JPEG of quality 90. None copies.
        workers: processes that make them; 0 works in the main one.
        any_counts: other counts than ILSVRC2012's are no mistake.
    """

    output: Path
    train: Path | None = None
    val: Path | None = None
    truth: Path | None = None
    short_side: int | None = None
    workers: int = 0
    any_counts: bool = False


@dataclass
class _Done:
    """Counts of a split, and the images that do not decode (they are copied as they are)."""

    images: int = 0
    classes: int = 0
    unread: list[str] = field(default_factory=list)


def prepare(options: PrepareOptions, say: Callable[[str], None] = print) -> int:
    """Writes train/<synset>/*.JPEG and val/<synset>/*.JPEG below `options.output`; what is there already stays.

    Returns:
        0; 1 where the counts are not ILSVRC2012's.

    Raises:
        ValueError: an archive or truth that is none, is cut off, or does not fit; another short side than before.
        OSError: nothing can be written; started again, it goes on.
    """
    if options.train is None and options.val is None:
        raise ValueError("give --train ILSVRC2012_img_train.tar, or --val ILSVRC2012_img_val.tar with --truth, or both")
    if options.val is not None and options.truth is None:
        raise ValueError(
            f"--val {options.val}: its images lie in one folder; --truth says their classes "
            "(ILSVRC2012_devkit_t12.tar.gz, or LOC_val_solution.csv)"
        )
    _check_output(options)
    complete = True
    with _shrinking(options) as shrink:
        if options.train is not None:
            done = _train(options.train, options.output / "train", shrink)
            complete &= _told(done, "train", TRAIN, options, say)
        if options.val is not None and options.truth is not None:
            done = _val(options.val, read_truth(options.truth), options.output / "val", shrink)
            complete &= _told(done, "val", VAL, options, say)
    return 0 if complete else 1


def _check_output(options: PrepareOptions) -> None:
    """One folder holds images of one kind."""
    if options.short_side is not None and options.short_side < 32:
        raise ValueError(f"--short-side {options.short_side}: at least 32 pixels")
    kind = "as they are" if options.short_side is None else f"shorter side {options.short_side}, JPEG quality {QUALITY}"
    note = options.output / NOTE
    before = note.read_text(encoding="utf-8").strip() if note.is_file() else kind
    if before != kind:
        raise ValueError(f"{options.output} has images {before!r}, now they would be {kind!r}; choose another --output")
    write_atomically(note, lambda file: file.write(f"{kind}\n".encode()))


def _told(done: _Done, split: str, images: int, options: PrepareOptions, say: Callable[[str], None]) -> bool:
    """Says what is there; whether it is what ILSVRC2012 has."""
    say(f"{split}: {done.images:,} images of {done.classes:,} classes in {options.output / split}")
    if done.unread:
        say(f"{split}: {len(done.unread)} images do not decode and were copied as they are (first: {done.unread[0]})")
    right = done.images == images and done.classes == CLASSES
    if not right and not options.any_counts:
        say(
            f"error: {split}: ILSVRC2012 has {images:,} images of {CLASSES:,} classes; get the archive again, or, for "
            "other data, give --any-counts"
        )
    return right or options.any_counts


@contextmanager
def _shrinking(options: PrepareOptions) -> Iterator[Shrink]:
    """What makes images smaller, in the processes that were asked for."""
    one = partial(smaller, short_side=options.short_side)
    if options.short_side is None or not options.workers:
        yield lambda contents: map(one, contents)
        return
    with ProcessPoolExecutor(options.workers) as pool:
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


def _train(path: Path, output: Path, shrink: Shrink) -> _Done:
    """One folder a class, each there whole or not at all."""
    done = _Done()
    with opened(path) as outer:
        members = [member for member in files_of(outer, path) if member.name.endswith(".tar")]
        if not members:
            raise ValueError(f"{path}: holds no tar files, one a class, as ILSVRC2012_img_train.tar does")
        progress = Progress(len(members), "train, classes")
        for member in members:
            folder = output / Path(member.name).stem
            if not folder.is_dir():
                stream = outer.extractfile(member)
                assert stream is not None
                done.unread += _class(stream, f"{path}: {member.name}", folder, shrink)
            done.images += sum(1 for _ in folder.iterdir())
            done.classes += 1
            progress.step(images=f"{done.images}")
    return done


def _class(stream: IO[bytes], where: str, folder: Path, shrink: Shrink) -> list[str]:
    """Extracts one class's tar beside `folder`, which it then becomes; returns the images that do not decode."""
    half = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    unread = []
    with opened(where, stream) as inner:
        members = [member for member in files_of(inner, where) if member.name.lower().endswith(SUFFIXES)]
        contents = (content_of(inner, member, where) for member in members)
        for member, (content, read) in zip(members, shrink(contents), strict=True):
            name = Path(member.name).name  # only the name: an archive cannot say where a file goes
            (half / name).write_bytes(content)
            unread += [] if read else [name]
    if not members:
        raise ValueError(f"{where} holds no images; get the archive again")
    half.rename(folder)
    return unread


def _val(path: Path, synsets: Mapping[str, str] | list[str], output: Path, shrink: Shrink) -> _Done:
    """Validation images by the synset that the truth names."""
    done = _Done()
    with opened(path) as archive:
        found = (member for member in files_of(archive, path) if member.name.lower().endswith(SUFFIXES))
        members = {Path(member.name).name: member for member in found}
        names = sorted(members)
        if len(names) != len(synsets):
            raise ValueError(f"{path}: {len(names):,} images, but the truth is of {len(synsets):,}")
        if isinstance(synsets, list):
            synsets = {Path(name).stem: synset for name, synset in zip(names, synsets)}
        unknown = [name for name in names if Path(name).stem not in synsets]
        if unknown:
            raise ValueError(f"{path}: {unknown[0]} is not in the truth")
        files = {name: output / synsets[Path(name).stem] / name for name in names}
        progress = Progress(len(names), "val, images")
        for start in range(0, len(names), TOGETHER):
            some = names[start : start + TOGETHER]
            missing = [name for name in some if not files[name].is_file()]
            contents = (content_of(archive, members[name], path) for name in missing)
            for name, (content, read) in zip(missing, shrink(contents), strict=True):
                write_atomically(files[name], lambda stream, content=content: stream.write(content))  # type: ignore[misc]
                done.unread += [] if read else [name]
            for _ in some:
                progress.step()
    done.images = len(names)
    done.classes = len({file.parent for file in files.values()})
    return done
