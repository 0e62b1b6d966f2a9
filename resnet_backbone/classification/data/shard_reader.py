"""From a tar shard to its samples: WebDataset's convention, checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from tarfile import TarFile

from resnet_backbone.classification.data.archives import content_of, files_of, opened
from resnet_backbone.classification.data.shard_files import is_remote, open_bytes
from resnet_backbone.classification.data.shard_index import Shard, ShardSet
from resnet_backbone.images.listing import SUFFIXES

IMAGES = frozenset(suffix[1:] for suffix in SUFFIXES)
LABEL = "cls"
AGAIN = "copy the shard again, or write it again"


@dataclass(frozen=True)
class Labelled:
    """The files of one sample: an image as it is in the shard, its label and its key."""

    data: bytes
    label: int
    key: str


def read_shard(shards: ShardSet, number: int, wanted: Sequence[int]) -> Iterator[Labelled]:
    """Some samples of a shard, read from its start to the last of them.

    Args:
        number: of the shard.
        wanted: places of the samples in the shard, ascending.

    Raises:
        ValueError: a shard that is not there, is cut off or damaged, or holds more or fewer samples than the index
            says; a sample without an image or a label, or whose label is none of the classes.
    """
    shard, places, last = shards.shards[number], set(wanted), wanted[-1]
    mode = "r|" if is_remote(shard.url) else "r:"  # local files are passed over without being read
    found, key = 0, ""
    with open_bytes(shard.url, shard.size) as file, opened(shard.url, file, mode) as archive:  # type: ignore[arg-type]
        for place, (key, files) in enumerate(_samples(archive, shard, places)):
            if place in places:
                yield _labelled(key, files, shard, shards)
            if place == last < shard.samples - 1:
                return
            found = place + 1
    if found != shard.samples:
        raise ValueError(
            f"{shard.url}: ends after {found:,} samples ({key or 'none'}), but {shards.where} says {shard.samples:,}; "
            f"it is cut off or another one: {AGAIN}"
        )


def _samples(archive: TarFile, shard: Shard, places: set[int]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Keys, and files by their endings: members with the same key that follow each other; read at `places` only."""
    place, key = -1, ""
    files: dict[str, bytes] = {}
    for member in files_of(archive, shard.url):
        folder, slash, name = member.name.rpartition("/")
        stem, dot, ending = name.partition(".")
        if not stem or not dot:  # none of WebDataset's, as hidden files of some systems
            continue
        if folder + slash + stem != key:
            if key:
                yield key, files
            place, key, files = place + 1, folder + slash + stem, {}
        ending = ending.lower()
        if place in places and (ending in IMAGES or ending == LABEL):
            files[ending] = content_of(archive, member, shard.url)
    if key:
        yield key, files


def _labelled(key: str, files: dict[str, bytes], shard: Shard, shards: ShardSet) -> Labelled:
    where = f"{shard.url}: sample {key}"
    image = next((content for ending, content in files.items() if ending in IMAGES), None)
    if image is None:
        raise ValueError(f"{where} has no image ({', '.join(sorted(IMAGES))}); {AGAIN}")
    if LABEL not in files:
        raise ValueError(f"{where} has no label, a file {key}.{LABEL}; {AGAIN}")
    text = files[LABEL].decode(errors="replace").strip()
    if not text.isascii() or not text.isdigit() or int(text) >= len(shards.classes):
        raise ValueError(
            f"{where} has the label {text[:40]!r}, but {shards.where} names {len(shards.classes)} classes, "
            f"of labels 0 to {len(shards.classes) - 1}; correct its classes, or {AGAIN}"
        )
    return Labelled(image, int(text), key)
