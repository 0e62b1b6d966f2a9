"""Runs of ours beside runs of stock Detectron2: one folder a run, a finished one is not done again."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import data_folder, versions


def folder(runs: Path, who: str, seed: int) -> Path:
    """Where one run is."""
    return runs / f"{who}-seed{seed}"


def finished(output: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is written of a run that is done; None where there is none, or it was done with other settings."""
    try:
        done: dict[str, Any] = json.loads((output / "done.json").read_text())
    except OSError:
        return None
    return done if done["settings"] == dict(settings) else None


def train(output: Path, who: str, config: str, settings: Mapping[str, Any], options: Sequence[object]) -> None:
    """One run in a process of its own: "stock" by stock Detectron2, anything else by tools/train_net.py.

    Args:
        settings: config keys with their values, written down beside the result.
        options: more keys and values, of this run alone.
    """
    stock = who == "stock"
    command = [sys.executable, *(["-m", "benchmarks.stock_detectron2"] if stock else ["tools/train_net.py"])]
    command += [] if stock else ["--overwrite"]
    command += ["--config", config, "--output", str(output), *map(str, options)]
    command += [str(part) for pair in settings.items() for part in pair]
    versions()  # a checkout that changes during the run would name another commit
    began = time.monotonic()
    subprocess.run(command, check=True, env={**os.environ, "DETECTRON2_DATASETS": str(data_folder().resolve())})
    done = {"seconds": round(time.monotonic() - began), "settings": dict(settings), "versions": dict(versions())}
    (output / "done.json").write_text(json.dumps({**done, "date": datetime.date.today().isoformat()}))
