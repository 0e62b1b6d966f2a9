"""Batch norms' mean and variance over a set: against the whole set at once, in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.training.batch_norm import recompute_statistics
from resnet_backbone.classification.training.classifier import Inputs
from resnet_backbone.classification.training.final import exact_norms, norm_notes
from resnet_backbone.engine import group
from resnet_backbone.models.build import build_network

CPU = torch.device("cpu")


@pytest.fixture
def two_layers():
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3, 2), nn.BatchNorm2d(4))
    nn.init.normal_(net[1].weight)
    return net.double().eval()


@pytest.fixture
def images():
    """Thirteen, the later the brighter, so that batches differ."""
    return torch.randn(13, 3, 9, 8, dtype=torch.float64) + torch.arange(13.0).view(-1, 1, 1, 1)


def assert_statistics(norm, maps):
    torch.testing.assert_close(norm.running_mean, maps.mean((0, 2, 3)), rtol=0, atol=1e-12)
    torch.testing.assert_close(norm.running_var, maps.var((0, 2, 3), unbiased=False), rtol=1e-12, atol=0)


@torch.no_grad()
def test_they_are_those_of_the_set_and_no_averages_over_batches(two_layers, images):
    """The second layer's are of what it saw: the first one's batches, each normalised by itself."""
    conv1, norm1, _, conv2, norm2 = two_layers
    batches = images.split(5)  # 5, 5, 3
    assert recompute_statistics(two_layers, batches) == 13
    first = [conv1(batch) for batch in batches]
    normalised = [
        norm1.weight.view(-1, 1, 1) * (maps - maps.mean((0, 2, 3), keepdim=True))
        / (maps.var((0, 2, 3), unbiased=False, keepdim=True) + norm1.eps).sqrt() + norm1.bias.view(-1, 1, 1)
        for maps in first
    ]  # fmt: skip
    assert_statistics(norm1, torch.cat(first))
    assert_statistics(norm2, torch.cat([conv2(F.relu(maps)) for maps in normalised]))
    of_batches = torch.stack([maps.var((0, 2, 3)) for maps in first]).mean(0)
    assert (norm1.running_var / of_batches).max() > 3  # between the batches' means lies most of it
    assert norm1.momentum == 0.1 and not any(module.training for module in two_layers.modules())


@torch.no_grad()
def test_a_set_that_is_one_batch_is_then_tested_as_it_was_trained(two_layers, images):
    expected = two_layers.train()(images)
    recompute_statistics(two_layers.eval(), [images])
    torch.testing.assert_close(two_layers(images), expected, rtol=0, atol=1e-12)


def test_far_from_zero_nothing_is_lost_in_single_precision():
    norm = nn.BatchNorm2d(1)
    near = torch.tensor([0.0, 1.0, 2.0, 3.0]).view(4, 1, 1, 1) + 4096
    recompute_statistics(nn.Sequential(norm), near.split(2))
    assert (norm.running_mean.item(), norm.running_var.item()) == (4097.5, 1.25)


def test_what_is_random_in_training_is_off():
    batches = [torch.randn(4, 3, 32, 32) for _ in range(2)]
    found = []
    for rate in (0.0, 0.9):
        torch.manual_seed(3)
        net = build_network("cifar_resnet20", num_classes=10, drop_path=rate).train()
        recompute_statistics(net, batches)
        found.append(net.state_dict())
        assert net.training
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())


def test_synchronised_norms_have_them_and_group_norms_need_no_pass():
    batches = [torch.randn(3, 2, 4, 4) for _ in range(2)]
    plain, synchronised = nn.BatchNorm2d(2), nn.SyncBatchNorm(2)
    for norm in (plain, synchronised):
        recompute_statistics(nn.Sequential(norm), batches)
    assert torch.equal(plain.running_var, synchronised.running_var)
    assert recompute_statistics(nn.GroupNorm(2, 2), iter(lambda: pytest.fail("a batch was read"), None)) == 0


@torch.no_grad()
def test_the_images_of_all_processes_are_one_set(two_layers, images, monkeypatch):
    """Two processes in turns: what the other one sends is kept from its turn before."""
    sent = {}

    def gather_all(value):
        sent[type(value)] = [*sent.get(type(value), []), value][-2:]
        return sent[type(value)]

    monkeypatch.setattr(group, "world", lambda: 2)
    monkeypatch.setattr(group, "gather_all", gather_all)
    recompute_statistics(two_layers, [images[:8]])
    assert recompute_statistics(two_layers, images[8:].split(3)) == 13
    assert_statistics(two_layers[1], two_layers[0](images))


@pytest.fixture
def plain_colours(tmp_path):
    """Fifteen images of one colour each, which no crop, mirror image or resize changes; thirteen are to train on."""
    for split, count in (("train", 13), ("val", 2)):
        for k in range(count):
            path = tmp_path / split / "ab"[k % 2] / f"{k:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 44, 3), (10 * k, 255 - 15 * k, k * k), np.uint8)).save(path)
    return open_data(str(tmp_path))


COLOURS = torch.tensor([(10.0 * k, 255 - 15 * k, k * k) for k in range(13)], dtype=torch.float64)


@pytest.mark.parametrize(
    "more", [{}, {"repeats": 3}, {"start_size": 16}, {"accumulate": 2}, {"workers": 1}, {"batch_size": 64}], ids=str
)
def test_every_training_image_counts_once(plain_colours, more):
    """Whatever the run repeats or shows smaller; the last images join a whole batch."""
    config = TrainConfig(
        "resnet18", epochs=20.0, size=32, test_size=32, test_resize=32, batch_size=4, workers=0, device="cpu"
    )
    config, seen, norm = replace(config, **more), [], nn.BatchNorm2d(3)
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    assert exact_norms(nn.Sequential(norm), config, plain_colours, Inputs(config, CPU), CPU) == 13
    pixels = (COLOURS - torch.tensor(config.mean)) / torch.tensor(config.std)
    torch.testing.assert_close(norm.running_mean.double(), pixels.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var.double(), pixels.var(0, unbiased=False), rtol=1e-5, atol=0)
    sizes = {64: [13], 4: [4, 4, 5] if config.accumulate == 1 else [2, 2, 2, 2, 3, 2]}[config.batch_size]
    assert seen == [(size, 3, 32, 32) for size in sizes]
    assert norm_notes(13, plain_colours)[0].endswith("over the 13 training images, augmented as in training")


def test_fewer_images_are_some_of_them_and_said_to_be(plain_colours):
    config = TrainConfig("resnet18", epochs=20.0, batch_size=4, workers=0, device="cpu", exact_norm_images=6)
    assert exact_norms(nn.Sequential(nn.BatchNorm2d(3)), config, plain_colours, Inputs(config, CPU), CPU) == 6
    assert "over 6 of the 13 training images" in norm_notes(6, plain_colours)[0] and norm_notes(0, plain_colours) == ()
