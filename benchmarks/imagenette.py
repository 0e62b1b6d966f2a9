"""From scratch on ten classes of ImageNet, then a detector from the weights: real runs that a CPU finishes.

python -m benchmarks.imagenette                        # ResNet-18 and plain-18, seeds 1 and 2; then three detectors
python -m benchmarks.imagenette --limit 3000           # stops after 50 minutes; the same command goes on
python -m benchmarks.imagenette --seeds 1 --detector-seeds 1 2
python -m benchmarks.imagenette --record               # records what is finished below --runs, runs nothing
python -m benchmarks.imagenette --table                # what is recorded
python tools/figures.py runs/imagenette --output figures   # the curves

The data are `imagenette`, `bccd` and `weights` in $RESNET_BACKBONE_DATA. Classifiers are tools/pretrain_imagenet.py
with configs/imagenet/*_imagenette.yaml; detectors are tools/train_net.py on BCCD from the first seed's ResNet-18, from
random weights, and from a ResNet-18 of the whole of ImageNet. Each has a folder of its own, and is recorded when it is
finished.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import run_queue
from benchmarks.imagenette_record import DETECTOR, EVALUATION, RECIPES, START, STARTS, record
from benchmarks.machine import data_folder
from benchmarks.record import read
from benchmarks.run_queue import Job
from benchmarks.tables import Table

SEEDS, DETECTOR_SEEDS = (1, 2), (1,)
WEIGHTS = "weights/resnet18_pqf_fp16.pth.xz"
FINAL = "model.safetensors"


def classifier(net: str, seed: int, runs: Path, data: Path, options: Sequence[str]) -> Job:
    """One network and seed."""
    folder = runs / f"{net}-seed{seed}"
    words = (
        "python", "tools/pretrain_imagenet.py", "--config", RECIPES[net], "--data", str(data / "imagenette"),
        "--output", str(folder), "--seed", str(seed), "--resume", *options,
    )  # fmt: skip
    return Job(folder, words, FINAL, names(runs, data))


def detector(start: str, seed: int, own: Path, runs: Path, data: Path, options: Sequence[str]) -> Job:
    """One start and seed.

    Args:
        own: the weights of the classifier that "imagenette" starts from.
    """
    folder = runs / f"bccd-{start}-seed{seed}"
    weights = {"random": "", "imagenette": str(own), "imagenet": str(data / WEIGHTS)}[start]
    settings = {"DATA.ROOT": data / "bccd", "MODEL.WEIGHTS": weights, "SEED": seed, **STARTS[start], **DETECTOR}
    words = (
        "python", "tools/train_net.py", "--config", START, "--output", str(folder), "--resume", "--no-scaling",
        *(str(part) for pair in settings.items() for part in pair), *options,
    )  # fmt: skip
    return Job(folder, words, EVALUATION, names(runs, data))


def names(runs: Path, data: Path) -> Mapping[str, str]:
    """What a reader calls the folders of this machine."""
    return {str(runs): "RUNS", str(data): "$RESNET_BACKBONE_DATA"}


def plan(arguments: argparse.Namespace) -> list[Job]:
    """Classifiers seed by seed, then detectors seed by seed."""
    runs, data = arguments.runs.resolve(), data_folder().resolve()
    own = runs / f"resnet18-seed{arguments.seeds[0]}" / FINAL
    nets = itertools.product(arguments.seeds, arguments.nets)
    starts = itertools.product(arguments.detector_seeds, arguments.starts)
    return [
        *(classifier(net, seed, runs, data, arguments.options) for seed, net in nets),
        *(detector(start, seed, own, runs, data, arguments.detector_options) for seed, start in starts),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, 1 where a run failed or after one sentence on what is wrong, 130 where something is left to do."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.table:
            entries = read()
            print("\n".join(line for table in _tables() for line in (*table(entries), "")))
            return 0
        if arguments.record:
            _say([job.folder for job in plan(arguments) if job.finished])
            return 0
        return run_queue.run(plan(arguments), arguments.limit, None if arguments.no_record else _done)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _done(job: Job) -> None:
    _say([job.folder])


def _say(folders: Sequence[Path]) -> None:
    for run in record(folders):
        if "error" in run:
            text = f"{run['network']}, seed {run['seed']}: error {run['error']:.2f} %"
        else:
            text = f"BCCD from {run['start']}, seed {run['seed']}: box AP {run['AP']:.1f}, AP50 {run['AP50']:.1f}"
        print(text, flush=True)


def _tables() -> Sequence[Table]:
    from benchmarks import detection_tables, reproduction

    return reproduction.TABLES["imagenette"], detection_tables.TABLES["imagenette-bccd"]


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.imagenette", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--runs", type=Path, default=Path("runs/imagenette"), metavar="RUNS", help="folder of the runs")
    made.add_argument("--nets", nargs="*", choices=RECIPES, default=tuple(RECIPES), metavar="NET", help="or none")
    made.add_argument("--seeds", nargs="+", type=int, default=SEEDS, metavar="N", help="of the classifiers")
    made.add_argument("--starts", nargs="*", choices=STARTS, default=tuple(STARTS), metavar="START", help="or none")
    made.add_argument("--detector-seeds", nargs="+", type=int, default=DETECTOR_SEEDS, metavar="N")
    made.add_argument("--limit", type=float, metavar="SECONDS", help="of this call; the run at work is saved")
    made.add_argument("--no-record", action="store_true", help="run only")
    made.add_argument("--record", action="store_true", help="record what is finished, run nothing")
    made.add_argument("--table", action="store_true", help="show what is recorded, run nothing")
    made.add_argument("--options", nargs="+", default=(), metavar="KEY VALUE", help="classifiers' other values")
    made.add_argument("--detector-options", nargs="+", default=(), metavar="KEY VALUE", help="detectors' other values")
    return made


if __name__ == "__main__":
    sys.exit(main())
