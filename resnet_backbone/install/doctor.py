"""What this machine has for training, and one remedy for each thing that is wrong: `resnet-backbone doctor`."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    # Run as a file: detectron2.py beside it would shadow the package of that name, and resnet_backbone's own
    # import would import Detectron2, which may be what is broken.
    sys.path.pop(0)
    sys.modules["resnet_backbone"] = package = types.ModuleType("resnet_backbone")
    package.__path__ = [str(Path(__file__).resolve().parents[1])]

from resnet_backbone.install import detectron2 as installer

SHARED_MEMORY = Path("/dev/shm")
GIGABYTE = 1e9
# Data sets by the folder in which Detectron2 expects them.
DATA_SETS = ("coco", "VOC2007", "VOC2012", "lvis", "cityscapes", "balloon", "bccd", "imagenet_val", "cifar10")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        remedy: what to do; empty where nothing is wrong.
        stops: training cannot start before the remedy.
    """

    name: str
    value: str
    remedy: str = ""
    stops: bool = False


def diagnose() -> list[Finding]:
    """All findings, in the order in which a user would read them."""
    checks: tuple[Callable[[], list[Finding]], ...] = (
        _python, _torch, _torchvision, _cuda, _libraries, _detectron2, _data, _disk, _shared_memory,
    )  # fmt: skip
    return [finding for check in checks for finding in check()]


def load(name: str) -> Any:
    """Imports a module; its own error if it is missing or broken."""
    return importlib.import_module(name)


def _python() -> list[Finding]:
    old = sys.version_info < (3, 10)
    remedy = "install Python 3.10 or newer, then: make install PYTHON=python3.12" if old else ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [
        Finding("Python", f"{platform.python_version()} at {sys.executable}", remedy, stops=old),
        Finding("Machine", f"{platform.system()} {platform.machine()}, {cores} CPU cores"),
    ]


def _module(name: str, lowest: tuple[int, int], remedy: str) -> Finding:
    """Whether a module imports and is not too old."""
    try:
        version = str(load(name).__version__)
    except Exception as error:  # a broken build may raise anything
        return Finding(name, f"does not import ({_one_line(error)})", remedy, stops=True)
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())
    if numbers < lowest:
        return Finding(name, f"{version}, older than {lowest[0]}.{lowest[1]}", remedy, stops=True)
    return Finding(name, version)


def _one_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _torch() -> list[Finding]:
    return [_module("torch", (2, 11), "pip install 'torch>=2.11' 'torchvision>=0.26'")]


def _torchvision() -> list[Finding]:
    finding = _module("torchvision", (0, 26), "pip install the torchvision of the same date as torch")
    if finding.stops:
        return [finding]
    try:
        torch, operators = load("torch"), load("torchvision.ops")
        operators.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:
        remedy = "install torch and torchvision in one go: pip install 'torch>=2.11' 'torchvision>=0.26'"
        value = f"{finding.value} does not belong to this torch ({_one_line(error)})"
        return [Finding("torchvision", value, remedy, stops=True)]
    return [finding]


def _cuda() -> list[Finding]:
    try:
        torch = load("torch")
    except Exception:
        return []  # said by _torch
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        names = ", ".join(f"{device.name} ({device.total_memory / GIGABYTE:.0f} GB)" for device in devices)
        return [Finding("CUDA", f"{torch.version.cuda}, {len(devices)} GPU(s): {names}")]
    if not _has_gpu():
        return [Finding("CUDA", "no NVIDIA GPU here; training runs on the CPU, slowly (set MODEL.DEVICE cpu)")]
    if torch.version.cuda is None:
        remedy = "install a torch build with CUDA (its own site says which)"
        return [Finding("CUDA", f"torch {torch.__version__} is built without CUDA though a GPU is here", remedy)]
    remedy = f"update the NVIDIA driver, or install a torch for an older CUDA than {torch.version.cuda}"
    return [Finding("CUDA", "a GPU is here but torch cannot use it", remedy)]


def _has_gpu() -> bool:
    if shutil.which("nvidia-smi") is None:
        return False
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return listed.returncode == 0 and "GPU" in listed.stdout


def _libraries() -> list[Finding]:
    """The libraries that Detectron2 and we import; the good ones in one line."""
    good, bad = [], []
    for module, package in (
        ("numpy", "numpy"), ("PIL", "Pillow"), ("cv2", "opencv-python"), ("yaml", "PyYAML"), ("fvcore", "fvcore"),
        ("safetensors", "safetensors"), ("iopath", "iopath"), ("pycocotools.mask", "pycocotools"),
        ("omegaconf", "omegaconf"), ("hydra", "hydra-core"), ("matplotlib", "matplotlib"),
        ("tensorboard", "tensorboard"),
    ):  # fmt: skip
        try:
            load(module)
        except Exception as error:
            remedy = f"pip install {package}"
            if "libGL" in str(error):
                remedy = "pip uninstall opencv-python && pip install opencv-python-headless (or install libgl1)"
            bad.append(Finding(package, f"does not import ({_one_line(error)})", remedy, stops=True))
        else:
            good.append(f"{package} {_version(package)}".strip())
    return [*([Finding("Libraries", ", ".join(good))] if good else []), *bad]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _detectron2() -> list[Finding]:
    present = installer.installed()
    if present is None:
        remedy = "python -m resnet_backbone.install.detectron2"
        return [Finding("Detectron2", "not installed", remedy, stops=True)]
    findings = [Finding("Detectron2", f"{present.version}, {present.origin}")]
    try:
        for module in ("detectron2.model_zoo", "detectron2.engine", "detectron2.evaluation"):
            load(module)
    except Exception as error:
        remedy = "pip uninstall detectron2, then python -m resnet_backbone.install.detectron2"
        if "pkg_resources" in str(error):
            remedy = "pip install 'setuptools<82' (this build of Detectron2 still needs its pkg_resources)"
        value = f"{present.version} does not import ({_one_line(error)})"
        findings = [Finding("Detectron2", value, remedy, stops=True)]
    operators = "there" if present.compiled else f"not there; {installer.WITHOUT}"
    return [*findings, Finding("Its operators", operators)]


def _data() -> list[Finding]:
    """Where data sets are looked for, and which are there; none is needed for `make demo` or own data."""
    findings = []
    for name, default in (("DETECTRON2_DATASETS", "datasets"), ("RESNET_BACKBONE_DATA", "../shared/data")):
        folder = Path(os.environ.get(name, default)).expanduser()
        label = f"{name}={folder}" if name in os.environ else f"./{folder} ({name} not set)"
        if folder.is_dir():
            found = [known for known in DATA_SETS if (folder / known).is_dir()]
            findings.append(Finding("Data", f"{label}: {', '.join(found) or 'no data set known by its folder'}"))
        elif name in os.environ:
            findings.append(Finding("Data", f"{label}: no such folder", f"correct or unset {name}"))
        else:
            findings.append(Finding("Data", f"{label}: not there"))
    return findings


def _disk() -> list[Finding]:
    free = shutil.disk_usage(".").free / GIGABYTE
    value = f"{free:.1f} GB free in {Path.cwd()}"
    if not os.access(".", os.W_OK):
        return [Finding("Disk", f"{Path.cwd()} cannot be written to", "change to a folder of yours", stops=True)]
    if free < 1:
        return [Finding("Disk", value, "make room: a run writes 1 GB and more", stops=True)]
    remedy = "make room, or set OUTPUT_DIR elsewhere: checkpoints of a long run take some GB" if free < 10 else ""
    return [Finding("Disk", value, remedy)]


def _shared_memory() -> list[Finding]:
    if not SHARED_MEMORY.is_dir():
        return []  # not Linux
    free = shutil.disk_usage(SHARED_MEMORY).free / GIGABYTE
    remedy = "start the container with --shm-size=8g, or set DATALOADER.NUM_WORKERS 0" if free < 1 else ""
    return [Finding("Shared memory", f"{free:.1f} GB free in {SHARED_MEMORY}", remedy)]


def report(findings: list[Finding]) -> str:
    """The findings as aligned lines, remedies below what they are for, and the verdict."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        mark = "wrong" if finding.stops else "note " if finding.remedy else "ok   "
        lines.append(f"{mark}  {finding.name:<{width}}  {finding.value}")
        if finding.remedy:
            lines.append(f"{'':7}{'':{width}}  remedy: {finding.remedy}")
    stopping = [finding.name for finding in findings if finding.stops]
    verdict = f"Training cannot start: {', '.join(stopping)}." if stopping else "Training can start."
    return "\n".join([*lines, "", verdict])


def main() -> int:
    """Prints the findings; returns 0 if training can start, else 1."""
    findings = diagnose()
    print(report(findings))
    return 1 if any(finding.stops for finding in findings) else 0


if __name__ == "__main__":
    raise SystemExit(main())
