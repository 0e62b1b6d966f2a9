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
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import run_queue
from benchmarks.cifar_record import record
from benchmarks.machine import ROOT
from benchmarks.record import read
from benchmarks.reproduction import TABLES
from benchmarks.run_queue import Job

NETS = ("plain20", "resnet20", "plain32", "resnet32", "plain44", "resnet44", "plain56", "resnet56", "resnet110")
SEEDS = (1, 2, 3, 4, 5)


def job(net: str, seed: int, runs: Path, data: str, options: Sequence[str]) -> Job:
    """One network and seed.

    Raises:
        ValueError: no recipe of this name.
    """
    config, folder = f"configs/cifar/{net}.yaml", runs / f"{net}-seed{seed}"
    if not (ROOT / config).is_file():
        raise ValueError(f"--nets {net}: no recipe {config}")
    words = (
        "python", "tools/pretrain_imagenet.py", "--config", config, "--data", data, "--output", str(folder),
        "--seed", str(seed), "--resume", *options,
    )  # fmt: skip
    return Job(folder, words, "model.safetensors", {str(runs): "RUNS", data: "CIFAR"})


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
        data, runs = str(Path(arguments.data).resolve()), arguments.runs.resolve()
        nets = itertools.product(arguments.seeds, arguments.nets)
        queue = [job(net, seed, runs, data, arguments.options) for seed, net in nets]

        def done(job: Job) -> None:
            print("\n".join(map(_said, record([job.folder]))), flush=True)

        return run_queue.run(queue, arguments.limit, None if arguments.no_record else done)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


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
