"""What a run ran on: this machine, this environment, and where the test data are."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def data_folder() -> Path:
    """$RESNET_BACKBONE_DATA, by default the folder that the tests use.

    Raises:
        ValueError: it is not there.
    """
    folder = Path(os.environ.get("RESNET_BACKBONE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        raise ValueError(f"real data not found: no folder {folder} (set RESNET_BACKBONE_DATA)")
    return folder


def hardware() -> dict[str, Any]:
    """CPU model, cores of the machine, cores this process may use, torch's threads, and the GPU."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "cores_used": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    family = f" (family {facts['cpu family']}, model {facts['model']})" if "cpu family" in facts else ""
    return facts.get("model name", platform.machine()) + family


@functools.cache
def versions() -> dict[str, str]:
    """Of what the numbers depend on, as at the first call: make it before a long run, since the tree moves on."""
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": importlib.metadata.version("torchvision"),
        "detectron2": _detectron2(),
        "numpy": importlib.metadata.version("numpy"),
        "resnet_backbone": commit(),
    }


def _detectron2() -> str:
    from resnet_backbone.install.detectron2 import installed

    there = installed()
    if there is None:
        return "none"
    # An own build's origin ends in its folder, which is this machine's business.
    origin = re.sub(r" \(/[^)]*\)", "", there.origin)
    return f"{there.version}, {origin}; {'with' if there.compiled else 'without'} compiled operators"


def commit() -> str:
    """The commit of this repository, and which parts of the package differ from it.

    A copy without git is told by $RESNET_BACKBONE_COMMIT.
    """
    if told := os.environ.get("RESNET_BACKBONE_COMMIT"):
        return told
    try:
        head = _git("rev-parse", "--short=10", "HEAD").strip()
        changed = [line[3:] for line in _git("status", "--porcelain", "--", "resnet_backbone").splitlines()]
    except (OSError, subprocess.CalledProcessError):
        return f"{importlib.metadata.version('resnet-backbone')}, no git"
    rooms = sorted({"/".join(Path(name).parts[:2]) for name in changed})
    return f"{head}{', with changes in ' + ', '.join(rooms) if rooms else ''}"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout
