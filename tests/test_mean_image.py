"""The mean image that the paper's CIFAR networks subtract: part of the network, its state and its record."""

from __future__ import annotations

import pytest
import torch

import resnet_backbone as rb
from resnet_backbone.models.build import build_network
from resnet_backbone.models.counting import count_parameters
from resnet_backbone.weights.files import write_weights
from resnet_backbone.weights.load import load_weights, read_source
from resnet_backbone.weights.record import WeightRecord


def test_a_mean_image_is_subtracted_and_belongs_to_the_state():
    net = build_network("cifar_resnet8", num_classes=3, mean_image=32).eval()
    plain = build_network("cifar_resnet8", num_classes=3).eval()
    net.mean_image.copy_(torch.rand(3, 32, 32))
    state = net.state_dict()
    mean = state.pop("mean_image")
    plain.load_state_dict(state)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(x), plain(x - mean)) and torch.equal(net.score_map(x), plain.score_map(x - mean))
        assert not torch.equal(net(x), plain(x))
    with pytest.raises(ValueError, match="subtracts a mean image of 32 x 32"):
        net(torch.zeros(1, 3, 40, 40))


def test_the_mean_image_travels_with_the_weights(tmp_path):
    net = rb.build("cifar_resnet8", num_classes=10, mean_image=32).eval()
    net.mean_image.copy_(torch.rand(3, 32, 32))
    record = WeightRecord("resnet_backbone", "ours", "cifar_resnet8", mean_image=32, channel_order="BGR")
    path = write_weights(tmp_path / "net.pth", net.state_dict(), record)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(rb.build("cifar_resnet8", num_classes=10, weights=path).eval()(x), net(x))
    with pytest.raises(rb.WeightsError, match="mean_image=32, the network was built with None"):
        load_weights(rb.build("cifar_resnet8", num_classes=10), path)
    turned = rb.build("cifar_resnet8", num_classes=10, mean_image=32).eval()
    load_weights(turned, read_source(path).in_rgb())
    torch.testing.assert_close(turned(x.flip(1)), net(x))


def test_a_mean_image_is_no_parameter():
    assert count_parameters(build_network("cifar_resnet20", num_classes=10, mean_image=32)) == 269_722
