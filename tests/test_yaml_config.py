"""Configs that build on others: what wins, and whose mistake it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.engine.yaml_config import read_config


def write(folder: Path, **files: str) -> Path:
    (folder / "base").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name.replace('__', '/')}.yaml").write_text(text)
    return folder / "own.yaml"


def test_a_file_wins_over_its_base_and_the_base_over_its_own(tmp_path):
    own = write(
        tmp_path,
        own="_BASE_: base/middle.yaml\nnetwork: resnet18\nsteps: [3]\n",
        base__middle="_BASE_: lowest.yaml\nepochs: 4\nbatch_size: 8\n",
        base__lowest="network: resnet50\nepochs: 9\nbatch_size: 16\nmomentum: 0.8\nsteps: [1, 2]\n",
    )
    expected = TrainConfig(network="resnet18", epochs=4.0, batch_size=8, momentum=0.8, steps=(3.0,))
    assert read_config(TrainConfig, own) == expected
    assert read_config(TrainConfig, own, ["batch_size", "2"]).batch_size == 2


def test_several_bases_are_read_in_their_order(tmp_path):
    own = write(
        tmp_path,
        own="network: resnet18\n_BASE_: [base/one.yaml, base/two.yaml]\n",
        base__one="epochs: 1\nbatch_size: 3\n",
        base__two="epochs: 2\n",
    )
    assert read_config(TrainConfig, own) == TrainConfig(network="resnet18", epochs=2.0, batch_size=3)


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ("batchsize: 3\n", r"base.one.yaml: unknown key 'batchsize'; did you mean 'batch_size'\?"),
        ("qqq: 3\n", r"unknown key 'qqq'; resnet_backbone/classification/recipe/config.py explains all"),
        ("momentum: high\n", r"base.one.yaml: momentum is 'high', but it must be a number"),
        ("_BASE_: ../own.yaml\n", r"own.yaml: builds on itself by _BASE_; take the _BASE_ out"),
        ("_BASE_: tow.yaml\n", r"base.tow.yaml: no such config file; did you mean .*two.yaml\?"),
        ("_BASE_: 3\n", r"base.one.yaml: _BASE_ is 3, but it must be a file's name, or a list of them"),
        ("- 1\n", r"base.one.yaml: a config is a mapping"),
    ],
)
def test_what_is_wrong_with_a_base_is_one_sentence_with_its_name(tmp_path, base, sentence):
    own = write(tmp_path, own="_BASE_: base/one.yaml\nnetwork: resnet18\n", base__one=base, base__two="{}\n")
    with pytest.raises(ValueError, match=sentence) as caught:
        read_config(TrainConfig, own)
    assert "\n" not in str(caught.value)


def test_a_key_that_only_a_base_lacks_is_no_mistake_of_it(tmp_path):
    own = write(tmp_path, own="_BASE_: base/one.yaml\nepochs: 1\n", base__one="batch_size: 4\n")
    with pytest.raises(ValueError, match="own.yaml: key 'network' is missing"):
        read_config(TrainConfig, own)


@pytest.mark.parametrize("path", ["my photos #2/a: b", "[1] x", "2024", "null", "", "~/x", "it's"])
def test_text_on_the_command_line_is_taken_as_it_is(tmp_path, path):
    own = write(tmp_path, own="network: resnet18\nepochs: 1\n")
    assert read_config(TrainConfig, own, ["data", path]).data == path
    assert read_config(TrainConfig, own, ["data", json.dumps(path)]).data == path


def test_no_yaml_on_the_command_line_is_one_sentence(tmp_path):
    own = write(tmp_path, own="network: resnet18\nepochs: 1\n")
    with pytest.raises(ValueError, match=r"command line: steps is '\[3,', which is not readable as YAML") as caught:
        read_config(TrainConfig, own, ["steps", "[3,"])
    assert "\n" not in str(caught.value)
