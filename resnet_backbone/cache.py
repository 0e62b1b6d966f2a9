"""Where files are kept that can be made or fetched again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$RESNET_BACKBONE_CACHE, by default ~/.cache/resnet_backbone."""
    return Path(os.environ.get("RESNET_BACKBONE_CACHE", "~/.cache/resnet_backbone")).expanduser()
