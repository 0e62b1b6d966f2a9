"""Figure 7's numbers: responses against the network computed by hand, layer by layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_networks import random_norms
from PIL import Image
from test_cifar import TEST, ten_binary
from torch.nn import functional as F

from resnet_backbone.classification.figures.responses import read_images, response_deviations
from resnet_backbone.models.build import build_network
from resnet_backbone.weights.record import WeightRecord

STATISTICS = {"mean": (120.0, 110.0, 100.0), "std": (60.0, 50.0, 40.0)}
RECORD = WeightRecord("resnet_backbone", "made", "cifar_resnet8", input_size=32, resize=32, **STATISTICS)


def convolved(x, state, name, stride=1):
    """A 3x3 layer and its BN, written out."""
    x = F.conv2d(x, state[f"{name}.weight"].double(), stride=stride, padding=1)
    mean, variance, scale, shift = (
        state[f"{name}.norm.{key}"].double().view(1, -1, 1, 1)
        for key in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + 1e-5) * scale + shift


def by_hand(network, x):
    state, found = network.state_dict(), {}
    found["stem.conv1"] = convolved(x.double(), state, "stem.conv1")
    x = found["stem.conv1"].clamp(min=0)
    for stage, stride in (("res2", 1), ("res3", 2), ("res4", 2)):
        found[f"{stage}.0.conv1"] = convolved(x, state, f"{stage}.0.conv1", stride)
        found[f"{stage}.0.conv2"] = convolved(found[f"{stage}.0.conv1"].clamp(min=0), state, f"{stage}.0.conv2")
        out = found[f"{stage}.0.conv2"]
        if "resnet" in network.variant.name:
            shortcut = torch.zeros_like(out)
            shortcut[:, : x.shape[1]] = x[:, :, ::stride, ::stride]
            out = out + shortcut
        x = out.clamp(min=0)
    return {name: float(value.numpy().std()) for name, value in found.items()}


@pytest.mark.parametrize("name", ["cifar_resnet8", "cifar_plain8"])
def test_responses_are_those_computed_by_hand_whatever_the_batches(name):
    network = random_norms(build_network(name, num_classes=10)).eval()
    x = torch.randn(7, 3, 32, 32)
    found = response_deviations(network, [x[:4], x[4:]])
    expected = by_hand(network, x)
    assert list(found) == list(expected), "7 layers in the order of the data"
    assert found == pytest.approx(expected, rel=1e-5)
    assert not network.stem.conv1._forward_hooks


def test_only_3x3_layers_respond():
    network = random_norms(build_network("resnet50", num_classes=3, stem_out_channels=8, res2_out_channels=16)).eval()
    found = response_deviations(network, [torch.randn(1, 3, 64, 64)])
    assert len(found) == 16 and set(name.split(".")[-1] for name in found) == {"conv2"}


def test_images_of_cifar_are_spread_over_the_test_set_and_normalised_by_the_record(tmp_path):
    images = read_images(ten_binary(tmp_path), 3)
    assert len(images) == 3 and images.name == "CIFAR-10"
    (batch,) = images.batches(RECORD)
    expected = TEST[[0, 10, 19]].astype(np.float64)  # of 20: 0, 9.5 to the even 10, 19
    for channel, (mean, std) in enumerate(zip((120, 110, 100), (60, 50, 40))):
        np.testing.assert_allclose(batch[:, channel], (expected[:, channel] - mean) / std, rtol=1e-5)
    assert images.fit(build_network("cifar_resnet8", num_classes=10))
    assert not images.fit(build_network("cifar_resnet8", num_classes=100))
    assert not images.fit(build_network("resnet18", num_classes=10))


def test_images_of_class_folders_are_seen_as_the_record_says(tmp_path):
    for name, value in (("a", 30), ("b", 90)):
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.new("RGB", (40, 50), (value, value, value)).save(tmp_path / "val" / name / "1.png")
    images = read_images(tmp_path, 10)
    (batch,) = images.batches(RECORD)
    assert batch.shape == (2, 3, 32, 32) and images.classes == 2
    assert batch[0, 0, 5, 5] == (30 - 120) / 60 and batch[1, 2, 5, 5] == (90 - 100) / 40


def test_no_images_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="--limit 0: at least 1 image"):
        read_images(tmp_path, 0)
    with pytest.raises(ValueError, match=str(tmp_path)):
        read_images(tmp_path, 5)
