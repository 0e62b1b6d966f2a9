"""What training must compute and move, against numbers that were worked out before this code."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Forward GMAC, training GFLOP, and MB moved an image: eager, compiled, fused.
KNOWN = {
    ("resnet50", 224): (4.089, 24.30, 486, 341, 218),
    ("resnet50", 160): (2.087, 12.40, 248, 174, 111),
    ("resnet101", 224): (7.801, 46.57, 721, 505, 324),
    ("resnet18", 224): (1.814, 10.65, 101, 72, 45),
    ("cifar_resnet20", 32): (0.041, 0.24, 8, 6, 4),
    ("cifar_resnet56", 32): (0.125, 0.75, 23, 16, 11),
    ("cifar_resnet110", 32): (0.253, 1.52, 46, 32, 21),
}


@pytest.mark.parametrize(("network", "side"), KNOWN, ids=lambda value: str(value))
def test_costs_are_the_known_ones_and_stand_in_the_document(network, side, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    cost = importlib.import_module("benchmarks.cost").cost_of(
        network, side, num_classes=10 if "cifar" in network else 1000
    )
    gmac, gflop, *moved = KNOWN[network, side]
    assert cost.gmac == pytest.approx(gmac, abs=5e-4) and cost.train_gflop == pytest.approx(gflop, abs=5e-3)
    assert list(cost.moved_mb.values()) == pytest.approx(moved, abs=0.51)
    row = f"| {gmac:.3f} | {gflop:.2f} | {' | '.join(f'{value}' for value in moved)} |"
    assert row in (ROOT / "docs" / "performance.md").read_text()
