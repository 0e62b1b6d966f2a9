"""`--data synthetic`: steps on images that cost nothing, and what they take."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from resnet_backbone.classification.data.batches import training_batches
from resnet_backbone.classification.data.splits import Synthetic, open_data
from resnet_backbone.classification.launch import RunOptions, run
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.training import speed

CONFIGS = Path(__file__).parents[1] / "configs"
TINY = ("stem_out_channels", "4", "res2_out_channels", "4", "size", "32", "batch_size", "4", "device", "cpu")


def test_its_batches_lie_on_the_device_and_are_used_again(monkeypatch):
    monkeypatch.setattr(Synthetic, "read", None)  # nothing is drawn image by image
    config = TrainConfig(network="resnet18", iterations=20, batch_size=3, start_size=16, size=32)
    batches = list(islice(training_batches(open_data("synthetic").train, config, 0, torch.device("cpu")), 20))
    assert batches[0].images.shape == (3, 3, 16, 16) and batches[-1].images.shape == (3, 3, 32, 32)
    assert len({batch.images.data_ptr() for batch in batches}) == 2
    assert [batch.iteration for batch in batches] == list(range(20)) and batches[0].labels.tolist() == [0, 1, 2]


def test_a_run_says_its_speed_and_leaves_no_weights(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(speed, "ITERATIONS", 40)
    options = RunOptions(CONFIGS / "imagenet/R18.yaml", (*TINY, "data", "synthetic"), tmp_path)
    run(options)
    said = capsys.readouterr().out
    numbers = re.search(
        r"speed: ([\d.]+) images/s; ([\d.]+) s an iteration of 4 images, ([\d.]+) s waiting for images and ([\d.]+) s "
        r"computing \(means of 20 iterations behind the first 20\)",
        said,
    )
    images, whole, waiting, computing = map(float, numbers.groups())
    # As far as they are rounded, to a tenth and to 1e-4, on a machine of any speed.
    assert abs(images * whole - 4) <= 0.06 * whole + 6e-5 * images
    assert waiting + computing == pytest.approx(whole, abs=2e-4)
    found = {path.name for path in tmp_path.iterdir()}
    assert found - {"tensorboard"} == {"config.yaml", "log.txt", "metrics.jsonl"}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [20, 40]
    run(replace(options, overrides=(*options.overrides, "iterations", "3", "epochs", "null")))
    assert "(means of 3 iterations)" in capsys.readouterr().out


def test_it_never_touches_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speed, "ITERATIONS", 1)
    options = RunOptions(CONFIGS / "imagenet/R18.yaml", (*TINY, "data", "synthetic"))
    run(options)
    assert [path.name for path in (tmp_path / "runs/imagenet").iterdir()] == ["R18-speed"]
    (tmp_path / "last.pth").write_bytes(b"of a run")
    with pytest.raises(ValueError, match="holds a run"):
        run(replace(options, output=tmp_path))
    with pytest.raises(ValueError, match="--resume: runs with --data synthetic leave nothing to go on from"):
        run(replace(options, resume=True))
    with pytest.raises(ValueError, match="has no loader that could be slow"):
        run(RunOptions(CONFIGS / "cifar/plain20.yaml", ("data", "synthetic", "device", "cpu"), tmp_path / "cifar"))
    assert (tmp_path / "last.pth").read_bytes() == b"of a run"
