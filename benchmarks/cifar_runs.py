"""The paper's CIFAR-10 experiment (Table 6, Figure 6): a queue of runs that can be cut off at any time and goes on.

python -m benchmarks.cifar_runs --data CIFAR                       # five seeds of each network but the 1,202 layers
python -m benchmarks.cifar_runs --data CIFAR --limit 3000          # stops after 50 minutes; the same command goes on
python -m benchmarks.cifar_runs --data CIFAR --nets resnet20 --seeds 1 --runs runs/short \\
    --options iterations 6400 steps '[3200, 4800]'                 # a shorter schedule: an entry of its own
python -m benchmarks.cifar_runs --record runs/cifar/resnet20-seed1 # a folder of tools/pretrain_imagenet.py
python -m benchmarks.cifar_runs --table                            # what is recorded, beside the paper's numbers

CIFAR is CIFAR-10 in its official files. Each run is tools/pretrain_imagenet.py with configs/cifar/<net>.yaml in a
folder of its own, and is recorded when it is finished.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cifar_record import record, write_origin
from benchmarks.machine import ROOT, versions
from benchmarks.record import read
from benchmarks.reproduction import TABLES
from resnet_backbone.engine.interrupt import interrupt_once, on_sigterm

NETS = ("plain20", "resnet20", "plain32", "resnet32", "plain44", "resnet44", "plain56", "resnet56", "resnet110")
SEEDS = (1, 2, 3, 4, 5)
FINAL = "model.safetensors"
STOPPED = 130


@dataclass(frozen=True)
class Run:
    """One network and seed."""

    net: str
    seed: int
    runs: Path

    @property
    def folder(self) -> Path:
        return self.runs / f"{self.net}-seed{self.seed}"

    @property
    def finished(self) -> bool:
        return (self.folder / FINAL).is_file()

    def command(self, data: str, options: Sequence[str], root: Path = ROOT) -> list[str]:
        """What is typed in the repository's root; goes on where the run stopped."""
        config = Path("configs/cifar") / f"{self.net}.yaml"
        if not (root / config).is_file():
            raise ValueError(f"--nets {self.net}: no recipe {config}")
        return [
            "python", "tools/pretrain_imagenet.py", "--config", str(config), "--data", data,
            "--output", str(self.folder), "--seed", str(self.seed), "--resume", *options,
        ]  # fmt: skip


def work(
    queue: Sequence[Run], data: str, options: Sequence[str], deadline: float, done: Callable[[Run], None]
) -> tuple[list[Run], bool]:
    """Runs what is not finished, one after the other, until `deadline` (of `time.monotonic`).

    Args:
        done: is told each run that gets finished.

    Returns:
        The runs that failed, and whether all others are finished.
    """
    failed = []
    commands = {run: run.command(data, options) for run in queue}  # a missing recipe is said before the first run
    for run, words in commands.items():
        if run.finished:
            continue
        if time.monotonic() >= deadline:
            return failed, False
        public = [*words[:5], "CIFAR", "--output", f"RUNS/{run.folder.name}", *words[8:]]
        write_origin(run.folder, " ".join(public))
        print(f"{run.folder}: begins or goes on", flush=True)
        code = call([sys.executable, *words[1:]], deadline)
        if code == STOPPED:
            print(f"{run.folder}: stopped and saved; the same command goes on", flush=True)
            return failed, False
        if code:
            failed.append(run)
        else:
            done(run)
    return failed, True


def call(words: Sequence[str], deadline: float) -> int:
    """The exit code of a command, which gets a SIGTERM at the deadline and whenever this process is interrupted."""
    process = subprocess.Popen(words, cwd=ROOT)
    try:
        with on_sigterm(interrupt_once):
            return process.wait(max(deadline - time.monotonic(), 0))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.terminate()
        return process.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, 1 where a run failed or after one sentence on what is wrong, 130 where something is left to do."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.table:
            entries = read()
            print("\n".join(line for name in ("paper-cifar", "cifar-short") for line in (*TABLES[name](entries), "")))
            return 0
        if arguments.record:
            print("\n".join(map(_said, record(arguments.record, commit=arguments.commit))))
            return 0
        if not arguments.data:
            raise ValueError("no data: --data CIFAR, CIFAR-10 in its official files")
        versions()  # a checkout that changes during the run would name another commit
        data, runs = str(Path(arguments.data).resolve()), arguments.runs.resolve()
        queue = [Run(net, seed, runs) for seed, net in itertools.product(arguments.seeds, arguments.nets)]
        deadline = time.monotonic() + (arguments.limit or float("inf"))

        def done(run: Run) -> None:
            print("\n".join(map(_said, record([run.folder]))), flush=True)

        failed, complete = work(queue, data, arguments.options, deadline, done if not arguments.no_record else print)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for run in failed:
        print(f"error: {run.folder}: failed; its log.txt says why", file=sys.stderr)
    return 1 if failed else 0 if complete else STOPPED


def _said(run: dict[str, object]) -> str:
    return f"{run['network']}, seed {run['seed']}, {run['schedule']}, {run['precision']}: error {run['error']:.2f} %"


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.cifar_runs", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--data", metavar="CIFAR", help="CIFAR-10: a folder or an archive")
    made.add_argument("--runs", type=Path, default=Path("runs/cifar"), metavar="RUNS", help="folder of the runs")
    made.add_argument("--nets", nargs="+", default=NETS, metavar="NET", help="recipes in configs/cifar")
    made.add_argument("--seeds", nargs="+", type=int, default=SEEDS, metavar="N")
    made.add_argument("--limit", type=float, metavar="SECONDS", help="of this call; the run at work is saved")
    made.add_argument("--no-record", action="store_true", help="run only")
    made.add_argument("--record", nargs="+", type=Path, metavar="FOLDER", help="record finished runs, run nothing")
    made.add_argument("--commit", default="unknown", help="of a folder that does not say at which it was trained")
    made.add_argument("--table", action="store_true", help="show what is recorded, run nothing")
    made.add_argument("--options", nargs="+", default=(), metavar="KEY VALUE", help="keys with other values")
    return made


if __name__ == "__main__":
    sys.exit(main())
