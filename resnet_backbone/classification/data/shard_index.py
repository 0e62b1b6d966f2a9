"""A split in WebDataset's tar shards: which there are, what each holds, and what the labels mean."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_backbone.classification.data.shard_files import is_remote, open_bytes

INDEX, UNFINISHED = "index.json", "unfinished.json"
"""What it is called, and until all shards of a split are written."""
KIND = "wids-shard-index-v1"
"""WebDataset's own format of an index, to which we add the classes."""
REMEDY = "tools/prepare_imagenet.py --shards writes one, and docs/data.md says how shards of others get one"


@dataclass(frozen=True)
class Shard:
    """One tar file: where it is, its number of samples, and its bytes where they are known."""

    url: str
    samples: int
    size: int | None = None


@dataclass(frozen=True)
class ShardSet:
    """The shards of one split.

    Attributes:
        where: the index, for messages.
        classes: their names in the order of the labels.
        made_of: what the shards were written of; empty where others wrote them.
    """

    where: str
    classes: tuple[str, ...]
    shards: tuple[Shard, ...]
    made_of: str = ""

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """The first sample's number of each shard, counted through all shards, and the number of all samples."""
        return np.cumsum([0, *(shard.samples for shard in self.shards)])

    @classmethod
    def open(cls, location: str | Path) -> ShardSet:
        """A split by the folder or address in which its `index.json` is, or by an index itself (`*.json`).

        Raises:
            ValueError: there is no index, it cannot be read, or it is none.
        """
        location = str(location)
        if "{" in location:
            raise ValueError(f"{location}: a pattern does not say what is in shards; give their index: {REMEDY}")
        if not location.endswith(".json"):
            location = f"{location.rstrip('/')}/{INDEX}"
        if not is_remote(location) and not Path(location).is_file():
            if Path(location).with_name(UNFINISHED).is_file():
                raise ValueError(
                    f"{Path(location).parent}: not all shards are written; start tools/prepare_imagenet.py again, "
                    "which goes on where it stopped"
                )
            raise ValueError(f"{location}: no such file; {REMEDY}")
        with open_bytes(location) as file:
            return cls.parse(file.read(), location)

    @classmethod
    def parse(cls, text: bytes, where: str) -> ShardSet:
        """An index's text, with the places of its shards beside `where`.

        Raises:
            ValueError: it is none.
        """
        try:
            read = json.loads(text)
            shards = tuple(
                Shard(_beside(where, each["url"]), int(each["nsamples"]), _known(each.get("filesize")))
                for each in read["shardlist"]
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{where}: not an index of shards ({KIND}); {REMEDY}") from None
        classes = read.get("classes")
        if not isinstance(classes, list) or len(classes) < 2:
            raise ValueError(f'{where}: names no two classes; add "classes": ["name of label 0", "of label 1", ...]')
        if not shards or min(shard.samples for shard in shards) < 1:
            raise ValueError(f"{where}: has no shards, or one without samples; {REMEDY}")
        return cls(where, tuple(map(str, classes)), shards, str(read.get("made_of", "")))

    def to_json(self) -> bytes:
        """The index's text, for a file in the folder of the shards, which it calls by their names."""
        shards = [
            {"url": Path(shard.url).name, "nsamples": shard.samples, "filesize": shard.size} for shard in self.shards
        ]
        made = {"__kind__": KIND, "wids_version": 1, "shardlist": shards}
        return json.dumps({**made, "classes": self.classes, "made_of": self.made_of}, indent=1).encode()


def open_splits(root: str | Path) -> tuple[ShardSet, ShardSet]:
    """Training and validation shards at `root`, a folder or an address, with `train/index.json` and `val/index.json`.

    Raises:
        ValueError: as `ShardSet.open`, or the splits differ in their classes.
    """
    train, val = (ShardSet.open(f"{str(root).rstrip('/')}/{split}") for split in ("train", "val"))
    if train.classes != val.classes:
        raise ValueError(f"{val.where}: other classes than {train.where}; write both again from the same classes")
    return train, val


def _known(number: object) -> int | None:
    return None if number is None else int(str(number))


def _beside(where: str, url: str) -> str:
    """The place of a shard that an index names, relative to the index or not."""
    if is_remote(url):
        return url
    return f"{where.rpartition('/')[0]}/{url}" if is_remote(where) else str(Path(where).parent / url)
