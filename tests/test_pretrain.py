"""Pretraining on class folders: recipes, views, statistics, resuming, and weights that load with their record."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from made_pretraining import SMALL, TOOL
from torch import nn

from resnet_backbone.classification.data.batches import evaluation_batches, training_batches
from resnet_backbone.classification.data.folders import find_splits
from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.testing.evaluate import evaluate
from resnet_backbone.classification.training.loop import Loop
from resnet_backbone.classification.training.train import pretrain
from resnet_backbone.engine.yaml_config import read_config
from resnet_backbone.models.build import build_network
from resnet_backbone.weights.files import read_weights
from resnet_backbone.weights.load import load_weights

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


def test_config_mistakes_are_named(tmp_path):
    path = tmp_path / "c.yaml"

    def error(text, *overrides):
        path.write_text(text)
        with pytest.raises(ValueError) as caught:
            read_config(TrainConfig, path, overrides)
        return str(caught.value)

    good = "network: resnet18\nepochs: 2\n"
    assert "did you mean 'batch_size'" in error(good + "batchsize: 3\n")
    assert "neither is given" in error("network: resnet18\n")
    assert "both is given" in error(good + "iterations: 3\n")
    assert "key 'network' is missing" in error("epochs: 3\n")
    assert "momentum is 'high', but it must be a number" in error(good + "momentum: high\n")
    assert "batch_size is 2.5, but it must be a whole number" in error(good + "batch_size: 2.5\n")
    assert "one of cosine, steps, plateau, constant" in error(good + "schedule: linear\n")
    assert "must have 2 entries" in error(good + "scale: [0.1]\n")
    assert "'epochs' has no value" in error(good, "epochs")
    assert "command line: unknown key 'epoch'" in error(good, "epoch", "3")
    assert "must be positive" in error(good, "batch_size", "0")
    assert "not readable as YAML" in error("network: [\n")
    assert "a mapping" in error("- 1\n")
    path.write_text(good + "weight_decay: 1e-4\nsteps: [1]\n")
    assert read_config(TrainConfig, path, ["epochs", "5"]) == TrainConfig(
        network="resnet18", epochs=5.0, weight_decay=1e-4, steps=(1.0,)
    )
    with pytest.raises(ValueError, match="no such config file"):
        read_config(TrainConfig, tmp_path / "none.yaml")


def test_batches_depend_on_seed_and_iteration_alone(folders):
    train = open_data(str(folders)).train

    def images(config, start, count):
        return [batch.images for batch in islice(training_batches(train, config, start, CPU), count)]

    whole = images(SMALL, 0, 9)  # more than two epochs of four
    assert all(map(torch.equal, whole[5:], images(SMALL, 5, 4)))
    assert all(map(torch.equal, whole, images(replace(SMALL, workers=2), 0, 9)))
    assert all(map(torch.equal, whole, images(replace(SMALL, cache=True), 0, 9)))
    assert not torch.equal(whole[0], images(replace(SMALL, seed=1), 0, 1)[0])
    seen = [i for batch in islice(training_batches(train, SMALL, 0, CPU), 4) for i in batch.indices.tolist()]
    assert sorted(seen) == list(range(32))


def test_every_validation_image_is_tested_once(folders):
    val = open_data(str(folders)).val
    labels = torch.cat([batch.labels for batch in evaluation_batches(val, SMALL)])
    assert labels.tolist() == list(val.labels)


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
    config = replace(SMALL, epochs=8.0)
    outcome = pretrain(config, folders, tmp_path / "run")
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
    tests = {line["iteration"]: line["val/top1"] for line in lines if "val/top1" in line}
    assert list(tests) == list(range(4, 33, 4)) and tests[32] == pytest.approx(outcome.accuracy.top1_percent, abs=1e-4)
    assert [line["iteration"] for line in lines if "error" in line] == [20, 32]
    assert read_config(TrainConfig, tmp_path / "run/config.yaml") == replace(config, data=str(folders))
    assert "left" in capsys.readouterr().err
    with pytest.raises(ValueError, match="holds a run: go on with --resume"):
        pretrain(config, folders, tmp_path / "run")


def test_a_resumed_run_ends_as_the_whole_one(folders, tmp_path, monkeypatch):
    config = replace(SMALL, epochs=2.0, batch_sides=(24, 32), zero_init_last_norm=True, save_every=0.5, ema=0.9)
    whole = pretrain(config, folders, tmp_path / "whole")
    step = Loop._step

    def broken(self, *arguments):
        if self.iteration == 5:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Loop, "_step", broken)
        pretrain(config, folders, tmp_path / "parts")
    assert torch.load(tmp_path / "parts/last.pth", weights_only=True)["iteration"] == 4
    with pytest.raises(ValueError, match="begun with epochs 2.0, now it is 3.0"):
        pretrain(replace(config, epochs=3.0), folders, tmp_path / "parts", resume=True)
    with pytest.raises(ValueError, match="a checkpoint of resnet18, not of resnet34"):
        pretrain(replace(config, network="resnet34"), folders, tmp_path / "parts", resume=True)
    parts = pretrain(config, folders, tmp_path / "parts", resume=True)
    first, second = (read_weights(o.weights).state for o in (whole, parts))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_full_disk_leaves_the_last_checkpoint_whole(folders, tmp_path, monkeypatch):
    config = replace(SMALL, epochs=2)
    save, calls = torch.save, []

    def full(state, file):
        calls.append(state["iteration"])
        if len(calls) == 3:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        pretrain(config, folders, tmp_path / "run")
    assert torch.load(tmp_path / "run/last.pth", weights_only=True)["iteration"] == 4
    assert not list((tmp_path / "run").glob("*.part")) and not list((tmp_path / "run").glob(".*"))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(folders, tmp_path, workers):
    bad = folders / "train/down/3.png"
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"^\S*3\.png: .*(remove|convert)"):
        pretrain(replace(SMALL, workers=workers), folders, tmp_path / "run")
    (tmp_path / "run/last.pth").unlink(missing_ok=True)
    allowed = replace(SMALL, workers=workers, epochs=1, broken_images=1)
    pretrain(allowed, folders, tmp_path / "run")
    assert (tmp_path / "run/broken_images.txt").read_text() == f"{bad}\n"
    other = folders / "train/across/2.png"
    other.write_bytes(b"no image")
    with pytest.raises(ValueError, match="more than 1 images cannot be read"):
        pretrain(allowed, folders, tmp_path / "run2")


def test_held_out_images_are_not_trained_on_and_choose_the_best(folders, tmp_path):
    config = replace(SMALL, holdout=8, epochs=4)
    data = open_data(str(folders), holdout=8, seed=config.seed)
    names = {data.train.name(i) for i in range(len(data.train))}, {data.holdout.name(i) for i in range(8)}
    assert len(names[0]) == 24 and len(names[1]) == 8 and not names[0] & names[1]
    assert np.bincount(data.holdout.labels).tolist() == [4, 4]
    pretrain(config, folders, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    best = max(line["holdout/top1"] for line in lines if "holdout/top1" in line)
    assert f"best holdout/top1, {best:.2f}" in read_weights(tmp_path / "run/model_best.safetensors").record.notes[-1]
    with pytest.raises(ValueError, match="leave none of class"):
        open_data(str(folders), holdout=32)


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


def test_small_images_that_a_recipe_enlarges_are_said(tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    splits = {f"x_{name}": images[:count] for name, count in (("train", 32), ("test", 8))}
    labels = {f"y_{name}": np.arange(count) % 10 for name, count in (("train", 32), ("test", 8))}
    np.savez(tmp_path / "small.npz", **splits, **labels)
    config = replace(SMALL, size=48, test_size=48, test_resize=48, epochs=0.25)
    pretrain(config, tmp_path / "small.npz", tmp_path / "large")
    assert "images of 32 x 32 pixels are enlarged to size 48; recipes for small ones" in capsys.readouterr().out
    pretrain(replace(config, size=32), tmp_path / "small.npz", tmp_path / "same")
    assert "enlarged" not in capsys.readouterr().out


def test_steps_behind_the_end_are_said_where_there_are_steps(folders, tmp_path, capsys):
    config = replace(SMALL, epochs=0.25, schedule="steps", steps=(0.1, 0.5))
    pretrain(config, folders, tmp_path / "steps")
    assert "steps [0.5] lie behind the end, 0.25 epochs: the rate does not drop there" in capsys.readouterr().out
    pretrain(replace(config, schedule="cosine"), folders, tmp_path / "cosine")
    assert "behind the end" not in capsys.readouterr().out
