"""What a pretraining run needs to go on, in a file that `torch.load(weights_only=True)` reads."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_backbone.classification.data.splits import Data, Streamed
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.engine import checkpoint as engine
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.checkpoint import Part

# These may differ between the run and its continuation without changing what is learnt (but see `_free`).
FREE = {
    "workers",
    "cache",
    "device",
    "data",
    "test_every",
    "save_every",
    "keep",
    "compile",
    "capture",
    "reader",
    "wandb",
    "broken_images",
}
REMEDY = "start anew with --overwrite"
DEFAULTS = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
"""What an older run means by keys that it did not know."""


def save_state(
    path: Path,
    parts: Mapping[str, Part],
    iteration: int,
    config: TrainConfig,
    data: Data,
    tested: int,
    processes: int,
) -> None:
    """Writes the state after `iteration` whole iterations.

    Raises:
        OSError: the disk is full; an older file stays.
    """
    facts = {"iteration": iteration, "tested": tested, "classes": list(data.classes), "images": len(data.train)}
    facts |= {"processes": processes, "streamed": isinstance(data.train, Streamed)}
    engine.save_state(path, parts, config=dataclasses.asdict(config), **facts)


def keep_last(path: Path, iteration: int, count: int) -> None:
    """Before a checkpoint is replaced: keeps it under a name with its iteration, and the newest `count` such.

    Later ones, which are there after a run was set back to an earlier one, are neither counted nor touched.

    Args:
        iteration: of the checkpoint that is there.
    """
    if not count or not path.exists():
        return
    named = path.with_name(f"{path.stem}_{iteration:08d}{path.suffix}")
    named.unlink(missing_ok=True)
    try:
        os.link(path, named)  # no room, no time; `path` gets another file, so that none is changed by writing into it
    except OSError:  # a file system without links
        with path.open("rb") as file:
            write_atomically(named, lambda copy: shutil.copyfileobj(file, copy))
    for old in [one for one in kept(path) if one.name <= named.name][:-count]:
        old.unlink()


def kept(path: Path) -> list[Path]:
    """What `keep_last` has left beside `path`, from the oldest on."""
    return sorted(path.parent.glob(f"{path.stem}_{'[0-9]' * 8}{path.suffix}"))


def read_run(path: Path, config: TrainConfig, data: Data, processes: int) -> dict[str, Any]:
    """The state that a run with `config` goes on from.

    Raises:
        ValueError: not such a file, or one of another recipe, other classes or images, or another cut of the batch.
    """
    older = kept(path)
    remedy = f"copy {older[-1].name} over it to go on from there, or {REMEDY}" if older else REMEDY
    state = engine.read_state(path, ("iteration", "tested", "config", "classes", "images", "processes"), remedy)
    before, now = {**DEFAULTS, **state["config"]}, dataclasses.asdict(config)
    if before.get("network") != config.network:
        raise ValueError(f"{path}: a checkpoint of {before.get('network')}, not of {config.network}; {REMEDY}")
    for key in now:
        if not _free(key, config) and before.get(key) != now[key]:
            raise ValueError(
                f"{path}: the run was begun with {key} {before.get(key)!r}, now it is {now[key]!r}; a run cannot be "
                f"changed half-way: give the old value, or {REMEDY}"
            )
    _refuse_other_data(path, state, data)
    parts = int(before["accumulate"]) * int(state["processes"])
    if parts != config.accumulate * processes:
        raise ValueError(
            f"{path}: the batch was cut into {parts} parts, now into {config.accumulate * processes} (processes times "
            f"accumulate), which batch norm would notice; keep the product, or {REMEDY}"
        )
    readers = int(state["processes"]), int(before["workers"])
    if isinstance(data.train, Streamed) and readers != (processes, config.workers):
        raise ValueError(
            f"{path}: shards were read by {readers[0]} processes with workers {readers[1]}, now by {processes} with "
            f"{config.workers}, in another order; keep both, or {REMEDY}"
        )
    return state


def _free(key: str, config: TrainConfig) -> bool:
    if key == "test_every":  # the plateau rule looks at every test
        return config.schedule != "plateau"
    if key == "accumulate":  # whose product with the processes is looked at; but SyncBN sees all processes' parts
        return config.norm != "SyncBN"
    return key in FREE


def _refuse_other_data(path: Path, state: Mapping[str, Any], data: Data) -> None:
    before, streamed = tuple(state["classes"]), isinstance(data.train, Streamed)
    said = ""
    if len(before) != len(data.classes):
        said = f"{len(before)} classes, the data have {len(data.classes)}"
    elif before != data.classes:
        old, new = next(pair for pair in zip(before, data.classes, strict=True) if pair[0] != pair[1])
        said = f"the class {old!r} where the data have {new!r}"
    elif state["images"] != len(data.train):
        said = f"{state['images']:,} training images, the data have {len(data.train):,}, in another order then"
    elif state.get("streamed", streamed) != streamed:  # older checkpoints do not say
        kinds = "image files", "tar shards"
        said = f"{kinds[not streamed]}, the data are {kinds[streamed]}, in another order then"
    if said:
        raise ValueError(f"{path}: the run was begun with {said}; give the data of then, or {REMEDY}")
