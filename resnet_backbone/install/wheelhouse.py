"""Collects the wheels that a machine without network lacks into one folder.

    python -m resnet_backbone.install.wheelhouse --python 3.12 --platform manylinux_2_28_x86_64 [--output DIR]

It holds everything that resnet_backbone needs but torch and torchvision (and what belongs to them): such a machine
has those for its own driver. Needs uv, since only it can resolve for another Python and platform.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from resnet_backbone.install import clients, patched, patches
from resnet_backbone.install.clients import InstallError

PROVIDED = ("torch", "torchvision")
# These have no wheels in the registry; they hold Python only, so that any machine can build them for any other.
SOURCE_ONLY = ("fvcore", "iopath", "antlr4-python3-runtime")
# What installing from a checkout needs besides.
BUILD = ("setuptools>=77", "wheel")
ROOT = Path(__file__).resolve().parents[2]


def requirements(extras: Sequence[str] = ()) -> list[str]:
    """What resnet_backbone requires, as its installed metadata says, without what the machine has."""
    wanted = []
    for line in importlib.metadata.requires("resnet-backbone") or []:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        name = re.split(r"[<>=!~ \[]", requirement, maxsplit=1)[0].lower()
        extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", marker)
        if name not in PROVIDED and (extra is None or extra[1] in extras):
            wanted.append(requirement)
    return [*wanted, *BUILD]


def uv_platform(platform: str) -> str:
    """uv's name of a wheel platform: `manylinux_2_28_x86_64` is its `x86_64-manylinux_2_28`.

    Raises:
        InstallError: not a manylinux platform.
    """
    match = re.fullmatch(r"(manylinux2014|manylinux_2_\d+)_(x86_64|aarch64)", platform)
    if match is None:
        raise InstallError(
            f"platform {platform!r} is not known; write manylinux2014_ or manylinux_2_NN_ and x86_64 or aarch64, "
            "for example manylinux_2_28_x86_64 (`ldd --version` on that machine says its 2.NN)"
        )
    return f"{match[2]}-{match[1]}"


def platform_tags(platform: str) -> list[str]:
    """The platform and all older ones whose wheels run on it, newest first."""
    architecture = platform.split("_", 1)[1] if platform.startswith("manylinux2014") else platform.split("_", 3)[3]
    newest = 17 if platform.startswith("manylinux2014") else int(platform.split("_")[2])
    tags = [f"manylinux_2_{minor}_{architecture}" for minor in range(newest, 4, -1)]
    return [*tags, *(f"{old}_{architecture}" for old in ("manylinux2014", "manylinux2010", "manylinux1"))]


def resolve(python: str, platform: str, wanted: Sequence[str]) -> list[str]:
    """The exact versions (`name==version`) for that Python and platform, held to constraints.txt.

    Raises:
        InstallError: no uv, or no such versions.
    """
    uv = clients.uv_command()
    if uv is None:
        raise InstallError("uv is missing; remedy: `make wheelhouse`, which fetches it, or `pip install uv`")
    with tempfile.TemporaryDirectory() as scratch:
        listing = Path(scratch, "requirements.in")
        listing.write_text("\n".join(wanted) + "\n")
        # timm asks for torch; a requirement that never applies takes its place.
        overrides = Path(scratch, "overrides.txt")
        overrides.write_text("".join(f"{name}; sys_platform == 'none'\n" for name in PROVIDED))
        constraints = ROOT / "constraints.txt"
        held = ["-c", str(constraints)] if constraints.is_file() else []
        target = ["--python-version", python, "--python-platform", uv_platform(platform)]
        held += ["--override", str(overrides)]
        command = [uv, "pip", "compile", "-q", "--no-header", "--no-annotate", *target, *held, str(listing)]
        output = clients.run(command, f"nothing fits Python {python} on {platform}")
    return [line.split(";")[0].strip() for line in output.splitlines() if "==" in line]


def collect(python: str, platform: str, folder: Path, extras: Sequence[str] = ()) -> list[Path]:
    """Fills `folder`; returns its wheels.

    Raises:
        InstallError: something cannot be had for that Python and platform; the message names it.
    """
    if not re.fullmatch(r"3\.\d+", python) or int(python[2:]) < 10:
        raise InstallError(f"Python {python!r} is not supported; write 3.10 or newer, for example 3.12")
    pinned = resolve(python, platform, requirements(extras))
    folder.mkdir(parents=True, exist_ok=True)
    pip = clients.pip_command()
    from_source = [pin for pin in pinned if pin.split("==")[0] in SOURCE_ONLY]
    build = [*pip, "wheel", "-q", "--no-deps", "-w", str(folder)]
    for pin in from_source:
        clients.run([*build, pin], f"cannot build {pin}")
    ready = [pin for pin in pinned if pin not in from_source]
    tags = [argument for tag in platform_tags(platform) for argument in ("--platform", tag)]
    target = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python, *tags]
    command = [*pip, "download", "-q", "--no-deps", *target, "-d", str(folder), *ready]
    clients.run(command, f"a wheel for Python {python} on {platform} is missing")
    with tempfile.TemporaryDirectory() as scratch:
        patched.build_wheel(patched.download_sdist(Path(scratch)), folder)
    if (ROOT / "setup.py").is_file():
        clients.run([*build, str(ROOT)], "cannot build resnet_backbone's own wheel")
    return sorted(folder.glob("*.whl"))


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="3.12", metavar="3.NN", help="that machine's Python (default 3.12)")
    parser.add_argument("--platform", default="manylinux_2_28_x86_64", help="default manylinux_2_28_x86_64")
    parser.add_argument("--output", type=Path, default=Path("wheelhouse"), metavar="DIR", help="default: wheelhouse")
    parser.add_argument("--extras", default="", help="extras of ours to add, by commas: dev,eval")
    arguments = parser.parse_args(argv)
    extras = [extra for extra in arguments.extras.split(",") if extra]
    try:
        wheels = collect(arguments.python, arguments.platform, arguments.output, extras)
    except (InstallError, patches.PatchError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = sum(wheel.stat().st_size for wheel in wheels) / 1e6
    print(
        f"{len(wheels)} wheels, {size:.0f} MB, in {arguments.output}, for Python {arguments.python} on "
        f"{arguments.platform} with its own torch and torchvision.\n"
        f"There, in a checkout: make install WHEELHOUSE={arguments.output}\n"
        "or in an environment of yours: "
        f"pip install --no-index --find-links {arguments.output} resnet-backbone detectron2"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
