"""Folders as a classifier's training leaves them, with errors that a test knows."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from resnet_backbone.models.build import build_network
from resnet_backbone.weights.files import write_weights
from resnet_backbone.weights.record import WeightRecord


def write_run(folder: Path, network: str, train=(), test=(), *, kept=True, classes=10, **settings) -> Path:
    """Train and test: (iteration, error) each. Weights are fresh; `kept` names another network for them, or none."""
    folder.mkdir(parents=True)
    length = {"iterations": 400, "steps": [200, 300], "batch_size": 128, "seed": 0}
    (folder / "config.yaml").write_text(yaml.safe_dump({"network": network, **length, **settings}))
    lines = [{"iteration": i, "loss": 1.5, "error": error, "rate": 0.1} for i, error in train]
    lines += [{"iteration": i, "val/error": error, "val/error5": 1.0, "val/loss": 0.5} for i, error in test]
    lines.sort(key=lambda line: line["iteration"])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if kept:
        name = network if kept is True else kept
        size = {"input_size": 32, "resize": None} if name.startswith("cifar") else {}
        record = WeightRecord("resnet_backbone", "made", name, num_classes=classes, **size)
        write_weights(folder / "model.safetensors", build_network(name, num_classes=classes).state_dict(), record)
    return folder
