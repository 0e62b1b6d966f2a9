"""Fills what a GPU machine without network is given, and takes home what came back.

python -m benchmarks.gpu_pack --cifar CIFAR                          # .gpu/1 and .gpu/2, for two calls
python -m benchmarks.gpu_pack --cifar CIFAR --detectors --runs OUT   # Detectron2 too, and runs that go on
python -m benchmarks.gpu_pack --merge OUT                            # entries into results.json, runs into runs/cifar

CIFAR is CIFAR-10's folder of official binary files, OUT what benchmarks.gpu_session wrote. A call carries at most
63.5 MiB with the files of this repository; CIFAR's pieces fill what the rest leaves.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.carry_cifar import pack
from benchmarks.cifar_record import NAMES, entry_of
from benchmarks.drop_in_speed import WEIGHTS
from benchmarks.gpu_session import CARRIED, take_runs
from benchmarks.machine import ROOT, commit, data_folder
from benchmarks.record import RESULTS, read, record

MOST = 127 * 2**19
PURE = ("antlr4", "detectron2", "fvcore", "iopath", "omegaconf", "termcolor", "yacs")
"""Packages of Python alone, which run under any version of it."""
WHEEL = ("pycocotools==2.0.11", "--python-version", "3.12", "--platform", "manylinux_2_28_x86_64")
EACH = {"train": 20, "val": 10}
PICTURES = {"trainval": 60, "test": 20}


def fill(cifar: Path, runs: Path | None, detectors: bool) -> list[Path]:
    """Both calls' folders.

    Raises:
        ValueError: it does not fit into two calls.
        OSError: data are missing or nothing can be written.
    """
    if CARRIED.is_dir():
        shutil.rmtree(CARRIED)
    first, second = (CARRIED / name for name in ("1", "2"))
    first.mkdir(parents=True)
    (first / "commit.txt").write_text(commit() + "\n")
    some_classes(data_folder() / "imagenette", first / "data" / "imagenette")
    if detectors:
        packages(first / "site")
        some_voc(data_folder() / "bccd", first / "data" / "bccd")
        (first / "data/weights").mkdir()
        shutil.copyfile(data_folder() / WEIGHTS, first / "data" / WEIGHTS)
    second.mkdir()
    for part in sorted(runs.glob("runs.tar.*")) if runs else ():
        shutil.copyfile(part, second / part.name)
    pieces = pack(cifar, CARRIED / "pieces")
    tree = sum((ROOT / name).stat().st_size for name in _tracked())
    split(pieces, [first, second], MOST - tree)
    (CARRIED / "pieces").rmdir()
    return [first, second]


def split(pieces: Sequence[Path], folders: Sequence[Path], most: int) -> None:
    """Moves as many pieces as fit into each folder in turn.

    Raises:
        ValueError: some are left over.
    """
    left = list(pieces)
    for folder in folders:
        room = most - size(folder)
        while left and left[0].stat().st_size <= room:
            room -= left[0].stat().st_size
            left.pop(0).replace(folder / pieces[len(pieces) - len(left) - 1].name)
    if left:
        raise ValueError(f"{len(left)} of CIFAR's pieces do not fit into {len(folders)} calls; leave out --detectors")


def size(folder: Path) -> int:
    """Bytes of all files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def some_classes(source: Path, target: Path) -> None:
    """A few pictures of each class."""
    for split_name, count in EACH.items():
        for folder in sorted((source / split_name).iterdir()):
            made = target / split_name / folder.name
            made.mkdir(parents=True)
            for path in sorted(folder.iterdir())[:count]:
                shutil.copyfile(path, made / path.name)


def some_voc(source: Path, target: Path) -> None:
    """The first pictures of each split in sorted order, which are those that drop_in_speed looks at."""
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (target / folder).mkdir(parents=True)
    for name, count in PICTURES.items():
        lines = sorted((source / f"ImageSets/Main/{name}.txt").read_text().splitlines())[:count]
        (target / f"ImageSets/Main/{name}.txt").write_text("\n".join(lines) + "\n")
        for stem, (folder, suffix) in itertools.product(lines, (("Annotations", ".xml"), ("JPEGImages", ".jpg"))):
            shutil.copyfile(source / folder / (stem + suffix), target / folder / (stem + suffix))


def packages(target: Path) -> None:
    """What Detectron2 needs besides what such machines have: pure Python from here, one wheel from the registry."""
    for name in PURE:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(f"--detectors: {name} is not installed here; make install")
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(spec.submodule_search_locations[0], target / name, ignore=ignored)
    wheels = target / "wheels"
    uv_less = [shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable, "-m", "pip", "download", "-q"]
    subprocess.run([*uv_less, "--no-deps", "--only-binary=:all:", "-d", str(wheels), *WHEEL], check=True)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
    shutil.rmtree(wheels)


def merge(out: Path, results: Path = RESULTS, runs: Path = ROOT / "runs" / "cifar") -> list[str]:
    """Adds the entries of a session; CIFAR's runs join those that are recorded, others take their entry's place.

    Raises:
        ValueError: no such entries, or one that is refused.
    """
    new = read(out / "entries.json")
    before = read(results)
    joined = [entry_of(name, one.runs, before.get(name)) if name in NAMES else one for name, one in new.items()]
    record(*joined, path=results)
    take_runs(out, runs)
    return sorted(new)


def _tracked() -> list[str]:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 after one sentence on what is wrong."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_pack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--cifar", type=Path, metavar="CIFAR", help="folder of the official binary files")
    made.add_argument("--runs", type=Path, metavar="OUT", help="of an earlier session, to go on with its runs")
    made.add_argument("--detectors", action="store_true", help="Detectron2 and what drop_in_speed needs")
    made.add_argument("--merge", type=Path, metavar="OUT", help="take home what a session wrote; packs nothing")
    arguments = made.parse_args(argv)
    try:
        if arguments.merge:
            print(", ".join(merge(arguments.merge)) or f"{arguments.merge}: no entries")
            return 0
        if not arguments.cifar:
            raise ValueError("nothing to pack: --cifar CIFAR, or --merge OUT")
        for folder in fill(arguments.cifar, arguments.runs, arguments.detectors):
            print(f"{folder.relative_to(ROOT)}: {size(folder) / 2**20:.1f} MiB")
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
