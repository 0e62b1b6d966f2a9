"""The device a config asks for, or in words what is taken instead."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode


def choose_device(cfg: CfgNode, *, asked: bool) -> str:
    """Settles MODEL.DEVICE: a config's "cuda" falls back to the CPU; returns a line for the user, or nothing.

    Args:
        asked: the user wants this very device, now and here.

    Raises:
        ValueError: and it is not there.
    """
    device = str(cfg.MODEL.DEVICE)
    if device.startswith("cuda") and not torch.cuda.device_count():
        if asked:
            raise ValueError(f"MODEL.DEVICE: {device!r}, but this machine has no CUDA GPU; use MODEL.DEVICE cpu")
        cfg.MODEL.DEVICE = "cpu"
        return f"no CUDA GPU here: on the CPU, {torch.get_num_threads()} threads"
    if device == "cpu" and not asked and torch.cuda.device_count():
        return "on the CPU, as the config says; MODEL.DEVICE cuda uses the GPU"
    return ""
