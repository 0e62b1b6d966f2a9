"""Detectron2's official source at a pinned commit, built for the torch that is there."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from resnet_backbone.install import clients, patches
from resnet_backbone.install.clients import InstallError

REPOSITORY = "https://github.com/facebookresearch/detectron2"
COMMIT = "02b5c4e295e990042a714712c21dc79b731e8833"
VERSION = f"0.6+{COMMIT[:7]}"
REACHED_WITHIN = 10  # seconds


def build_and_install() -> None:
    """Fetches, builds (minutes) and installs it.

    Raises:
        InstallError: it cannot be reached, no compiler is there, or the build failed; nothing is left of it.
    """
    check_tools()
    with tempfile.TemporaryDirectory() as scratch:
        source = fetch(Path(scratch))
        print(f"building Detectron2 {VERSION} from {REPOSITORY}: some minutes", flush=True)
        # Its setup.py imports torch, which a build in isolation does not have.
        command = [*clients.pip_command(), "install", "--no-build-isolation", "--no-deps", str(source)]
        clients.run(command, "its build failed", environment={"D2_VERSION_SUFFIX": f"+{COMMIT[:7]}"})


def check_tools() -> None:
    """What a build needs.

    Raises:
        InstallError: something is missing, by name.
    """
    compiler = os.environ.get("CXX", "c++")
    missing = [tool for tool in ("git", compiler) if not shutil.which(tool)]
    missing += [module for module in ("torch", "setuptools") if importlib.util.find_spec(module) is None]
    if missing:
        raise InstallError(f"it needs {' and '.join(missing)}")


def fetch(folder: Path) -> Path:
    """The source at the pinned commit, in a new folder below `folder`.

    Raises:
        InstallError: the repository cannot be reached, or not within `REACHED_WITHIN` seconds.
    """
    quiet = {"GIT_TERMINAL_PROMPT": "0"}
    try:
        subprocess.run(
            ["git", "ls-remote", REPOSITORY, "HEAD"], timeout=REACHED_WITHIN, check=True,
            stdin=subprocess.DEVNULL, capture_output=True, env={**os.environ, **quiet},
        )  # fmt: skip
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        raise InstallError(f"{REPOSITORY} cannot be reached") from None
    source = folder / "detectron2"
    for arguments in (
        ["init", "-q", str(source)],
        ["-C", str(source), "fetch", "-q", "--depth", "1", REPOSITORY, COMMIT],
        ["-C", str(source), "checkout", "-q", "FETCH_HEAD"],
    ):
        clients.run(["git", *arguments], f"cannot fetch {REPOSITORY} at {COMMIT[:7]}", environment=quiet)
    # The one fix that its main branch does not have.
    for fix in patches.FIXES:
        if fix.why == patches.RESOURCES:
            patches.apply_fix(source / "detectron2", fix)
    return source
