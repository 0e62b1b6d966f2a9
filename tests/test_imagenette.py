"""Imagenette's queue: what it plans, what it records, and that its runs can be drawn; nothing is trained."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path

import pytest
import yaml
from made_classifier_runs import write_run

from resnet_backbone.classification.figures.figures import FigureOptions, draw_figures
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.engine.yaml_config import read_config

ROOT = Path(__file__).parents[1]
TOTAL = 1875


@pytest.fixture
def bench(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("RESNET_BACKBONE_DATA", str(tmp_path))
    return importlib.import_module("benchmarks.imagenette")


@pytest.fixture
def recorder(bench):
    return importlib.import_module("benchmarks.imagenette_record")


def plan(bench, *words):
    return bench.plan(bench._parser().parse_args(words))


def classifier(recorder, path, network, seed, error, **changes):
    """A finished run as the tool leaves it."""
    recipe = read_config(TrainConfig, ROOT / recorder.RECIPES[network])
    settings = json.loads(json.dumps(dataclasses.asdict(recipe)))
    settings.update({"data": "/data/imagenette", "seed": seed, **changes})
    others = {key: value for key, value in settings.items() if key != "network"}
    made = write_run(path, network, [(20, 90.0), (TOTAL, 4.5)], [(940, error - 1.5), (TOTAL, error)], **others)
    with (made / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"iteration": TOTAL, "seconds_per_iteration": 0.5}) + "\n")
    return made


def detector(recorder, runs, start, seed, ap, **changes):
    """The files of a finished detector that are read."""
    folder = runs / f"bccd-{start}-seed{seed}"
    (folder / recorder.EVALUATION).parent.mkdir(parents=True)
    # As the trainer writes them: sequences are lists.
    settings = {
        **recorder.STARTS[start], **recorder.DETECTOR, "SEED": seed, "INPUT.MIN_SIZE_TRAIN": [240],
        "SOLVER.STEPS": [300], **changes,
    }  # fmt: skip
    config: dict = {}
    for key, value in settings.items():
        *parents, last = key.split(".")
        inner = config
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    box = dict.fromkeys(recorder.METRICS, ap)
    (folder / recorder.EVALUATION).write_text(json.dumps({"bbox": box, "voc": {"AP50": ap + 30}}))
    (folder / "metrics.jsonl").write_text('{"iteration": 20, "seconds_per_iteration": 1.5}\n')
    return folder


def test_detectors_come_after_the_classifier_that_one_starts_from(bench, tmp_path):
    runs = tmp_path / "runs"
    jobs = plan(bench, "--runs", str(runs))
    assert [job.folder.name for job in jobs] == [
        "resnet18-seed1", "plain18-seed1", "resnet18-seed2", "plain18-seed2", "bccd-random-seed1",
        "bccd-imagenette-seed1", "bccd-imagenet-seed1",
    ]  # fmt: skip
    assert jobs[0].public == (
        "python tools/pretrain_imagenet.py --config configs/imagenet/R18_imagenette.yaml --data "
        "$RESNET_BACKBONE_DATA/imagenette --output RUNS/resnet18-seed1 --seed 1 --resume"
    )
    random, own, real = jobs[-3:]
    assert "MODEL.WEIGHTS '' SEED 1 MODEL.RESNETS.NORM GN MODEL.FPN.NORM GN" in random.public
    assert "MODEL.WEIGHTS RUNS/resnet18-seed1/model.safetensors SEED 1 MODEL.RESNETS.NORM FrozenBN" in own.public
    assert "MODEL.WEIGHTS $RESNET_BACKBONE_DATA/weights/resnet18_pqf_fp16.pth.xz" in real.public
    assert str(runs / "resnet18-seed1/model.safetensors") in own.words
    for job in jobs[-3:]:
        assert "SOLVER.STEPS '(300,)'" in job.public and "--resume --no-scaling" in job.public


def test_only_what_is_asked_for_is_planned_and_its_options_come_last(bench, tmp_path):
    jobs = plan(bench, "--runs", str(tmp_path), "--nets", "--starts", "imagenet", "--detector-seeds", "1", "2",
                "--detector-options", "SOLVER.MAX_ITER", "2")  # fmt: skip
    assert [job.folder.name for job in jobs] == ["bccd-imagenet-seed1", "bccd-imagenet-seed2"]
    assert all(job.words[-2:] == ("SOLVER.MAX_ITER", "2") for job in jobs)


def test_finished_runs_are_recorded_and_fill_their_tables(bench, recorder, tmp_path):
    results, runs = tmp_path / "results.json", tmp_path / "runs"
    folders = [
        classifier(recorder, runs / "resnet18-seed1", "resnet18", 1, 40.0),
        classifier(recorder, runs / "resnet18-seed2", "resnet18", 2, 42.0),
        classifier(recorder, runs / "plain18-seed1", "plain18", 1, 47.0),
        detector(recorder, runs, "random", 1, 10.0),
    ]
    assert len(recorder.record(folders, results)) == 4
    recorder.record([detector(recorder, runs, "imagenette", 1, 25.25)], results)
    entries = importlib.import_module("benchmarks.record").read(results)
    assert set(entries) == {"imagenette", "imagenette-bccd"}
    first = entries["imagenette"].runs[0]
    assert (first["network"], first["error"], first["lowest_error"], first["train_error"]) == ("plain18", 47, 45.5, 4.5)
    assert (first["iterations"], first["seconds_per_iteration"]) == (TOTAL, 0.5)
    assert {"command", "hardware", "date", "commit"} <= first["origin"].keys()
    one, two = (table(entries) for table in bench._tables())
    schedule = "80 epochs, batches of 64, cosine"
    assert f"| ResNet-18 | {schedule} | 4.50 ± 0.00 | 41.00 ± 1.41 | 2 | 40.00, 42.00 | bf16 |" in one
    assert f"| plain-18 | {schedule} | 4.50 | 47.00 | 1 | 47.00 | bf16 |" in one
    assert "| random weights | GN | 10.0 | 10.0 | 10.0 | 40.0 | 1 |" in two
    assert "| ResNet-18 of imagenette | FrozenBN | 25.2 | 25.2 | 25.2 | 55.2 | 1 |" in two
    assert "| ResNet-18 of ImageNet | not run | not run | not run | not run | not run | 0 |" in two


def test_runs_of_other_settings_are_refused(recorder, tmp_path):
    results, runs = tmp_path / "results.json", tmp_path / "runs"
    short = classifier(recorder, runs / "a", "plain18", 1, 47.0, weight_decay=0.1)
    with pytest.raises(ValueError, match=r"config.yaml: weight_decay is 0.1, the recipe's is 0.0005"):
        recorder.record([short], results)
    other = classifier(recorder, runs / "b", "plain18", 1, 47.0, data="/data/pets")
    with pytest.raises(ValueError, match="b: plain18 on pets, not resnet18 or plain18 on imagenette"):
        recorder.record([other], results)
    quick = detector(recorder, runs, "random", 1, 10.0, **{"SOLVER.MAX_ITER": 2})
    with pytest.raises(ValueError, match="config.yaml: SOLVER.MAX_ITER is 2, not 400"):
        recorder.record([quick], results)
    assert not results.exists()


def test_nothing_is_left_to_do_where_all_is_finished(bench, recorder, tmp_path, monkeypatch, capsys):
    runs = tmp_path / "runs"
    classifier(recorder, runs / "plain18-seed1", "plain18", 1, 47.0)
    words = ["--runs", str(runs), "--nets", "plain18", "--seeds", "1", "--starts"]
    assert bench.main([*words, "--limit", "1"]) == 0
    monkeypatch.setattr(bench, "record", lambda folders: recorder.record(folders, tmp_path / "results.json"))
    assert bench.main([*words, "--record"]) == 0
    assert capsys.readouterr().out == "plain18, seed 1: error 47.00 %\n"


def test_the_runs_are_drawn_as_figure_4(recorder, tmp_path):
    runs = tmp_path / "runs"
    for seed, (plain, residual) in enumerate([(47.0, 40.0), (49.0, 42.0)], start=1):
        classifier(recorder, runs / f"plain18-seed{seed}", "plain18", seed, plain)
        classifier(recorder, runs / f"resnet18-seed{seed}", "resnet18", seed, residual)
    detector(recorder, runs, "random", 1, 10.0)
    assert draw_figures(FigureOptions((runs,), tmp_path / "out", device="cpu"), [].append) == 0
    assert [path.suffix for path in sorted((tmp_path / "out").glob("figure4-imagenette-*"))] == [".png", ".svg"]
    (table,) = (tmp_path / "out").glob("table2-*.csv")
    # Mean and deviation over two seeds, the best, and none of the paper's, which is of other data.
    assert ",1 2,48,1.41421,47.0,,," in table.read_text()
