"""Group norms are no batch norms of mean 0 and variance 1, though their tensors are called alike: the record tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_pretraining import SMALL
from torch import nn

import resnet_backbone as rb
from resnet_backbone.classification.testing.testing import load_network
from resnet_backbone.classification.training.train import pretrain
from resnet_backbone.detection.build import build_detector
from resnet_backbone.detection.training.config import read_config
from resnet_backbone.models.build import build_network
from resnet_backbone.weights.files import read_weights
from resnet_backbone.weights.load import load_weights

CONFIG = Path(__file__).parents[1] / "configs" / "faster_rcnn_R18_coco.yaml"
WIDTHS = {"stem_out_channels": 32, "res2_out_channels": 32}


@pytest.fixture
def weights(folders, tmp_path):
    config = replace(SMALL, **WIDTHS, epochs=None, iterations=1, norm="GN", exact_norm_images=0)
    return pretrain(config, folders, tmp_path / "run").weights


def test_a_classifier_is_tested_as_it_was_trained(weights):
    expected = build_network("resnet18", num_classes=2, norm="GN", **WIDTHS).eval()
    expected.load_state_dict(read_weights(weights).state)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_network(weights)[0](x), expected(x))
        assert torch.equal(rb.build("resnet18", num_classes=2, weights=weights, **WIDTHS).eval()(x), expected(x))
    with pytest.raises(rb.WeightsError, match="says norm GN, the network was built with BN; build it with norm='GN'"):
        load_weights(build_network("resnet18", num_classes=2, **WIDTHS), weights)


def test_a_detector_gets_the_norm_of_its_weights(weights):
    words = ["MODEL.WEIGHTS", str(weights), "MODEL.DEVICE", "cpu"]
    words += [word for key, width in WIDTHS.items() for word in (f"MODEL.RESNETS.{key.upper()}", str(width))]
    cfg = read_config(CONFIG, words).cfg
    with pytest.raises(rb.WeightsError, match=r"MODEL.RESNETS.NORM is BN, but the weights .* expect GN: set MODEL\."):
        rb.prepare(read_config(CONFIG, [*words, "MODEL.RESNETS.NORM", "BN"]).cfg)
    rb.prepare(cfg)
    detector = build_detector(cfg)
    load_weights(detector, weights, fine_tune=True)
    assert isinstance(detector.backbone.bottom_up.stem.conv1.norm, nn.GroupNorm)
