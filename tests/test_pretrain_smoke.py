"""--smoke of pretraining recipes: whole runs at a small size, with data or without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resnet_backbone.classification.launch import RunOptions, run
from resnet_backbone.weights.files import read_weights

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize("recipe", ["imagenet/R18", "cifar/plain20"])
def test_a_recipe_runs_whole_without_its_data(recipe, tmp_path, capsys):
    options = RunOptions(CONFIGS / f"{recipe}.yaml", ("device", "cpu"), tmp_path, smoke=True)
    whole = options.read()
    assert whole.iterations == 6 and whole.steps == (4,) and whole.batch_size == 4
    run(options)
    assert "images are generated" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "val/error" in line] == [3, 6]
    assert read_weights(tmp_path / "model.safetensors").record.variant == whole.network


def test_a_smoke_run_looks_at_few_of_the_images_and_obeys_the_command_line(tmp_path, real_data, capsys):
    given = ("device", "cpu", "iterations", "4", "network", "plain18", "data", str(real_data / "imagenette"))
    run(RunOptions(CONFIGS / "imagenet/R18.yaml", given, tmp_path, smoke=True))
    said = capsys.readouterr().out
    assert "32 training images and 16 validation images of 10 classes" in said and "4 iterations" in said
    assert read_weights(tmp_path / "model.safetensors").record.variant == "plain18"


def test_a_smoke_run_is_not_resumed(tmp_path):
    with pytest.raises(ValueError, match="--smoke: trains and tests from the beginning"):
        run(RunOptions(CONFIGS / "imagenet/R18.yaml", (), tmp_path, smoke=True, resume=True))
