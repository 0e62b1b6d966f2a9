"""How pip and uv are called: the package registry is whatever the user has set them up for."""

from __future__ import annotations

import ensurepip
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path


class InstallError(RuntimeError):
    """What could not be installed, why, and what to do."""


def pip_command() -> list[str]:
    """A pip that acts on this Python, also where the environment has none of its own (uv's have none).

    Raises:
        InstallError: there is no pip anywhere.
    """
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    outside = [p for p in os.get_exec_path() if Path(p) != Path(sys.executable).parent]
    for name in ("python3", "python"):
        python = shutil.which(name, path=os.pathsep.join(outside))
        # pip takes --python since 22.3.
        command = [python or "", "-m", "pip", "--python", sys.executable]
        if python and subprocess.run([*command, "--version"], capture_output=True).returncode == 0:
            return command
    wheel = _bundled_pip()
    if wheel is None:
        raise InstallError("no pip found: install it for any Python on the PATH (python3 -m ensurepip)")
    return [sys.executable, str(wheel / "pip")]


def _bundled_pip() -> Path | None:
    """The pip that comes with Python; a wheel of it runs without being installed."""
    system = sysconfig.get_config_var("WHEEL_PKG_DIR")
    folders = [Path(ensurepip.__file__).parent / "_bundled", *([Path(system)] if system else [])]
    return next((wheel for folder in folders for wheel in folder.glob("pip-*.whl")), None)


def uv_command() -> str | None:
    """uv: the one that `make` fetched, else one on the PATH."""
    own = Path(sys.prefix).parent / ".venv-uv" / "bin" / "uv"
    return str(own) if own.is_file() else shutil.which("uv")


def run(
    command: Sequence[str], what: str, *, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """Runs a client quietly and returns what it printed.

    Raises:
        InstallError: it failed; the message is `what` and the client's own last words.
    """
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=cwd,
        env=None if environment is None else {**os.environ, **environment},
    )  # fmt: skip
    if result.returncode:
        raise InstallError(f"{what}: {last_words(result.stderr or result.stdout)}")
    return result.stdout


def last_words(output: str) -> str:
    """The part of a client's output that says why it failed, in one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error:", "fatal:"))]
    return (errors or lines or ["it printed nothing"])[-1]


def install(arguments: Sequence[str], what: str) -> None:
    """Installs into this Python, with uv where it is there (faster), else with pip.

    Raises:
        InstallError: the client failed.
    """
    uv = uv_command()
    command = [uv, "pip", "install", "--python", sys.executable] if uv else [*pip_command(), "install"]
    run([*command, "-q", *arguments], what)


def uninstall(name: str) -> None:
    """Removes a distribution from this Python; nothing happens if it is not there."""
    uv = uv_command()
    options = ["--python", sys.executable, name] if uv else ["-y", name]
    command = [*([uv, "pip"] if uv else pip_command()), "uninstall", "-q", *options]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
