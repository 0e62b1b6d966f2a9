"""Where tests find real data, and what happens when they do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

DATA = Path(os.environ.get("RESNET_BACKBONE_DATA", Path(__file__).parents[2] / "shared" / "data"))
NOT_FOUND = f"real data not found: no folder {DATA} (set RESNET_BACKBONE_DATA)"


@pytest.fixture
def real_data() -> Path:
    """The folder of real images and weights; skips, with the reason, where it is not."""
    if not DATA.is_dir():
        pytest.skip(NOT_FOUND)
    return DATA


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESNET_BACKBONE_CACHE", str(tmp_path / "cache"))
