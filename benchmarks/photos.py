"""300 photographs of ten classes: the real ResNet-18 fine-tuned to them, beside random weights by the same recipe.

python -m benchmarks.photos                # two seeds each; some minutes a run on a core
python -m benchmarks.photos --limit 600    # stops after ten minutes; the same command goes on
python -m benchmarks.photos --record       # records what is finished below --runs, runs nothing

The photographs are the first 30 of each class of `imagenette`, its 500 validation images test them. Its classes are ten
of ImageNet's thousand, so that the ResNet-18 has seen such things before.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import run_queue
from benchmarks.classifier_runs import config_of, refuse_other_recipes, values_of
from benchmarks.machine import ROOT, data_folder
from benchmarks.record import make_entry
from benchmarks.record import record as put
from benchmarks.run_queue import Job
from benchmarks.tables import NOT_RUN, Entries, Table, sources, spread
from resnet_backbone.classification.figures.run_folders import find_runs
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.testing.recompute import recompute_norms
from resnet_backbone.engine.text import markdown
from resnet_backbone.engine.yaml_config import read_config

RECIPE, WEIGHTS = "configs/imagenet/R18_photos.yaml", "weights/resnet18_pqf_fp16.pth.xz"
EACH, SEEDS = 30, (1, 2)
GIVEN = "resnet18.safetensors"
STARTS = {"imagenet": "ResNet-18 of ImageNet", "random": "random weights"}
NOTE = """The first 30 training images of each class of imagenette, whose shorter side is 160 pixels; tested on its 500
validation images, one centre crop, at the last iteration. The ResNet-18 was trained on ImageNet, of which these are ten
classes: other photographs are harder. Each run says on what and at which commit it ran. Other work ran beside.
""".replace("\n", " ").strip()
IGNORED = {"seed", "data", "weights", "fresh_head"}


def photographs(runs: Path) -> Path:
    """Class folders with the first images of each class, by links."""
    whole, few = data_folder().resolve() / "imagenette", runs / "photographs"
    for folder in sorted((whole / "train").iterdir()):
        (few / "train" / folder.name).mkdir(parents=True, exist_ok=True)
        for file in sorted(folder.iterdir())[:EACH]:
            link = few / "train" / folder.name / file.name
            if not link.is_symlink():
                link.symlink_to(file)
    if not (few / "val").is_symlink():
        (few / "val").symlink_to(whole / "val")
    return few


def weights(runs: Path, images: Path) -> Path:
    """The real ResNet-18, whose norms are affine only, with statistics of the photographs."""
    given = runs / GIVEN
    if not given.exists():
        recompute_norms(data_folder() / WEIGHTS, given, images, workers=0)
    return given


def plan(runs: Path, images: Path, seeds: Sequence[int]) -> list[Job]:
    """Seed by seed."""
    given = {"imagenet": ("weights", str(runs / GIVEN)), "random": ("weights", "''", "fresh_head", "false")}
    return [
        Job(folder, (
            "python", "tools/pretrain_imagenet.py", "--config", RECIPE, "--data", str(images), "--output", str(folder),
            "--seed", str(seed), "--resume", *given[start],
        ), "model.safetensors", {str(runs): "RUNS"})
        for seed in seeds
        for start in STARTS
        for folder in [runs / f"{start}-seed{seed}"]
    ]  # fmt: skip


def record(folders: Sequence[Path]) -> None:
    """Adds finished runs.

    Raises:
        ValueError: a run of another recipe, or one that is not finished; nothing is recorded then.
    """
    recipe, runs = read_config(TrainConfig, ROOT / RECIPE), []
    for folder in find_runs(folders):
        config = config_of(folder)
        refuse_other_recipes(folder, config, recipe, IGNORED, "the recipe's", RECIPE)
        start = STARTS["imagenet" if config.weights else "random"]
        runs.append({"start": start, **values_of(folder, config, "unknown")})
    put(make_entry(
        "photos", "A classifier of 300 photographs of ten classes from a real ResNet-18, beside random weights.",
        "python -m benchmarks.photos", runs, settings={"recipe": RECIPE, "photographs of a class": EACH},
        seeds=sorted({run["seed"] for run in runs}), note=NOTE,
    ))  # fmt: skip


def table(entries: Entries) -> list[str]:
    """Errors by what the network starts from."""
    entry, rows = entries.get("photos"), []
    for start in STARTS.values():
        runs = [run for run in (entry.runs if entry else []) if run["start"] == start]
        errors = [run["error"] for run in sorted(runs, key=lambda run: run["seed"])]
        minutes = [run["seconds_per_iteration"] * run["iterations"] / 60 for run in runs]
        listed = ", ".join(f"{error:.2f}" for error in errors) or NOT_RUN
        rows.append((start, spread(errors, 2), listed, spread(minutes, 1)))
    return markdown(("starts from", "top-1 error", "seed by seed", "minutes of training"), rows) + sources(entry)


TABLES: dict[str, Table] = {"photos": table}


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, 1 where a run failed or after one sentence on what is wrong, 130 where something is left to do."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.photos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/photos"), metavar="RUNS", help="folder of the runs")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, metavar="N")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="of this call; the run at work is saved")
    parser.add_argument("--no-record", action="store_true", help="run only")
    parser.add_argument("--record", action="store_true", help="record what is finished, run nothing")
    arguments = parser.parse_args(argv)
    try:
        runs = arguments.runs.resolve()
        images = photographs(runs)
        code = 0
        if not arguments.record:
            weights(runs, images)
            code = run_queue.run(plan(runs, images, arguments.seeds), arguments.limit, None)
        if not arguments.no_record:
            record([job.folder for job in plan(runs, images, arguments.seeds) if job.finished])
        return code
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
