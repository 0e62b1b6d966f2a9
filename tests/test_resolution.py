"""Progressive resolution, worked out by hand."""

from __future__ import annotations

import torch
from torch import nn

from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.recipe.resolution import size_at
from resnet_backbone.classification.training.final import exact_norms


def test_sides_rise_in_steps_of_32():
    # 128 to 224 over 960 iterations: 0.1 pixel each, rounded at 144, 176 and 208 pixels.
    sides = {t: size_at(t, (128, 224), (1000, 1960)) for t in (0, 1000, 1159, 1161, 1479, 1481, 1799, 1801, 1960, 9999)}
    assert list(sides.values()) == [128, 128, 128, 160, 160, 192, 192, 224, 224, 224]


def test_the_ends_are_kept_as_they_are():
    assert [size_at(t, (100, 180), (10, 20)) for t in (10, 11, 15, 19, 20)] == [100, 96, 128, 160, 180]


def test_no_ramp_is_a_jump():
    assert [size_at(t, (128, 224), (5, 5)) for t in (4, 5, 6)] == [128, 128, 224]


def test_exact_statistics_are_of_the_last_side_and_of_as_many_images_as_were_asked_for():
    class Inputs:
        def of(self, batch):
            sides.append(batch.images.shape[-1])
            seen.update(batch.indices.tolist())
            return batch.images.float()

    sides, seen = [], set()
    config = TrainConfig(
        network="resnet18", epochs=1, batch_size=4, size=48, start_size=16, repeats=4, exact_norm_images=8, workers=0
    )
    exact_norms(nn.BatchNorm2d(3), config, open_data("synthetic"), Inputs(), torch.device("cpu"))
    assert sides == [48, 48] and len(seen) == 8
