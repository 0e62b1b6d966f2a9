"""The networks of "Deep Residual Learning for Image Recognition" as backbones with verified weights.

Importing this registers them in Detectron2 where Detectron2 is installed, and imports torch alone where not.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet_backbone.api import build
    from resnet_backbone.detection.prepare import prepare
    from resnet_backbone.detection.torchvision import torchvision_detector
    from resnet_backbone.models.variants import list_variants
    from resnet_backbone.weights.errors import WeightsError
    from resnet_backbone.weights.load import load_weights

__version__ = "0.1.0"

# Loaded at first use, so that the import stays light.
_HOMES = {
    "build": ("resnet_backbone.api", "build"),
    "list_variants": ("resnet_backbone.models.variants", "list_variants"),
    "load_weights": ("resnet_backbone.weights.load", "load_weights"),
    "prepare": ("resnet_backbone.detection.prepare", "prepare"),
    "torchvision_detector": ("resnet_backbone.detection.torchvision", "torchvision_detector"),
    "WeightsError": ("resnet_backbone.weights.errors", "WeightsError"),
}

__all__ = [
    "WeightsError",
    "build",
    "list_variants",
    "load_weights",
    "prepare",
    "register_detectron2",
    "torchvision_detector",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def register_detectron2() -> None:
    """Makes our backbones and heads known to Detectron2 by name; done by the import, and idempotent.

    Raises:
        ImportError: Detectron2 is not installed; the message says how to install it.
    """
    if importlib.util.find_spec("detectron2") is None:
        raise ImportError("Detectron2 is not installed; run: python -m resnet_backbone.install.detectron2")
    importlib.import_module("resnet_backbone.detection.register").register()


def _register_if_there() -> None:
    spec = importlib.util.find_spec("detectron2")
    # A folder called detectron2 in the working directory is no installation.
    if spec is not None and spec.origin is not None:
        with warnings.catch_warnings():
            # Detectron2 and fvcore still call torch.jit.script; nobody who imports this can act on it.
            warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
            register_detectron2()


_register_if_there()
