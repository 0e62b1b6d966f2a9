"""tools/train_net.py as a user meets it: a run that ends, and one that is killed and goes on."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from fvcore.nn import sigmoid_focal_loss
from made_data import TINY, write_config, write_rectangles
from made_processes import PATIENCE, wait_for
from made_runs import ROOT, command, options, patched_run, said_by

import resnet_backbone as rb
from resnet_backbone.detection.training.config import read_config
from resnet_backbone.detection.training.run import run
from resnet_backbone.detection.training.settle import RunOptions
from resnet_backbone.engine.jsonlog import read_json_lines
from resnet_backbone.weights.files import read_weights


@pytest.fixture
def data(tmp_path) -> Path:
    return write_rectangles(tmp_path / "rectangles")


def test_a_run_leaves_everything_that_it_says(tmp_path, data, capsys):
    folder = tmp_path / "my run"
    results = run(replace(options(tmp_path, data), output=folder))
    said = capsys.readouterr().out
    assert set(results) == {"train_test"}
    name = "train_test"
    assert {"AP", "AP50", "AP-wide"} <= set(results[name]["bbox"]) and "AP50" in results[name]["voc"]
    for part in ("config.yaml", "metrics.jsonl", "log.txt", "last.pth", "model_final.pth", f"pictures/{name}.jpg",
                 f"evaluation/{name}/coco_instances_results.json", f"evaluation/{name}/metrics.json"):  # fmt: skip
        assert (folder / part).is_file(), part
    assert len(list((folder / "pictures" / name).glob("*.jpg"))) == 2 and list((folder / "tensorboard").iterdir())
    for place in ("model_final.pth", "pictures", "evaluation", "config.yaml", f"tools/predict.py --weights '{folder}'"):
        assert place in said
    lines = list(read_json_lines(folder / "metrics.jsonl"))
    assert lines[0]["iteration"] == 4 and lines[0]["loss"] > 0 and "bbox/AP50" in lines[-1]
    settled = read_config(folder / "config.yaml").cfg
    assert settled.DATA.CLASSES == ["wide", "tall"] and settled.MODEL.ROI_HEADS.NUM_CLASSES == 2
    assert settled.DATA.CATEGORY_IDS == [1, 2]


def test_expected_results_are_held_against_what_was_found(tmp_path, data, capsys):
    run(options(tmp_path, data, "TEST.EXPECTED_RESULTS", "[['bbox', 'AP50', 0.0, 100.0], ['bbox', 'AP', 500, 1]]"))
    said = capsys.readouterr().out
    assert "as expected (0 +- 100)" in said and "expected 500 +- 1" in said


def test_the_final_weights_load_strictly_and_by_the_stock_checkpointer(tmp_path, data):
    run(options(tmp_path, data))
    file, cfg = tmp_path / "run" / "model_final.pth", read_config(tmp_path / "run" / "config.yaml").cfg
    record = read_weights(file).record
    assert record.variant == "resnet18" and record.channel_order == "BGR" and not record.assumed
    ours, stock = build_model(cfg), build_model(cfg)
    rb.load_weights(ours, file)
    DetectionCheckpointer(stock).load(str(file))
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), stock.state_dict().values()))
    again = run(options(tmp_path, data, eval_only=True))
    metrics = json.loads(next((tmp_path / "run" / "evaluation").glob("*/metrics.json")).read_text())
    assert next(iter(again.values()))["bbox"]["AP50"] == pytest.approx(metrics["bbox"]["AP50"], abs=1e-3)


KILL_SEED = int(os.environ.get("RESNET_BACKBONE_KILL_SEED") or int.from_bytes(os.urandom(3), "little"))


EVERYTHING = (
    "DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD", "0.9",
    "SOLVER.ACCUMULATE", "2", "SOLVER.EMA.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.ENABLED", "True",
    "TEST.EVAL_PERIOD", "2", "TEST.BEST_METRIC", "bbox/AP", "TEST.PRECISE_BN.ENABLED", "True",
    "TEST.PRECISE_BN.NUM_ITER", "2",
)  # fmt: skip


RETINANET = (
    "MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.BACKBONE.NAME", "build_residual_retinanet_fpn_backbone",
    "MODEL.FPN.IN_FEATURES", "['res3', 'res4', 'res5']", "MODEL.RETINANET.NUM_CONVS", "1",
)  # fmt: skip


VARIANTS = {"everything": EVERYTHING, "retinanet": RETINANET, "bf16": ("SOLVER.AMP.ENABLED", "True")}


def assert_same(one, other, place="") -> None:
    """Two trees of dicts, lists, tensors and values, to the last bit."""
    assert type(one) is type(other), place
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same(one[key], other[key], f"{place}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), place
        for n, (a, b) in enumerate(zip(one, other)):
            assert_same(a, b, f"{place}/{n}")
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, place


def as_in_a_new_process(monkeypatch) -> None:
    """A scripted function that was called before computes other last bits: here is one that was not."""
    function = types.FunctionType(sigmoid_focal_loss.__code__, sigmoid_focal_loss.__globals__, "sigmoid_focal_loss")
    function.__defaults__, function.__annotations__ = (
        sigmoid_focal_loss.__defaults__,
        sigmoid_focal_loss.__annotations__,
    )
    monkeypatch.setattr("detectron2.modeling.meta_arch.retinanet.sigmoid_focal_loss_jit", torch.jit.script(function))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, data, variant, monkeypatch):
    rng = random.Random(f"{KILL_SEED} {variant}")
    at, method = rng.randint(1, 5), rng.choice(["_step", "save", "_evaluate_if_due"])
    print(f"RESNET_BACKBONE_KILL_SEED={KILL_SEED}: {variant} killed in {method} from iteration {at} on")
    longer = ("SOLVER.MAX_ITER", "6", "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.STEPS", "(4,)", *VARIANTS[variant])
    as_in_a_new_process(monkeypatch)
    run(RunOptions(write_config(tmp_path, TINY), ("DATA.ROOT", str(data), *longer), tmp_path / "whole"))
    dying = f"    result = first(self, *a, **k)\n    self.iteration >= {at} and os.kill(os.getpid(), signal.SIGKILL)"
    done = patched_run(command(tmp_path, data, *longer), method, f"{dying}\n    return result")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "run" / "model_final.pth").exists()
    as_in_a_new_process(monkeypatch)
    run(options(tmp_path, data, *longer, text=TINY, resume=True))
    whole, resumed = ({} for _ in range(2))
    for found, folder in ((whole, tmp_path / "whole"), (resumed, tmp_path / "run")):
        for file in sorted(folder.glob("*.pth")):
            found[file.name] = torch.load(file, weights_only=True)
        found["last.pth"].pop("config")  # the folders differ
    files = ["last.pth", "model_final.pth", *(["model_best.pth"] if variant == "everything" else [])]
    assert sorted(whole) == sorted(files) and whole["last.pth"]["iteration"] == 6
    assert_same(whole, resumed)
    assert ("ema" in whole["last.pth"]) == (variant == "everything")
    assert (whole["last.pth"]["normalizer"] != {}) == (variant == "retinanet")


def test_sigterm_saves_and_says_how_to_go_on(tmp_path, data):
    process = subprocess.Popen(
        command(tmp_path, data, "SOLVER.MAX_ITER", "100000", "SOLVER.CHECKPOINT_PERIOD", "100000"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        wait_for(tmp_path / "run" / "metrics.jsonl", process)
    finally:
        process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "saved in" in error and "go on with --resume" in error, error
    assert torch.load(tmp_path / "run" / "last.pth", weights_only=True)["iteration"] >= 20


def test_a_run_is_neither_overwritten_nor_changed_half_way(tmp_path, data, capsys):
    run(options(tmp_path, data))
    assert "go on with --resume, begin anew with --overwrite" in said_by(capsys, options(tmp_path, data))
    error = said_by(capsys, options(tmp_path, data, "SOLVER.MAX_ITER", "9", resume=True))
    assert "the run was begun with SOLVER.MAX_ITER 4, now it is 9" in error
    assert read_config(tmp_path / "run" / "config.yaml").cfg.SOLVER.MAX_ITER == 4
    final = tmp_path / "run" / "model_final.pth"
    said_by(capsys, options(tmp_path, data, "MODEL.WEIGHTS", str(tmp_path / "missing.pth"), overwrite=True))
    said_by(capsys, options(tmp_path, data, "MODEL.BACKBONE.NAME", "build_residual_fpn_backbon", overwrite=True))
    assert final.exists() and (tmp_path / "run" / "last.pth").exists()
    run(options(tmp_path, data, overwrite=True))


def test_eval_only_with_resume_tests_the_trained_weights(tmp_path, data, monkeypatch):
    from resnet_backbone.detection.training import run as module

    run(options(tmp_path, data))
    loaded = []
    load = module.load_weights
    monkeypatch.setattr(module, "load_weights", lambda *a, **k: loaded.append((a[1], k)) or load(*a, **k))
    run(options(tmp_path, data, eval_only=True, resume=True))
    assert loaded == [(str(tmp_path / "run" / "model_final.pth"), {"fine_tune": False})]


def test_two_images_of_one_name_have_a_picture_each(tmp_path, data):
    content = json.loads((data / "test.json").read_text())
    (data / "images" / "other").mkdir()
    first, second = content["images"]
    shutil.move(data / "images" / second["file_name"], data / "images" / "other" / first["file_name"])
    second["file_name"] = f"other/{first['file_name']}"
    (data / "test.json").write_text(json.dumps(content))
    run(options(tmp_path, data))
    assert len(list((tmp_path / "run" / "pictures" / "train_test").glob("*.jpg"))) == 2
