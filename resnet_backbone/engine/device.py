"""A device by its name, or one sentence on why there is none."""

from __future__ import annotations

import re

import torch


def find_device(name: str, key: str = "device") -> torch.device:
    """The device of that name, a GPU for an empty one if there is one.

    Args:
        key: what the setting is called, for the sentence.

    Raises:
        ValueError: no such device on this machine.
    """
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):  # torch knows others, on which Detectron2 does not train
        raise ValueError(f"{key}: {name!r} is no device to compute on here; use cpu, cuda or cuda:N")
    device = torch.device(name)
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        has = f"this machine has {count} CUDA GPUs" if count else "this machine has no CUDA GPU"
        raise ValueError(f"{key}: {name!r}, but {has}; use {key} cpu")
    return device
