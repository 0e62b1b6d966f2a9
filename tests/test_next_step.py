"""What a tool says at its start and at its end: no noise of others, and the command that comes next."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from made_pretraining import SMALL, options, tool, write_stripes

from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.training.next_step import DETECTORS, next_step

CONFIGS = Path(__file__).parents[1] / "configs"
WEIGHTS = Path("runs/x/model.safetensors")


def test_the_import_hides_the_warnings_of_others_and_only_those():
    code = "import warnings, resnet_backbone; warnings.warn('ours', FutureWarning)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "torch.jit" not in done.stderr and "FutureWarning: ours" in done.stderr


@pytest.mark.parametrize("network", DETECTORS)
def test_a_detector_is_the_next_step_of_its_network(network):
    config = CONFIGS / f"{DETECTORS[network]}.yaml"
    said = next_step(TrainConfig(network, epochs=1), WEIGHTS)
    assert said == f"python tools/train_net.py --config configs/{config.name} MODEL.WEIGHTS runs/x/model.safetensors"
    depth = yaml.safe_load(config.read_text())["MODEL"].get("RESNETS", {}).get("DEPTH")
    assert depth == (int(network.removeprefix("resnet")) if network.startswith("resnet") else None)


def test_networks_that_no_detector_takes_are_drawn_or_tested():
    cifar = TrainConfig("cifar_resnet20", epochs=1, data="cifar")
    assert next_step(cifar, WEIGHTS) == "python tools/figures.py runs/x --output runs/x/figures"
    tested = "python tools/eval_imagenet.py --weights runs/x/model.safetensors --data imagenet --protocols 10-crop"
    for other in ({"network": "vgg19"}, {"norm": "GN"}, {"res2_out_channels": 32}, {"weights": "a.pth"}):
        config = replace(TrainConfig("resnet18", epochs=1, data="imagenet"), **other)
        assert next_step(config, WEIGHTS) == tested, other


def test_a_shell_reads_the_names_that_were_given():
    weights, data = Path("my runs/R18, 'new'/model.safetensors"), "$PHOTOS/of the sea"
    config = TrainConfig("resnet18", epochs=1, data=data, weights="a.pth")
    for chosen in (config, replace(config, weights=""), replace(config, network="cifar_resnet20")):
        words = shlex.split(next_step(chosen, weights))
        assert {str(weights), str(weights.parent)} & set(words)
        assert data in words or "--data" not in words


def test_a_run_ends_with_its_next_step(tmp_path, capsys):
    folders = write_stripes(tmp_path / "data", 8, 2)
    config = replace(SMALL, epochs=None, iterations=1, exact_norm_images=0)
    assert tool(options(tmp_path / "run", config, folders)) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    weights = tmp_path / "run" / "model.safetensors"
    assert last == f"next: python tools/eval_imagenet.py --weights {weights} --data {folders} --protocols 10-crop"


def test_a_key_without_a_value_is_named(tmp_path, capfd):
    folders = write_stripes(tmp_path / "data", 2, 2)
    assert tool(options(tmp_path / "run", SMALL, folders), "--seed", "1", "epochs") == 1
    assert "KEY VALUE pairs: 'epochs' has no value" in capfd.readouterr().err
