"""Recipes whose keys would be ignored, or work against each other, are refused by name."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_pretraining import SMALL, write_cifar

from resnet_backbone.classification.data.resident import Resident
from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.launch import RunOptions
from resnet_backbone.classification.recipe.length import length_of
from resnet_backbone.detection.training.config import read_config

PIXELS = {"mean": (0.0,) * 3, "std": (255.0,) * 3}


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"warmup_share": 0.01}, "warmup_share 0.01: there is no warm-up; give warmup, or warmup_share 0"),
        ({"warmup": 1.0, "warmup_shape": "constant"}, "warmup_shape 'constant' needs a warmup_share"),
        ({"schedule": "plateau", "test_every": 0.0}, "schedule 'plateau' looks at every test, but test_every is 0"),
        ({"momentum": 0.0}, "nesterov: true needs a momentum above 0; give one, or nesterov false"),
        ({"std": (58.0, 0.0, 57.0)}, r"std \[58.0, 0.0, 57.0\]: each must be positive"),
        ({"std": (-1.0, 1.0, 1.0)}, r"std \[-1.0, 1.0, 1.0\]: each must be positive"),
        ({"stem_out_channels": 0}, "stem_out_channels is 0, but it must be positive, or null for the network's own"),
        ({"mean_image": True}, r"mean_image: takes the place of mean: give mean \[0, 0, 0\] and std \[255, 255, 255\]"),
    ],
)
def test_keys_that_would_be_ignored(keys, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(SMALL, **keys)


@pytest.mark.parametrize(("warmup", "iterations"), [(0.99, 10), (0.01, 0)])
def test_a_warmup_that_is_all_or_nothing(warmup, iterations):
    """An epoch of 80 images is ten iterations."""
    with pytest.raises(ValueError, match=f"warmup {warmup} epochs are {iterations} of 10 iterations"):
        length_of(replace(SMALL, epochs=1.0, warmup=warmup), 80)


def test_a_run_of_no_batch_says_what_to_raise():
    with pytest.raises(ValueError, match="epochs 0.01 of 80 images are no batch of 8; raise epochs, or lower "):
        length_of(replace(SMALL, epochs=0.01), 80)


def test_a_padded_crop_has_the_images_own_size(tmp_path):
    train = open_data(str(write_cifar(tmp_path / "cifar.npz"))).train
    config = replace(SMALL, augmentation="padded_crop", mean_image=True, **PIXELS)
    Resident(train, config, torch.device("cpu"))
    with pytest.raises(ValueError, match="size: 48, but augmentation 'padded_crop' keeps the images' 32: give that"):
        Resident(train, replace(config, size=48, test_size=48, test_resize=48), torch.device("cpu"))


CONFIGS = Path(__file__).parents[1] / "configs"


def test_a_detectors_config_is_no_recipe_and_a_recipe_is_no_detectors_config():
    with pytest.raises(ValueError, match="R50_coco.yaml: a detector's config, which tools/train_net.py takes"):
        RunOptions(CONFIGS / "faster_rcnn_R50_coco.yaml").read()
    with pytest.raises(ValueError, match="a classifier's recipe is for tools/pretrain_imagenet.py"):
        read_config(CONFIGS / "imagenet/R50.yaml", [])


@pytest.mark.parametrize("name", ["train_net", "pretrain_imagenet"])
def test_going_on_and_beginning_anew_are_not_asked_for_together(name, capsys):
    parser = runpy.run_path(str(CONFIGS.parent / f"tools/{name}.py"))["parser"]()
    with pytest.raises(SystemExit, match="2"):
        parser.parse_intermixed_args(["--config", "a.yaml", "--resume", "--overwrite"])
    assert "argument --overwrite: not allowed with argument --resume" in capsys.readouterr().err
