"""Pretraining on class folders: recipes, views, statistics, resuming, and weights that load with their record."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from resnet_backbone.classification import train as train_module
from resnet_backbone.classification.batch_norm import recompute_statistics
from resnet_backbone.classification.config import TrainConfig
from resnet_backbone.classification.data import augment, find_splits, load
from resnet_backbone.classification.evaluate import evaluate
from resnet_backbone.classification.train import learning_rate, pretrain
from resnet_backbone.engine.yaml_config import read_config
from resnet_backbone.models.build import build_network
from resnet_backbone.weights.files import read_weights
from resnet_backbone.weights.load import load_weights

ROOT = Path(__file__).parents[1]
TOOL = ROOT / "tools" / "pretrain_imagenet.py"
RECIPES = sorted((ROOT / "configs" / "imagenet").glob("*.yaml"))
SMALL = TrainConfig(
    network="resnet18", stem_out_channels=8, res2_out_channels=8, epochs=3, batch_size=8, rate_per_256=1.0,
    scale=(0.5, 1.0), size=32, test_size=32, test_resize=36, exact_norm_images=32, workers=0, device="cpu",
)  # fmt: skip


@pytest.fixture
def folders(tmp_path):
    """Two classes that any network can tell apart: stripes across and stripes down."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 6)):
        for name in ("across", "down"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 60, (40, 48, 3), dtype=np.uint8)
                pixels[(slice(rng.integers(4), None, 8),) if name == "across" else np.s_[:, rng.integers(4) :: 8]] = 230
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{index}.png")
    return tmp_path / "data"


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipes_are_read_and_say_how_they_are_run(path):
    config = read_config(TrainConfig, path)
    assert config.rate > 0
    head = path.read_text().split("\nnetwork:")[0]
    assert f"--config configs/imagenet/{path.name}" in head and "Measured" in head


def test_config_mistakes_are_named(tmp_path):
    path = tmp_path / "c.yaml"

    def error(text, *overrides):
        path.write_text(text)
        with pytest.raises(ValueError) as caught:
            read_config(TrainConfig, path, overrides)
        return str(caught.value)

    good = "network: resnet18\nepochs: 2\n"
    assert "did you mean 'batch_size'" in error(good + "batchsize: 3\n")
    assert "key 'epochs' is missing" in error("network: resnet18\n")
    assert "momentum is 'high', but it must be a number" in error(good + "momentum: high\n")
    assert "batch_size is 2.5, but it must be a whole number" in error(good + "batch_size: 2.5\n")
    assert "one of cosine, steps" in error(good + "schedule: linear\n")
    assert "must have 2 entries" in error(good + "scale: [0.1]\n")
    assert "'epochs' has no value" in error(good, "epochs")
    assert "command line: unknown key 'epoch'" in error(good, "epoch", "3")
    assert "must be positive" in error(good, "batch_size", "0")
    assert "not valid YAML" in error("network: [\n")
    assert "a mapping" in error("- 1\n")
    path.write_text(good + "weight_decay: 1e-4\nsteps: [1]\n")
    assert read_config(TrainConfig, path, ["epochs", "5"]) == TrainConfig(
        network="resnet18", epochs=5.0, weight_decay=1e-4, steps=(1.0,)
    )
    with pytest.raises(ValueError, match="no such config file"):
        read_config(TrainConfig, tmp_path / "none.yaml")


def test_the_rate_follows_its_schedule():
    config = TrainConfig(network="resnet18", epochs=10, batch_size=512, rate_per_256=0.1, warmup_epochs=2)
    assert config.rate == pytest.approx(0.2)
    assert learning_rate(config, 0.5) == pytest.approx(0.05)
    assert learning_rate(config, 2) == pytest.approx(0.2)
    assert learning_rate(config, 6) == pytest.approx(0.1)
    assert learning_rate(config, 10) == pytest.approx(0)
    steps = replace(config, schedule="steps", steps=(4, 8), warmup_epochs=0)
    assert [learning_rate(steps, e) for e in (0, 3.9, 4, 8)] == pytest.approx([0.2, 0.2, 0.02, 0.002])


def test_the_papers_view_is_resize_then_crop():
    config = TrainConfig(
        network="resnet18", epochs=1, augmentation="shorter_side", shorter_sides=(64, 64), size=64, flip=False
    )
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(augment(pixels, config, np.random.default_rng(1)), pixels)
    config = replace(config, shorter_sides=(80, 80))
    # A ramp along x shows where the crop lies and how much it was scaled.
    ramp = np.repeat(np.arange(0, 160, 2, dtype=np.uint8)[None, :, None], 40, axis=0).repeat(3, axis=2)
    view = augment(ramp, config, np.random.default_rng(1)).astype(float)
    assert np.diff(view[30, 5:-5, 0]).mean() == pytest.approx(2 * 40 / 80, abs=0.05)


def test_views_depend_on_seed_epoch_and_index_alone(folders):
    train, val = find_splits(folders)
    one = [b[0] for b in load(train, SMALL, 0, {})]
    with_workers = [b[0] for b in load(train, replace(SMALL, workers=2), 0, {})]
    assert all(torch.equal(a, b) for a, b in zip(one, with_workers, strict=True))
    assert not torch.equal(one[0], next(load(train, SMALL, 1, {}))[0])
    cached = replace(SMALL, cache=True)
    cache = {}
    for _ in range(2):
        assert all(torch.equal(a, b[0]) for a, b in zip(one, load(train, cached, 0, cache), strict=True))
    assert len(cache) == len(train)
    labels = torch.cat([b[1] for b in load(val, SMALL, None, {})])
    assert labels.tolist() == list(val.labels)


def test_exact_statistics_are_plain_averages():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    batches = [torch.randn(5, 3, 6, 6) for _ in range(3)]
    assert recompute_statistics(network, batches) == 3
    with torch.no_grad():
        outputs = torch.stack([network[0](b) for b in batches])
    means = outputs.mean(dim=(1, 3, 4))
    assert torch.allclose(network[1].running_mean, means.mean(0), atol=1e-6)
    variances = outputs.transpose(1, 2).flatten(2).var(dim=2)
    assert torch.allclose(network[1].running_var, variances.mean(0), atol=1e-5)
    assert network[1].momentum == 0.1 and not network.training


def test_accuracy_is_counted_right():
    logits = torch.randn(11, 7)
    labels = torch.arange(11) % 7
    batches = [(logits[:6], labels[:6]), (logits[6:], labels[6:])]
    result = evaluate(nn.Identity(), batches, lambda x: x, torch.device("cpu"))
    ranked = logits.argsort(dim=1, descending=True)
    assert result.top1 == sum(int(r[0] == k) for r, k in zip(ranked, labels))
    assert result.top5 == sum(int(k in r[:5]) for r, k in zip(ranked, labels))
    assert result.images == 11


def test_a_run_learns_and_its_weights_load_with_their_record(folders, tmp_path, capsys):
    outcome = pretrain(SMALL, folders, tmp_path / "run")
    assert outcome.accuracy.top1_percent >= 90
    file = read_weights(outcome.weights)
    assert file.record is not None
    assert file.record.variant == "resnet18" and file.record.num_classes == 2
    assert file.record.top1 == outcome.accuracy.top1_percent and file.record.input_size == 32
    assert not file.record.assumed and file.record.stride_in_1x1 is None
    backbone = build_network(
        "resnet18", out_features=("res2", "res5"), stem_out_channels=8, res2_out_channels=8, norm="FrozenBN"
    )
    report = load_weights(backbone, outcome.weights)
    assert report.matched == report.total
    assert torch.equal(backbone.state_dict()["res5.1.conv2.weight"], file.state["res5.1.conv2.weight"])
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 3] and lines[-1]["final"]
    assert read_config(TrainConfig, tmp_path / "run/config.yaml") == SMALL
    assert "left" in capsys.readouterr().err


def test_a_resumed_run_ends_as_the_whole_one(folders, tmp_path, monkeypatch):
    config = replace(SMALL, epochs=2, batch_sides=(24, 32), zero_init_last_norm=True)
    whole = pretrain(config, folders, tmp_path / "whole")
    epoch = train_module._Run.train_epoch

    def broken(self, number):
        if number == 1:
            raise KeyboardInterrupt
        epoch(self, number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_module._Run, "train_epoch", broken)
        pretrain(config, folders, tmp_path / "parts")
    torch.load(tmp_path / "parts/last.pth", weights_only=True)
    with pytest.raises(ValueError, match="started with epochs 2, now it is 3"):
        pretrain(replace(config, epochs=3), folders, tmp_path / "parts", resume=True)
    parts = pretrain(config, folders, tmp_path / "parts", resume=True)
    first, second = (read_weights(o.weights).state for o in (whole, parts))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_full_disk_leaves_the_last_checkpoint_whole(folders, tmp_path, monkeypatch):
    config = replace(SMALL, epochs=2)
    save, calls = torch.save, []

    def full(state, file):
        calls.append(state["epoch"])
        if len(calls) == 2:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        pretrain(config, folders, tmp_path / "run")
    assert torch.load(tmp_path / "run/last.pth", weights_only=True)["epoch"] == 1
    assert not list((tmp_path / "run").glob("*.part")) and not list((tmp_path / "run").glob(".*"))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(folders, tmp_path, workers):
    bad = folders / "train/down/3.png"
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"^\S*3\.png: .*(remove|convert)"):
        pretrain(replace(SMALL, workers=workers), folders, tmp_path / "run")


def test_folders_that_cannot_be_used_are_named(folders, tmp_path):
    with pytest.raises(ValueError, match="none/train: no such folder"):
        find_splits(tmp_path / "none")
    (tmp_path / "empty/train").mkdir(parents=True)
    with pytest.raises(ValueError, match="no class folders"):
        find_splits(tmp_path / "empty")
    (tmp_path / "empty/train/cat").mkdir()
    with pytest.raises(ValueError, match="only the class 'cat'"):
        find_splits(tmp_path / "empty")
    (tmp_path / "empty/train/dog").mkdir()
    with pytest.raises(ValueError, match="cat has no images"):
        find_splits(tmp_path / "empty")
    (folders / "train/down").rename(folders / "train/up")
    with pytest.raises(ValueError, match="'up' is in train only"):
        find_splits(folders)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["epocs", "3"], "did you mean 'epochs'"),
        (["network", "resnet19"], "resnet18"),
        (["device", "cuda:99"], "use device cpu"),
        (["rate_per_256", "1e30"], "lower rate_per_256"),
    ],
)
def test_the_tool_ends_with_one_sentence(folders, tmp_path, monkeypatch, capsys, options, message):
    arguments = ["--config", str(ROOT / "configs/imagenet/R18_shapes.yaml"), "--data", str(folders)]
    arguments += ["--output", str(tmp_path / "run"), "batch_size", "8", "size", "32", *options]
    monkeypatch.setattr(sys, "argv", [str(TOOL), *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert ended.value.code == 1
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_the_tool_helps_in_a_process_of_its_own():
    done = subprocess.run([sys.executable, str(TOOL), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "examples:" in done.stdout
