"""Detectron2 v0.6's Python files out of the package registry, mended, as a wheel."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import tarfile
import tempfile
import zipfile
from pathlib import Path

from resnet_backbone.install import clients, patches
from resnet_backbone.install.clients import InstallError

SDIST = "pb1-detectron2==0.6"
SDIST_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
VERSION_PREFIX = "0.6+resnet.backbone."
VERSION = f"{VERSION_PREFIX}2"  # count up when the fixes change: older installations are then replaced
# v0.6's own list without what only caffe2 needed, and without the pins that no longer install.
REQUIRES = (
    "Pillow", "matplotlib", "pycocotools", "termcolor", "yacs>=0.1.8", "tabulate", "cloudpickle", "tqdm",
    "tensorboard", "fvcore>=0.1.5", "iopath>=0.1.7", "omegaconf>=2.1", "hydra-core>=1.1", "numpy", "black",
)  # fmt: skip
# Its setup.py would put these projects into the package.
PROJECTS = {
    "point_rend": "PointRend/point_rend",
    "deeplab": "DeepLab/deeplab",
    "panoptic_deeplab": "Panoptic-DeepLab/panoptic_deeplab",
}


def download_sdist(folder: Path) -> Path:
    """The pinned source from the registry that pip is set up for.

    Raises:
        InstallError: pip could not get it, or what it got has another hash.
    """
    missing = [name for name in ("torch", "setuptools") if importlib.util.find_spec(name) is None]
    if missing:
        raise InstallError(f"{SDIST} needs {' and '.join(missing)}; install that first (make install does)")
    wanted = folder / "sdist.txt"
    wanted.write_text(f"{SDIST} --hash=sha256:{SDIST_SHA256}\n")
    # pip runs the (verified) setup.py for its metadata, which imports torch: hence no isolation.
    options = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes"]
    command = [*clients.pip_command(), "download", "-q", *options, "-d", str(folder), "-r", str(wanted)]
    remedy = "check pip's settings, or run `make wheelhouse` elsewhere and pass the folder with --wheelhouse"
    clients.run(command, f"cannot download {SDIST} (remedy: {remedy})")
    return next(folder.glob("pb1*detectron2-0.6.tar.gz"))


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


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpacks the pinned source below `folder`, projects inside the package; returns the source's root.

    Raises:
        InstallError: not the pinned source.
    """
    check_hash(sdist)
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):  # not in the first releases of 3.10 and 3.11; the hash is checked
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)
    root = next(path for path in folder.iterdir() if path.is_dir())
    for name, place in PROJECTS.items():
        (root / "projects" / place).rename(root / "detectron2" / "projects" / name)
    return root


def build_wheel(sdist: Path, folder: Path) -> Path:
    """The wheel of the mended files, the same bytes whenever it is built.

    Raises:
        InstallError: not the pinned source. patches.PatchError: a fix does not fit.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = unpack(sdist, Path(scratch))
        patches.apply_all(root / "detectron2")
        members = [p for p in sorted((root / "detectron2").rglob("*")) if p.suffix in {".py", ".yaml"}]
        files = {path.relative_to(root).as_posix(): path.read_bytes() for path in members}
        info = f"detectron2-{VERSION}.dist-info"
        files[f"{info}/licenses/LICENSE"] = (root / "LICENSE").read_bytes()
    files[f"{info}/METADATA"] = _metadata().encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: resnet_backbone\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/top_level.txt"] = b"detectron2\n"
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = folder / f"detectron2-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, (2021, 11, 15, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return wheel


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _metadata() -> str:
    lines = [
        "Metadata-Version: 2.1",
        "Name: detectron2",
        f"Version: {VERSION}",
        "Summary: Detectron2 v0.6, Python files only, with fixes for current torch, numpy, Pillow and setuptools",
        "License: Apache-2.0",
        "Requires-Python: >=3.10",
        *(f"Requires-Dist: {name}" for name in REQUIRES),
    ]
    return "\n".join(lines) + "\n\nAssembled by resnet_backbone; no compiled operators.\n"
