"""The device a config asks for, or in words what is taken instead."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode

from resnet_backbone.engine.device import find_device


def choose_device(cfg: CfgNode, *, asked: bool) -> str:
    """Settles MODEL.DEVICE: a config's "cuda" falls back to the CPU; returns a line for the user, or nothing.

    Args:
        asked: the user wants this very device, now and here.

    Raises:
        ValueError: and it is not there; or no device has that name.
    """
    device = str(cfg.MODEL.DEVICE)
    if device.startswith("cuda") and not torch.cuda.device_count() and not asked:
        cfg.MODEL.DEVICE = "cpu"
        return f"no CUDA GPU here: on the CPU, {torch.get_num_threads()} threads"
    find_device(device, "MODEL.DEVICE")
    if device == "cpu" and not asked and torch.cuda.device_count():
        return "on the CPU, as the config says; MODEL.DEVICE cuda uses the GPU"
    return ""
