"""Images into tar shards that WebDataset reads too, each there whole or not at all."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from resnet_backbone.classification.data.shard_index import INDEX, UNFINISHED, Shard, ShardSet
from resnet_backbone.classification.prepare.shard_sources import Image, Split
from resnet_backbone.classification.prepare.shrinking import TOGETHER, Shrink
from resnet_backbone.engine.atomic import remove_unfinished, write_atomically
from resnet_backbone.engine.progress import Progress


def write_shards(split: Split, folder: Path, *, limit: int, shrink: Shrink, made_as: str) -> list[str]:
    """Writes `folder/000000.tar` ... and, once all are there, `folder/index.json`; goes on behind whole shards.

    Args:
        limit: bytes at which a shard is full.
        made_as: what `shrink` does, to tell whether shards that are there are these.

    Returns:
        Keys of the images that could not be read and were copied, of those written now.

    Raises:
        ValueError: images of one name, shards of something else in the folder, or a source that is cut off.
        OSError: nothing can be written.
    """
    _check(split)
    index = _before(folder, _fingerprint(split, limit, made_as), split.classes)
    done = sum(shard.samples for shard in index.shards)
    progress = Progress(len(split.images), f"{split.name}, images", done=done)
    unread: list[str] = []
    contents = _contents(split.images[done:], shrink, unread)
    while done < len(split.images):
        path = folder / f"{len(index.shards):06}.tar"
        remove_unfinished(path)
        before = progress.done
        write_atomically(path, lambda file: _fill(file, contents, limit, progress))
        shard = Shard(path.name, progress.done - before, path.stat().st_size)
        done += shard.samples
        index = replace(index, shards=(*index.shards, shard))
        _save(index, folder / UNFINISHED)
    progress.close()
    if (folder / UNFINISHED).is_file():
        os.replace(folder / UNFINISHED, folder / INDEX)
    return unread


def _check(split: Split) -> None:
    """There is something to tell apart, and samples of one name could not be."""
    if len(split.classes) < 2:
        raise ValueError(f"{split.name}: has only the class {split.classes[0]!r}: a classifier needs at least two")
    seen: dict[str, Image] = {}
    for image in split.images:
        other = seen.setdefault(image.key, image)
        if other is not image:
            names = " and ".join(sorted(f"{each.key}.{each.ending}" for each in (image, other)))
            raise ValueError(
                f"{image.file}: {names} of {split.name} would have one name in the shards "
                "(dots count as underscores, endings not); rename one"
            )


def _fingerprint(split: Split, limit: int, made_as: str) -> str:
    digest = hashlib.sha256(f"{limit} {made_as} {split.classes}".encode())
    for image in split.images:
        digest.update(f"\n{image.key}.{image.ending} {image.label} {image.size}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _before(folder: Path, made_of: str, classes: tuple[str, ...]) -> ShardSet:
    """The shards that are there; from the first one that is missing on, all are written again."""
    path = next((folder / name for name in (INDEX, UNFINISHED) if (folder / name).is_file()), None)
    if path is None:
        return ShardSet(str(folder / INDEX), classes, (), made_of)
    index = ShardSet.open(path)
    if index.made_of != made_of:
        raise ValueError(f"{folder}: has shards of other images, classes or size; choose another --output")
    shards = [replace(shard, url=Path(shard.url).name) for shard in index.shards]
    whole = tuple(itertools.takewhile(lambda shard: _size(folder / shard.url) == shard.size, shards))
    index = replace(index, shards=whole)
    if len(whole) < len(shards):
        _save(index, folder / UNFINISHED) if whole else (folder / UNFINISHED).unlink(missing_ok=True)
        (folder / INDEX).unlink(missing_ok=True)
    return index


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else -1


def _save(index: ShardSet, path: Path) -> None:
    write_atomically(path, lambda file: file.write(index.to_json()))


def _contents(images: tuple[Image, ...], shrink: Shrink, unread: list[str]) -> Iterator[tuple[Image, bytes]]:
    """Images with what is written of them."""
    for start in range(0, len(images), TOGETHER):
        some = images[start : start + TOGETHER]
        for image, (content, read) in zip(some, shrink(image.read() for image in some), strict=True):
            unread += [] if read else [image.key]
            yield image, content


def _fill(file: BinaryIO, contents: Iterator[tuple[Image, bytes]], limit: int, progress: Progress) -> None:
    """One shard, of as many samples as it takes."""
    with tarfile.open(fileobj=file, mode="w") as archive:
        for image, content in contents:
            _add(archive, f"{image.key}.cls", str(image.label).encode())
            _add(archive, f"{image.key}.{image.ending}", content)
            progress.step()
            if file.tell() >= limit:
                break


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """A member without time and owner: the same images give the same shard."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
