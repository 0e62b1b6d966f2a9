"""Progressive resolution, worked out by hand."""

from __future__ import annotations

from resnet_backbone.classification.resolution import size_at


def test_sides_rise_in_steps_of_32():
    # 128 to 224 over 960 iterations: 0.1 pixel each, rounded at 144, 176 and 208 pixels.
    sides = {t: size_at(t, (128, 224), (1000, 1960)) for t in (0, 1000, 1159, 1161, 1479, 1481, 1799, 1801, 1960, 9999)}
    assert list(sides.values()) == [128, 128, 128, 160, 160, 192, 192, 224, 224, 224]


def test_the_ends_are_kept_as_they_are():
    assert [size_at(t, (100, 180), (10, 20)) for t in (10, 11, 15, 19, 20)] == [100, 96, 128, 160, 180]


def test_no_ramp_is_a_jump():
    assert [size_at(t, (128, 224), (5, 5)) for t in (4, 5, 6)] == [128, 128, 224]
