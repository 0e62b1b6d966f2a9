"""The pretraining recipes: headed by the rules, with the paper's networks, lengths and rates."""

from __future__ import annotations

import dataclasses
import importlib.util
import shlex
from pathlib import Path

import pytest
import torch

from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.recipe.length import length_of, side_at
from resnet_backbone.classification.recipe.schedule import LearningRate
from resnet_backbone.classification.training.classifier import build_classifier
from resnet_backbone.classification.training.loop import make_optimizer
from resnet_backbone.engine.yaml_config import layers, read_config
from resnet_backbone.models.counting import count_parameters

ROOT = Path(__file__).parents[1]
TOOL = ROOT / "tools" / "pretrain_imagenet.py"
CONFIGS = ROOT / "configs"
RECIPES = sorted([*(CONFIGS / "imagenet").glob("*.yaml"), *(CONFIGS / "cifar").glob("*.yaml")])
HEAD = ("Command", "Hardware", "Time", "Expected", "Measured")
IMAGENET, CIFAR = 1_281_167, 50_000
SMALL = {"R18_shapes", "R18_photos", "R18_imagenette", "plain18_imagenette"}
"""Recipes of other data than the paper's."""

# The paper's Tables 1 and 6, 1,000 and 10 classes.
PARAMETERS = {
    "R18": 11_689_512, "R18_A": 11_515_688, "plain18": 11_515_688, "R18_modern": 11_689_512,
    "R34": 21_797_672, "R34_A": 21_623_848, "R34_B": 21_797_672, "R34_C": 22_716_840, "plain34": 21_623_848,
    "R34_modern": 21_797_672, "R50": 25_557_032, "R50_modern": 25_557_032, "R101": 44_549_160,
    "R101_modern": 44_549_160, "R152": 60_192_808, "R152_modern": 60_192_808,
    "VGG16": 138_357_544, "VGG19": 143_667_240,
    "resnet20": 269_722, "resnet32": 464_154, "resnet44": 658_586, "resnet56": 853_018, "resnet110": 1_727_962,
    "resnet1202": 19_421_274,
    "plain20": 269_722, "plain32": 464_154, "plain44": 658_586, "plain56": 853_018, "plain110": 1_727_962,
}  # fmt: skip


def path_of(name: str) -> Path:
    return next(path for path in RECIPES if path.stem == name)


def recipe(name: str, *pairs: str) -> TrainConfig:
    return read_config(TrainConfig, path_of(name), pairs)


def names(folder: str, *, modern: bool = False, vgg: bool = False) -> list[str]:
    stems = [path.stem for path in RECIPES if path.parent.name == folder and path.stem not in SMALL]
    return [name for name in stems if name.endswith("_modern") == modern and name.startswith("VGG") == vgg]


def rates(config: TrainConfig, images: int, *iterations: int) -> list[float]:
    rate = LearningRate(length_of(config, images).schedule)
    return [rate.at(iteration) for iteration in iterations]


def tool():
    spec = importlib.util.spec_from_file_location("pretrain_imagenet", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_recipe_says_how_it_is_run_and_whether_it_was(path):
    head = [line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#")]
    for label in HEAD:
        assert sum(line.startswith(f"{label}:") for line in head) == 1, label
    command = next(line.partition(":")[2] for line in head if line.startswith("Command:"))
    arguments = tool().parser().parse_intermixed_args(shlex.split(command)[2:])
    assert ROOT / arguments.config == path
    config = read_config(TrainConfig, path, arguments.options)
    assert config.batch_size % arguments.num_gpus == 0
    assert max(map(len, path.read_text().splitlines())) <= 120


def test_every_network_of_the_paper_has_a_recipe_and_every_base_is_built_on():
    assert {path.stem for path in RECIPES} == {*PARAMETERS, *SMALL}
    bases = {file.resolve() for path in RECIPES for file, _ in layers(path)[:-1]}
    assert set(CONFIGS.glob("*/base/*.yaml")) <= bases


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_recipe_trains_the_network_of_the_papers_size(name):
    classes = 10 if path_of(name).parent.name == "cifar" else 1000
    with torch.device("meta"):
        network = build_classifier(recipe(name), classes)
    assert count_parameters(network) == PARAMETERS[name]


@pytest.mark.parametrize("name", names("imagenet"))
def test_imagenet_by_the_paper(name):
    config = recipe(name)
    length = length_of(config, IMAGENET)
    assert length.total == pytest.approx(600_000, rel=1e-3) and config.batch_size == 256
    # 5004.56 iterations an epoch, worked out by hand.
    assert (length.total, length.schedule.milestones) == (600_547, (150_137, 300_274, 450_410))
    around = rates(config, IMAGENET, 0, 150_136, 150_137, 300_274, 450_410, 600_546)
    assert around == pytest.approx([0.1, 0.1, 1e-2, 1e-3, 1e-4, 1e-4])
    assert (config.momentum, config.nesterov, config.weight_decay, config.decay_norms) == (0.9, False, 1e-4, True)
    assert (config.augmentation, config.shorter_sides, config.size) == ("shorter_side", (256, 480), 224)
    assert (config.colour_shift, config.stride_in_1x1, config.drop_path, config.ema) == (0.1, True, 0, 0)


def test_imagenettes_networks_share_their_recipe():
    residual, plain = recipe("R18_imagenette"), recipe("plain18_imagenette")
    assert (residual.network, plain.network) == ("resnet18", "plain18")
    assert dataclasses.replace(residual, network="plain18") == plain
    length = length_of(residual, 1500)
    assert length.total == 1875 and residual.exact_norm_images >= 1500
    # 93.75 iterations of warm-up to 0.2 x 64 / 256; half of the rest is half of the rate.
    assert rates(residual, 1500, 94, 984) == pytest.approx([0.05, 0.025], rel=1e-2)


def test_the_plateau_rule_takes_the_place_of_fixed_steps():
    config = recipe("R50", "schedule", "plateau", "holdout", "10000")
    rate = LearningRate(length_of(config, IMAGENET - config.holdout).schedule)
    seen = []
    for epoch, error in enumerate((60, *[50] * 6, 40, *[40] * 5, *[39] * 6)):
        rate.tell_evaluation_error(epoch, error)
        seen.append(rate.at(epoch))
    # Five tests without an improvement behind the second, the eighth and the fourteenth.
    assert seen == pytest.approx([0.1] * 6 + [0.01] * 6 + [0.001] * 6 + [1e-4])
    assert rate.ended(19)


@pytest.mark.parametrize("name", names("imagenet", vgg=True))
def test_vgg_by_its_authors(name):
    config = recipe(name)
    assert length_of(config, IMAGENET).total == pytest.approx(370_000, rel=1e-3)
    assert rates(config, IMAGENET, 0, 100_091, 200_182, 300_274) == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5])
    assert (config.batch_size, config.momentum, config.weight_decay) == (256, 0.9, 5e-4)


@pytest.mark.parametrize("name", names("cifar"))
def test_cifar_by_the_paper(name):
    config = recipe(name)
    rate = LearningRate(length_of(config, CIFAR).schedule)
    warms_up = name in ("resnet110", "resnet1202")
    assert rate.at(0) == rate.at(390) == pytest.approx(0.01 if warms_up else 0.1, rel=1e-12)
    for _ in range(100):
        rate.tell_training_error(79.0)
    around = [rate.at(iteration) for iteration in (400, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert around == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert rate.ended(64_000) and not rate.ended(63_999)
    assert (config.batch_size, config.augmentation, config.mean_image, config.holdout) == (128, "padded_crop", True, 0)
    assert (config.mean, config.std, config.exact_norm_images) == ((0, 0, 0), (255, 255, 255), 0)


def test_weight_decay_by_the_paper_is_on_every_parameter():
    config = recipe("resnet20")
    network = build_classifier(config, 10)
    groups = make_optimizer(config, network, torch.device("cpu")).param_groups
    decayed = {id(p) for group in groups for p in group["params"] if group["weight_decay"] == 1e-4}
    assert decayed == {id(p) for p in network.parameters()}


@pytest.mark.parametrize("name", names("imagenet", modern=True))
def test_the_modern_recipe_is_torchvisions_but_for_three_changes(name):
    config = recipe(name)
    assert rates(config, IMAGENET, 0, 6_256) == pytest.approx([0.005, 0.5])  # an epoch is 1,251.14 iterations
    assert length_of(config, IMAGENET).total == 750_684 and rates(config, IMAGENET, 750_684) == pytest.approx([0])
    assert (config.weight_decay, config.decay_norms, config.nesterov, config.stride_in_1x1) == (
        2e-5,
        False,
        False,
        False,
    )
    assert (config.label_smoothing, config.mixup, config.cutmix, config.erasing, config.repeats) == (
        0.1,
        0.2,
        1,
        0.1,
        4,
    )
    assert (config.size, config.test_size, config.test_resize) == (176, 224, 232)
    # Its reference script: every 32 iterations by 1 - (1 - 0.99998) * images in 32 iterations / epochs.
    assert config.ema == pytest.approx((1 - (1 - 0.99998) * 32 * 1024 / 600) ** (1 / 32), abs=1e-6)
    assert config.policy == "randaugment" and config.drop_path > 0
    assert [side_at(config, done, 100) for done in (0, 40, 60, 80, 100)] == [128, 128, 160, 176, 176]
