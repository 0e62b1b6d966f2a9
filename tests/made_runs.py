"""How tests of the trainer start it, in their own process and in others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from made_data import SMALL, TINY, write_config

from resnet_backbone.detection.training import run as run_module
from resnet_backbone.detection.training.launch import guarded
from resnet_backbone.detection.training.settle import RunOptions

ROOT = Path(__file__).parents[1]


def options(tmp_path, data, *pairs, text=SMALL, **more) -> RunOptions:
    config = write_config(tmp_path, text)
    return RunOptions(config, ("DATA.ROOT", str(data), *pairs), tmp_path / "run", **more)


def command(tmp_path, data, *pairs, text=TINY) -> list[str]:
    tool = [sys.executable, str(ROOT / "tools" / "train_net.py"), "--config", str(write_config(tmp_path, text))]
    return [*tool, "--output", str(tmp_path / "run"), *pairs, "DATA.ROOT", str(data)]


def patched_run(words: list[str], method: str, body: str) -> subprocess.CompletedProcess[str]:
    """The tool in a process whose `Loop` has another body of a method, which may call `first`."""
    code = (
        "import os, signal; from resnet_backbone.detection.training import loop\n"
        f"first = loop.Loop.{method}\ndef other(self, *a, **k):\n{body}\nloop.Loop.{method} = other\n"
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return subprocess.run([words[0], "-c", code, *words[1:]], capture_output=True, text=True)


def said_by(capsys, chosen: RunOptions) -> str:
    capsys.readouterr()
    assert guarded(chosen) == 1
    progress, found, error = capsys.readouterr().err.strip().rpartition("\nerror: ")
    assert (found or error.startswith("error: ")) and "Traceback" not in progress + error
    return error


def last_state(tmp_path):
    return torch.load(tmp_path / "run" / "last.pth", weights_only=True)


class Scores:
    """Evaluations that find what the test says: each takes the next AP; keeps the weights that were tested."""

    def __init__(self, monkeypatch) -> None:
        self.next, self.tested = [], []
        monkeypatch.setattr(run_module, "test", self)

    def __call__(self, cfg, model, output, **_):
        self.tested.append({name: value.clone() for name, value in model.state_dict().items()})
        value = self.next.pop(0)
        if isinstance(value, Exception):
            raise value
        return {"train_test": {"bbox": {"AP": value, "AP50": 50.0}}}
