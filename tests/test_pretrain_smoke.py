"""--smoke of pretraining recipes: whole runs at a small size, with data or without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_networks import random_norms

from resnet_backbone.classification.launch import RunOptions, run
from resnet_backbone.models.build import build_network
from resnet_backbone.weights.files import read_weights, write_weights
from resnet_backbone.weights.record import WeightRecord

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


def test_a_smoke_run_starts_from_weights_whatever_their_classes_and_on_the_users_images_not(tmp_path, folders):
    own = ("network", "cifar_resnet8", "weights", str(tmp_path / "own.safetensors"), "device", "cpu")
    record = WeightRecord("resnet_backbone", "made", "cifar_resnet8", num_classes=3)
    network = random_norms(build_network("cifar_resnet8", num_classes=3))
    write_weights(tmp_path / "own.safetensors", network.state_dict(), record)
    run(RunOptions(CONFIGS / "imagenet/R18.yaml", own, tmp_path / "generated", smoke=True))
    assert read_weights(tmp_path / "generated/model.safetensors").record.num_classes == 6
    with pytest.raises(ValueError, match="tells 3 classes apart, the data have 2; fresh_head true"):
        run(RunOptions(CONFIGS / "imagenet/R18.yaml", (*own, "data", str(folders)), tmp_path / "own", smoke=True))
