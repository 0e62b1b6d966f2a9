"""A run's folder: whether it may be begun in, and what an earlier run has left there."""

from __future__ import annotations

import shutil
from pathlib import Path

from resnet_backbone.classification.training.checkpoint import kept
from resnet_backbone.engine import group
from resnet_backbone.engine.checkpoint import CLASSIFIER
from resnet_backbone.engine.loop import LAST
from resnet_backbone.engine.room import disk, refuse

FINAL = CLASSIFIER
BEST = "model_best.safetensors"


def held(output: Path) -> list[str]:
    """What there is of a run, its older checkpoints too."""
    names = (LAST, FINAL, BEST, *(one.name for one in kept(output / LAST)))
    return [name for name in names if (output / name).exists()]


def begins(output: Path, resume: bool) -> bool:
    """Whether there is nothing to go on from."""
    return not (resume and (output / LAST).exists())


def refuse_held(output: Path, resume: bool, overwrite: bool) -> None:
    """Refuses a folder that holds a run, unless that is gone on with or given up.

    Raises:
        ValueError: says what to do; or it is no folder that can be written to.
    """
    refuse([disk(output, 0)])
    found = held(output)
    if found and not (resume or overwrite):
        raise ValueError(
            f"{output} holds a run: go on with --resume, begin anew with --overwrite, or choose another --output"
        )
    if resume and found and LAST not in found:
        older = kept(output / LAST)
        copied = f"copy {older[-1].name} to {LAST} to go on from there, " if older else ""
        raise ValueError(
            f"{output} holds {found[0]}, but no {LAST} to go on from: {copied}begin anew with --overwrite instead of "
            "--resume, or choose another --output"
        )


def clear(output: Path) -> None:
    """Takes away what an earlier run left, now that this one can begin; the first process does."""
    if group.is_main():
        earlier = [output / name for name in (LAST, FINAL, BEST, "metrics.jsonl", "broken_images.txt")]
        for old in (*earlier, *kept(output / LAST)):
            old.unlink(missing_ok=True)
        shutil.rmtree(output / "tensorboard", ignore_errors=True)
