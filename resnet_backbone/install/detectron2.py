"""Installs Detectron2 where it is missing; leaves every installation that is there alone.

    python -m resnet_backbone.install.detectron2 [--check] [--source {auto,official,registry}] [--wheelhouse DIR]

Tries the official source at a pinned commit where git can reach it and a compiler is there, else takes the Python
files of v0.6 from the package registry (no compiled operators), mended for today's libraries.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import sys
import tempfile
import types
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):
    # Run as a file: its own folder would make it shadow the package that it looks for, and resnet_backbone's own
    # import would import Detectron2, which may be what is broken.
    sys.path.pop(0)
    sys.modules["resnet_backbone"] = package = types.ModuleType("resnet_backbone")
    package.__path__ = [str(Path(__file__).resolve().parents[1])]

from resnet_backbone.install import clients, official, patches
from resnet_backbone.install.clients import InstallError
from resnet_backbone.install.patched import VERSION, VERSION_PREFIX, build_wheel, download_sdist

WITHOUT = (
    "without compiled operators: deformable convolution, rotated boxes and the C++ COCO evaluation are missing; "
    "everything else works"
)
# What a user of Detectron2 does first; a build that cannot do it is no success.
FIRST_STEPS = (
    "import detectron2.data, detectron2.engine, detectron2.evaluation, detectron2.export; "
    "from detectron2 import model_zoo; "
    "model_zoo.get_config('COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml')"
)


@dataclass(frozen=True)
class Installed:
    """The Detectron2 of this Python.

    Attributes:
        origin: where it came from, in words.
        compiled: whether its compiled operators (`detectron2._C`) are there.
        outdated: it is ours, but of an older set of fixes.
    """

    version: str
    origin: str
    compiled: bool
    outdated: bool = False

    def __str__(self) -> str:
        operators = "with compiled operators" if self.compiled else WITHOUT
        return f"Detectron2 {self.version}, {self.origin}; {operators}"


def installed() -> Installed | None:
    """What is there, without importing it; None if nothing is."""
    importlib.invalidate_caches()
    spec = importlib.util.find_spec("detectron2")
    if spec is None or spec.origin is None:  # a mere folder of that name has no origin
        return None
    folder = Path(spec.origin).parent
    compiled = any(path.suffix in {".so", ".pyd"} for path in folder.glob("_C*"))
    distribution = _distribution_of(folder)
    if distribution is None:
        return Installed("of unknown version", f"a folder on the path without installation ({folder})", compiled)
    ours = distribution.version.startswith(VERSION_PREFIX)
    outdated = ours and distribution.version != VERSION
    return Installed(distribution.version, _origin(distribution, folder, ours), compiled, outdated)


def _distribution_of(package: Path) -> importlib.metadata.Distribution | None:
    """The installation that `package` belongs to; a folder earlier on the path hides another."""
    for distribution in importlib.metadata.distributions(name="detectron2"):
        editable = "editable" in (distribution.read_text("direct_url.json") or "")
        if editable or Path(str(distribution.locate_file("detectron2"))).resolve() == package.resolve():
            return distribution
    return None


def _origin(distribution: importlib.metadata.Distribution, folder: Path, ours: bool) -> str:
    if ours:
        return "v0.6's Python files from the package registry with our fixes"
    if (distribution.read_text("INSTALLER") or "").strip() == "conda":
        return "from conda"
    if distribution.version == official.VERSION:
        return f"built from the official source at {official.COMMIT[:7]}"
    direct = json.loads(distribution.read_text("direct_url.json") or "{}")
    commit = direct.get("vcs_info", {}).get("commit_id", "")[:7]
    # Tracking came after v0.6.
    age = "main branch" if (folder / "tracking").is_dir() else "v0.6"
    return f"your own build of its {age}" + (f" at {commit}" if commit else "") + f" ({folder})"


def install(source: str = "auto", wheelhouse: Path | None = None) -> Installed:
    """Makes sure that Detectron2 is there and works.

    Args:
        source: "official" (build from its repository), "registry" (Python files of v0.6), or "auto": the first
            of them that works.
        wheelhouse: a folder made by `make wheelhouse`; nothing is downloaded then.

    Raises:
        InstallError: nothing worked; the message says what to do.
        patches.PatchError: the source is not the one that the fixes are for.
    """
    present = installed()
    if present is not None and not present.outdated:
        return present
    if wheelhouse is not None:
        _from_wheelhouse(wheelhouse)
    elif source == "registry" or not _from_official(must=source == "official"):
        with tempfile.TemporaryDirectory() as scratch:
            install_wheel(build_wheel(download_sdist(Path(scratch)), Path(scratch)))
    clients.run([sys.executable, "-c", FIRST_STEPS], "Detectron2 was installed but does not import")
    done = installed()
    if done is None:
        raise InstallError("Detectron2 was installed but this Python does not find it; run `make install` again")
    return done


def install_wheel(wheel: Path) -> None:
    """Installs a wheel and what it requires.

    Raises:
        InstallError: the installer failed.
    """
    clients.install([str(wheel)], f"cannot install {wheel.name}")


def _from_wheelhouse(folder: Path) -> None:
    if not any(folder.glob("detectron2-*.whl")):
        raise InstallError(f"{folder}: no detectron2-*.whl there; make the folder with `make wheelhouse`")
    options = ["--no-index", "--find-links", str(folder)]
    # pip, not uv: only pip counts what an environment sees of the system's packages as installed.
    command = [*clients.pip_command(), "install", "-q", *options, "detectron2"]
    clients.run(command, f"cannot install Detectron2 from {folder}")


def _from_official(must: bool) -> bool:
    """Whether the build from the official source is there and works; says why not."""
    try:
        official.build_and_install()
        try:
            clients.run([sys.executable, "-c", FIRST_STEPS], "the build does not import")
        except InstallError:
            clients.uninstall("detectron2")
            raise
    except InstallError as error:
        if must:
            raise
        print(f"no build from the official source ({error}); taking the registry's Python files", flush=True)
        return False
    return True


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say what is there; exit code 1 if nothing is")
    parser.add_argument("--source", choices=("auto", "official", "registry"), default="auto")
    parser.add_argument("--wheelhouse", type=Path, metavar="DIR", help="install from this folder alone")
    arguments = parser.parse_args(argv)
    before = installed()
    try:
        found = before if arguments.check else install(arguments.source, arguments.wheelhouse)
    except (InstallError, patches.PatchError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if found is None:
        print("Detectron2 is not installed; remedy: python -m resnet_backbone.install.detectron2")
        return 1
    kept = before is not None and not before.outdated
    print(f"{found}{' (left as it is)' if kept and not arguments.check else ''}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
