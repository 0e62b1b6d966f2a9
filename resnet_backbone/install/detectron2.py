"""Installs Detectron2 where it is missing; leaves every installation that is there alone.

    python -m resnet_backbone.install.detectron2 [--wheelhouse DIR] [--source {auto,official,registry}]

Tries the official source at a pinned commit where a compiler and the network are there, else the Python files
of v0.6 from the package registry (no compiled operators), mended for today's libraries.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):  # run as a file, before the package is installed
    # This file's own folder would make it shadow the package that it looks for.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from resnet_backbone.install import patches
else:
    from resnet_backbone.install import patches

OFFICIAL = "https://github.com/facebookresearch/detectron2"
COMMIT = "02b5c4e295e990042a714712c21dc79b731e8833"
SDIST = "pb1-detectron2==0.6"
SDIST_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
VERSION = "0.6+resnet.backbone.1"
REQUIRES = (
    "Pillow", "matplotlib", "pycocotools", "termcolor", "yacs>=0.1.8", "tabulate", "cloudpickle", "tqdm",
    "tensorboard", "fvcore>=0.1.5", "iopath>=0.1.7", "omegaconf>=2.1", "hydra-core>=1.1", "numpy",
)  # fmt: skip
WITHOUT = "without compiled operators: deformable convolution, rotated boxes and the C++ COCO evaluation are missing"


class InstallError(RuntimeError):
    """Why Detectron2 could not be installed, and what to do."""


@dataclass(frozen=True)
class Installed:
    """The Detectron2 of this Python."""

    version: str
    origin: str
    compiled: bool


def installed() -> Installed | None:
    """What is there, without importing it; None if nothing is."""
    spec = importlib.util.find_spec("detectron2")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    try:
        version = importlib.metadata.version("detectron2")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    compiled = any(folder.glob("_C*.so")) or any(folder.glob("_C*.pyd"))
    if version == VERSION:
        origin = "v0.6's Python files, installed by resnet_backbone"
    elif (Path(sys.prefix) / "conda-meta").is_dir() and any((Path(sys.prefix) / "conda-meta").glob("detectron2-*")):
        origin = "conda-forge"
    else:
        origin = f"own installation at {folder}"
    return Installed(version, origin, compiled)


def check_hash(path: Path) -> None:
    """Refuses a source that is not the pinned one.

    Raises:
        InstallError: another hash.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SDIST_SHA256:
        raise InstallError(
            f"{path}: sha256 {digest} instead of {SDIST_SHA256}; the file is damaged or not the pinned source. "
            "Delete it and run again"
        )


def download_sdist(folder: Path) -> Path:
    """The pinned source from the package registry that pip is set up for.

    Raises:
        InstallError: pip could not get it.
    """
    # pip runs the sdist's setup.py for its metadata, which imports torch: hence no isolation, in this Python.
    command = [*pip_command(), "download", "-q", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
    result = subprocess.run([*command, "-d", str(folder), SDIST], capture_output=True, text=True)
    found = sorted(folder.glob("pb1*detectron2-0.6.tar.gz"))
    if not found:
        reason = (result.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise InstallError(
            f"cannot download {SDIST}: {reason}. Remedy: check pip's settings, or on a machine with network run "
            "`make wheelhouse` and pass the folder with --wheelhouse"
        )
    return found[0]


def pip_command() -> list[str]:
    """A pip that acts on this Python, also where the environment has none of its own (uv)."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    for name in ("python3", "python"):
        outer = shutil.which(name, path=os.pathsep.join(_path_outside()))
        if outer and subprocess.run([outer, "-m", "pip", "--version"], capture_output=True).returncode == 0:
            return [outer, "-m", "pip", "--python", sys.executable]
    raise InstallError("no pip found: install pip for any Python on the PATH, or `python -m ensurepip`")


def _path_outside() -> list[str]:
    own = Path(sys.executable).parent
    return [p for p in os.environ.get("PATH", "").split(os.pathsep) if p and Path(p) != own]


def build_wheel(sdist: Path, folder: Path) -> Path:
    """The wheel of v0.6's mended Python files, built from `sdist` into `folder`.

    Raises:
        InstallError: not the pinned source. patches.PatchError: a fix does not fit.
    """
    check_hash(sdist)
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(sdist) as archive:
            archive.extractall(scratch, filter="data")
        root = next(Path(scratch).iterdir())
        package = root / "detectron2"
        patches.apply_all(package)
        info = f"detectron2-{VERSION}.dist-info"
        files = {f"detectron2/{p.relative_to(package).as_posix()}": p.read_bytes() for p in _members(package)}
        files[f"{info}/licenses/LICENSE"] = (root / "LICENSE").read_bytes()
    files[f"{info}/METADATA"] = _metadata().encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: resnet_backbone\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/top_level.txt"] = b"detectron2\n"
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = folder / f"detectron2-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive_out:
        for name, data in files.items():
            # A fixed date makes the wheel the same file whenever it is built.
            archive_out.writestr(zipfile.ZipInfo(name, (2021, 11, 15, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return wheel


def _members(package: Path) -> list[Path]:
    return sorted(p for p in package.rglob("*") if p.is_file() and p.suffix in {".py", ".yaml", ".json"})


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _metadata() -> str:
    lines = [
        "Metadata-Version: 2.1",
        "Name: detectron2",
        f"Version: {VERSION}",
        "Summary: Detectron2 v0.6, Python files only, with fixes for current torch, numpy, Pillow and setuptools",
        f"Home-page: {OFFICIAL}",
        "License: Apache-2.0",
        "Requires-Python: >=3.10",
        *(f"Requires-Dist: {name}" for name in REQUIRES),
    ]
    return "\n".join(lines) + f"\n\nInstalled by resnet_backbone, {WITHOUT}.\n"


def install_wheel(wheel: Path) -> None:
    """Installs a wheel without its requirements, which are resnet_backbone's own.

    Raises:
        InstallError: the installer failed; its last line is in the message.
    """
    uv = shutil.which("uv") or next(iter(map(str, Path(sys.prefix).parent.glob(".venv-uv/bin/uv"))), None)
    command = [uv, "pip", "install", "-q", "--python", sys.executable] if uv else [*pip_command(), "install", "-q"]
    result = subprocess.run([*command, "--no-deps", str(wheel)], capture_output=True, text=True)
    if result.returncode:
        raise InstallError(f"cannot install {wheel.name}: {(result.stderr.strip().splitlines() or ['no reason'])[-1]}")


def install_official() -> bool:
    """Builds the official source at the pinned commit; False where it or a compiler cannot be reached."""
    if not (shutil.which("git") and shutil.which("c++") and importlib.util.find_spec("torch")):
        return False
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        probe = subprocess.run(["git", "ls-remote", OFFICIAL, "HEAD"], capture_output=True, timeout=15, env=environment)
    except subprocess.TimeoutExpired:
        return False
    if probe.returncode:
        return False
    print(f"building Detectron2 from {OFFICIAL} at {COMMIT[:7]}: some minutes", flush=True)
    source = f"detectron2 @ git+{OFFICIAL}@{COMMIT}"
    result = subprocess.run([*pip_command(), "install", "--no-build-isolation", "--no-deps", source])
    return result.returncode == 0


def install(source: str = "auto", wheelhouse: Path | None = None) -> Installed:
    """Makes sure that Detectron2 is there.

    Args:
        source: "official" (build from its repository), "registry" (Python files of v0.6), or "auto": the first
            that works.
        wheelhouse: a folder made by `make wheelhouse`; nothing is downloaded then.

    Raises:
        InstallError: nothing worked; the message says what to do.
    """
    present = installed()
    if present is not None:
        return present
    if wheelhouse is not None:
        wheels = sorted(wheelhouse.glob("detectron2-*.whl"))
        if not wheels:
            raise InstallError(f"{wheelhouse}: no detectron2-*.whl there; make the folder with `make wheelhouse`")
        install_wheel(wheels[-1])
    elif not (source in ("auto", "official") and install_official()):
        if source == "official":
            raise InstallError(f"cannot build {OFFICIAL}: needs network, git, a C++ compiler and torch")
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            install_wheel(build_wheel(download_sdist(folder), folder))
    importlib.invalidate_caches()
    done = installed()
    if done is None:
        raise InstallError("Detectron2 was installed but Python does not find it: is this the right environment?")
    return done


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheelhouse", type=Path, help="install from this folder alone, without network")
    parser.add_argument("--source", choices=("auto", "official", "registry"), default="auto")
    parser.add_argument("--check", action="store_true", help="only say what is there")
    arguments = parser.parse_args(argv)
    try:
        found = installed() if arguments.check else install(arguments.source, arguments.wheelhouse)
    except (InstallError, patches.PatchError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if found is None:
        print("Detectron2 is not installed; run: python -m resnet_backbone.install.detectron2")
        return 1
    print(f"Detectron2 {found.version} ({found.origin}){'' if found.compiled else ', ' + WITHOUT}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
