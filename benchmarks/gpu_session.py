"""What a GPU machine without network does in one command; every result is in OUT when the next step begins.

python -m benchmarks.gpu_session --out OUT --limit 540 --steps check=150 speed
python -m benchmarks.gpu_session --out OUT --limit 400 --steps cifar --nets resnet20 plain20 resnet56

A step that fails or outlasts its seconds does not stop the others. What the machine lacks lies in .gpu/1 and .gpu/2,
which benchmarks.gpu_pack has filled; it takes home what is written here: entries.json in the form of results.json,
session.json, and the folders of CIFAR's runs as one archive in files that a transfer takes (runs.tar.000 ...).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.carry_cifar import unpack
from benchmarks.machine import ROOT

CARRIED = ROOT / ".gpu"
RUNS = ROOT / "runs" / "gpu"
TESTS = ("tests/test_captured.py", "tests/test_on_gpu.py")
NETS = ("resnet20", "plain20", "resnet56", "plain56", "resnet110", "resnet32", "plain32", "resnet44", "plain44")
RARE = ("test_every", "2000", "save_every", "4000")
"""As often as the recipe says, 160 times, testing and saving would take as long as training."""
RESERVE, GRACE = 25.0, 10.0
"""Seconds for packing at the end, and for a step that is told to stop."""
PART = 15 * 2**20
"""Bytes of a file that comes back."""
STEPS = ("check", "imagenette", "speed", "cifar-speed", "detectors", "cifar")


@dataclass
class Done:
    """A step's end: its exit code, None where its time was up, and seconds."""

    step: str
    code: int | None
    seconds: float


def plan(steps: Sequence[str]) -> list[tuple[str, float]]:
    """Names and largest seconds of `check=150 speed`; without a number all that is left.

    Raises:
        ValueError: no such step, or no number.
    """
    planned = []
    for word in steps:
        name, _, seconds = word.partition("=")
        if name not in STEPS or (seconds and not seconds.isdigit()):
            raise ValueError(f"--steps {word}: no such step; choose from {', '.join(STEPS)}, as check or check=150")
        planned.append((name, float(seconds or "inf")))
    return planned


def command(step: str, out: Path, seconds: float, nets: Sequence[str], options: Sequence[str]) -> list[str]:
    """What runs in the repository's root.

    Raises:
        ValueError: CIFAR's pieces are not all here.
    """
    if step in ("check", "imagenette"):
        chosen = ["-k", "imagenette" if step == "imagenette" else "not imagenette"]
        return ["-m", "pytest", "-m", "gpu", *chosen, "-rA", f"--junitxml={out / step}.xml", *TESTS]
    if step == "speed":
        return ["-m", "benchmarks.classifier_speed", "--device", "cuda", "--seconds", str(int(seconds))]
    if step == "cifar-speed":
        return ["-m", "benchmarks.classifier_speed", "--device", "cuda", "--cifar", "--rounds", "1"]
    if step == "detectors":
        return ["-m", "benchmarks.drop_in_speed", "--devices", "cuda"]
    data = unpack([CARRIED / "1", CARRIED / "2"], RUNS.parent / "data" / "cifar-10-batches-bin")
    limit = str(max(int(seconds - GRACE), 1))
    return [
        "-m", "benchmarks.cifar_runs", "--data", str(data), "--runs", str(RUNS), "--limit", limit,
        "--seeds", "1", "--nets", *nets, "--options", *options, *RARE,
    ]  # fmt: skip


def environment(step: str, out: Path) -> dict[str, str]:
    """Of every step; packages from home are seen by the one that needs them."""
    carried, commit = CARRIED / "1", CARRIED / "1" / "commit.txt"
    site = [str(carried / "site")] if step == "detectors" else []
    made = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *site]), "PYTHONUNBUFFERED": "1",
        "RESNET_BACKBONE_RESULTS": str(out / "entries.json"), "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }  # fmt: skip
    if (carried / "data").is_dir():
        made["RESNET_BACKBONE_DATA"] = str(carried / "data")
    if commit.is_file():
        made["RESNET_BACKBONE_COMMIT"] = commit.read_text().strip()
    return made


def call(words: Sequence[str], seconds: float, surroundings: dict[str, str]) -> int | None:
    """The exit code; None where the time was up, with everything that it started ended."""
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, env=surroundings, start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _end_all(process.pid)
        process.wait()
    return None


def _end_all(session: int) -> None:
    try:
        os.killpg(session, 9)
    except ProcessLookupError:
        return


def keep_checks(report: Path, out: Path) -> None:
    """What pytest says of each test as an entry of its own."""
    from benchmarks.record import make_entry, record

    runs = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        ends = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        runs.append(
            {"test": case.get("name"), "result": ends[0] if ends else "passed", "seconds": float(case.get("time", 0))}
        )
    what = "The tests that need a GPU."
    record(
        make_entry(f"gpu-{report.stem}", what, f"python -m pytest -m gpu {' '.join(TESTS)}", runs, settings={}),
        path=out / "entries.json",
    )


def put_runs(runs: Path, out: Path) -> None:
    """The folders of runs in files of a transferable size: of a finished one no checkpoint, of none TensorBoard's."""
    for old in out.glob("runs.tar.*"):
        old.unlink()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", compresslevel=1) as archive:
        for path in sorted(runs.rglob("*")):
            finished = (path.parent / "model.safetensors").is_file()
            if path.is_file() and "tensorboard" not in path.parts and not (finished and path.suffix == ".pth"):
                archive.add(path, str(path.relative_to(runs)))
    whole = content.getvalue()
    for number, start in enumerate(range(0, len(whole), PART)):
        (out / f"runs.tar.{number:03d}").write_bytes(whole[start : start + PART])


def take_runs(folder: Path, runs: Path) -> None:
    """Puts the archive of an earlier call in place; a run that is there stays as it is."""
    parts = sorted(folder.glob("runs.tar.*"))
    if not parts:
        return
    runs.mkdir(parents=True, exist_ok=True)
    there = {path.name for path in runs.iterdir()}
    with tarfile.open(fileobj=io.BytesIO(b"".join(part.read_bytes() for part in parts))) as archive:
        new = [one for one in archive.getmembers() if Path(one.name).parts[0] not in there]
        archive.extractall(runs, new, filter="data")


def work(arguments: argparse.Namespace) -> list[Done]:
    """All steps within the limit."""
    deadline, done = time.monotonic() + arguments.limit - RESERVE, []
    for step, most in plan(arguments.steps):
        began = time.monotonic()
        seconds = min(most, deadline - began)
        if seconds <= GRACE:
            done.append(Done(step, None, 0.0))
            continue
        try:
            words = command(step, arguments.out, seconds - GRACE, arguments.nets, arguments.options)
            print(f"== {step}, at most {seconds:.0f} s: {' '.join(words)}", flush=True)
            left = min(most, deadline - time.monotonic()) if step == "cifar" else seconds - GRACE
            code = call(words, left, environment(step, arguments.out))
            report = arguments.out / f"{step}.xml"
            if report.is_file():
                keep_checks(report, arguments.out)
                report.unlink()
        except (ValueError, OSError) as error:  # the next step may still run
            print(f"error: {step}: {error}", file=sys.stderr, flush=True)
            code = 1
        done.append(Done(step, code, round(time.monotonic() - began, 1)))
        (arguments.out / "session.json").write_text(json.dumps([asdict(one) for one in done], indent=1) + "\n")
    return done


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 where a step failed or after one sentence on what is wrong."""
    arguments = _parser().parse_args(argv)
    try:
        plan(arguments.steps)
        arguments.out = arguments.out.resolve()
        arguments.out.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "torch.utils.collect_env"], cwd=ROOT, timeout=60)
        take_runs(CARRIED / "2", RUNS)
        done = work(arguments)
        if RUNS.is_dir():
            put_runs(RUNS, arguments.out)
    except (ValueError, OSError, subprocess.TimeoutExpired) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for one in done:
        print(f"{one.step:12} {'time was up' if one.code is None else f'exit {one.code}'}, {one.seconds:.0f} s")
    return int(any(one.code not in (0, None, 130) for one in done))


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_session", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--out", type=Path, required=True, metavar="OUT", help="gets everything that comes back")
    made.add_argument("--limit", type=float, default=540, metavar="SECONDS", help="of this call (default: 540)")
    made.add_argument("--steps", nargs="+", required=True, metavar="STEP[=SECONDS]", help=", ".join(STEPS))
    made.add_argument("--nets", nargs="+", default=NETS, metavar="NET", help="of cifar, most important first")
    made.add_argument("--options", nargs="+", default=("capture", "true"), metavar="KEY VALUE", help="of cifar's runs")
    return made


if __name__ == "__main__":
    sys.exit(main())
