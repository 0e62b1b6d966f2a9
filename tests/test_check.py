"""`--check`: what is right is said to be, what is wrong is found before training, and nothing of a run is touched."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.layers import NaiveSyncBatchNorm
from made_data import TINY, write_config, write_rectangles
from PIL import Image
from torch import nn

from resnet_backbone.detection.config import default_config
from resnet_backbone.detection.preflight.check import check
from resnet_backbone.detection.preflight.data import doubles
from resnet_backbone.detection.preflight.settings import norm_findings, schedule_findings
from resnet_backbone.detection.training.launch import start
from resnet_backbone.detection.training.room import room_findings
from resnet_backbone.detection.training.run import run
from resnet_backbone.detection.training.settle import RunOptions
from resnet_backbone.engine import room
from resnet_backbone.engine.preflight import Finding
from resnet_backbone.engine.step import TrainStep
from resnet_backbone.weights.files import read_weights

ROOT = Path(__file__).parents[1]


@pytest.fixture
def data(tmp_path):
    return write_rectangles(tmp_path / "rectangles")


def options(tmp_path, data, *pairs, **more):
    config = write_config(tmp_path, TINY)
    return RunOptions(config, ("DATA.ROOT", str(data), *pairs), tmp_path / "run", **more)


def looked_at(options):
    lines = []
    return check(replace(options, check=True), lines.append), lines


def found(lines, level):
    return [line.split(None, 1)[1] for line in lines if line.startswith(f"  {level} ")]


def test_what_is_right(tmp_path, data):
    code, lines = looked_at(options(tmp_path, data, "MODEL.MASK_ON", "True"))
    assert code == 0 and found(lines, "error") == []
    said = "\n".join(found(lines, "ok"))
    assert "4 images to train on, 2 to test on" in said and "wide 4 / 2, tall 4 / 2" in said
    assert "trainable parameter tensors get finite gradients" in said and "s a step" in said
    assert lines[-1].startswith("Training can start")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["check.png"]
    with Image.open(tmp_path / "run" / "check.png") as sheet:
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 100


def test_a_run_that_is_there_is_left_alone(tmp_path, data):
    run(options(tmp_path, data, "SOLVER.MAX_ITER", "2"))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert looked_at(options(tmp_path, data))[0] == 0
    (tmp_path / "run" / "check.png").unlink()
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_broken_weights_and_the_rest_is_looked_at_all_the_same(tmp_path, data):
    run(options(tmp_path, data, "SOLVER.MAX_ITER", "1", "TEST.PICTURES", "0"))
    weights = read_weights(tmp_path / "run" / "model_final.pth").state
    weights["backbone.bottom_up.res3.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save({"model": weights}, tmp_path / "nan.pth")
    shutil.copy(tmp_path / "run" / "model_final.pth", tmp_path / "whole.pth")
    code, lines = looked_at(options(tmp_path, data, "MODEL.WEIGHTS", str(tmp_path / "nan.pth")))
    errors = found(lines, "error")
    assert code == 1 and len(errors) == 1 and "nan.pth" in errors[0] and "hold no numbers" in errors[0], errors
    assert any("finite gradients" in line for line in lines)
    assert any("4 images to train on" in line for line in lines)
    assert lines[-1].startswith("Training should not start")
    code, lines = looked_at(options(tmp_path, data, "MODEL.WEIGHTS", str(tmp_path / "whole.pth")))
    assert code == 0, lines


def test_a_missing_image_and_a_wrong_class_count(tmp_path, data):
    code, lines = looked_at(options(tmp_path, data, "MODEL.ROI_HEADS.NUM_CLASSES", "7"))
    assert code == 1 and "MODEL.ROI_HEADS.NUM_CLASSES: 7, but the data have 2 classes" in found(lines, "error")[0]
    (data / "images" / "2.png").unlink()
    code, lines = looked_at(options(tmp_path, data, "DATA.NAME", "missing"))
    assert code == 1 and "2.png: annotated, but there is no such file" in found(lines, "error")[0]


@pytest.mark.parametrize(("parts", "taken"), [("1", 2), ("3", 3)])
def test_a_gpus_batch_is_not_stepped_through_on_a_cpu(tmp_path, data, monkeypatch, parts, taken):
    step, sizes = TrainStep.__call__, []
    monkeypatch.setattr(TrainStep, "__call__", lambda self, *args: sizes.append(len(args[1])) or step(self, *args))
    keys = ("SOLVER.IMS_PER_BATCH", "6", "SOLVER.ACCUMULATE", parts)
    code, lines = looked_at(options(tmp_path, data, *keys, keep_schedule=True))
    assert code == 0 and sizes == [taken] * 3
    few = f"(looked at with {taken} images, of the 6 that a process gets)"
    assert sum(line.endswith(few) for line in lines) == 2


def test_one_process_looks_for_all(tmp_path, data, monkeypatch, capsys):
    place = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    place |= {"MASTER_PORT": "29500", "GROUP_RANK": "0"}
    for key, value in place.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("RANK", "0")
    assert start(options(tmp_path, data, "SOLVER.IMS_PER_BATCH", "3", check=True)) == 1
    assert "3 images cannot be shared by 2 processes" in capsys.readouterr().out
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert start(options(tmp_path, data, check=True)) == 0 and capsys.readouterr().out == ""


def test_full_memory_and_an_interruption_are_no_traceback(tmp_path, data, monkeypatch, capsys):
    def full(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainStep, "__call__", full)
    assert start(options(tmp_path, data, check=True)) == 1
    assert "error: CUDA out of memory. Tried to allocate 2 GiB Remedy: a smaller" in capsys.readouterr().err
    monkeypatch.setattr(TrainStep, "__call__", interrupted)
    assert start(options(tmp_path, data, check=True)) == 130


def test_a_focal_loss_is_not_compared_with_that_of_an_untrained_softmax(tmp_path, data):
    text = TINY.replace("build_residual_fpn_backbone", "build_residual_retinanet_fpn_backbone").replace(
        "MODEL:",
        "MODEL:\n  META_ARCHITECTURE: RetinaNet\n  RETINANET: {IN_FEATURES: [p3, p4, p5, p6, p7], NUM_CONVS: 1}",
    )
    given = replace(options(tmp_path, data), config=write_config(tmp_path / "retina", text))
    code, lines = looked_at(given)
    said = next(line for line in found(lines, "ok") if line.startswith("loss "))
    assert code == 0 and "loss_cls" in said and "ln " not in said
    assert any("ln 3 = 1.10" in line for line in looked_at(options(tmp_path, data))[1])


def test_it_is_of_trainings(tmp_path, data):
    code, lines = looked_at(options(tmp_path, data, eval_only=True))
    assert code == 1 and found(lines, "error")[0].startswith("--check: looks at what is needed for training")


def test_images_in_both_sets(tmp_path, data):
    shutil.copy(data / "images" / "1.png", data / "images" / "copy.png")
    test = json.loads((data / "test.json").read_text())
    test["images"].append({**json.loads((data / "train.json").read_text())["images"][0], "id": 99})
    test["images"][-1]["file_name"] = "copy.png"
    (data / "test.json").write_text(json.dumps(test))
    code, lines = looked_at(options(tmp_path, data))
    assert code == 0 and "1 test images are training images too (first: " in " ".join(found(lines, "warning"))


def test_doubles_go_by_content(tmp_path):
    for name, content in {"a": b"12345", "b": b"12345", "c": b"54321", "d": b"1"}.items():
        (tmp_path / name).write_bytes(content)
    files = {name: str(tmp_path / name) for name in "abcd"}
    assert doubles([files["a"]], [files["b"], files["c"], files["d"]]) == [files["b"]]


def warnings_of(**keys):
    cfg = default_config()
    for key, value in {
        "BASE_LR": 0.02,
        "IMS_PER_BATCH": 16,
        "MAX_ITER": 900,
        "STEPS": (600,),
        "WARMUP_ITERS": 100,
        **keys,
    }.items():
        cfg.SOLVER[key] = value
    return " ".join(f.text for f in schedule_findings(cfg, 100) if f.level == "warning")


def test_schedules():
    assert warnings_of() == "" == warnings_of(BASE_LR=0.04)
    assert "8.0 times the linear rule's 0.0025" in warnings_of(IMS_PER_BATCH=2)
    assert "8.0 times" not in warnings_of(IMS_PER_BATCH=2, OPTIMIZER="AdamW")
    assert "not shorter than SOLVER.MAX_ITER 900" in warnings_of(WARMUP_ITERS=900)
    assert "SOLVER.STEPS [900] are never reached" in warnings_of(STEPS=(600, 900))


def test_norms():
    norm = nn.BatchNorm2d(4)
    assert [f.level for f in norm_findings(nn.Sequential(norm), 16)] == ["ok"]
    assert "learn from 2 images at a time" in norm_findings(nn.Sequential(norm), 2)[1].text
    norm.running_var[1] = -0.1
    assert [f.level for f in norm_findings(nn.Sequential(norm), 16)] == ["ok", "error"]
    norm.running_var[1] = float("nan")
    assert [f.level for f in norm_findings(nn.Sequential(norm), 16)] == ["ok", "error"]


@pytest.mark.parametrize("kind", [nn.SyncBatchNorm, NaiveSyncBatchNorm])
def test_synchronised_norms_learn_from_the_images_of_all_processes(kind):
    model = nn.Sequential(kind(4), nn.BatchNorm2d(4))
    assert "1 batch norms learn from 2 images at a time" in norm_findings(model, 2, processes=8)[1].text
    assert "2 batch norms learn from 2 images at a time" in norm_findings(model, 2, processes=2)[1].text
    assert len(norm_findings(model[:1], 1, processes=8)) == 1


def test_a_folder_that_is_a_file(tmp_path, data):
    (tmp_path / "run").write_text("")
    sentence = "run is a file and no folder; choose another folder: --output DIR"
    for folder in (tmp_path / "run", tmp_path / "run" / "below"):
        assert room.disk(folder, 0).level == "error" and sentence in room.disk(folder, 0).text
    code, lines = looked_at(options(tmp_path, data))
    assert code == 1 and sentence in found(lines, "error")[0]
    with pytest.raises(ValueError, match=sentence):
        run(options(tmp_path, data))


def test_room(tmp_path, data, monkeypatch):
    # 64 MB, docker's default, for 4 workers with two batches of 16 images of 800 x 1333 each.
    cfg = default_config()
    needed = []
    monkeypatch.setattr(room, "shared_memory", lambda bytes_, key: needed.append(bytes_))
    room_findings(cfg, nn.Linear(1, 1), tmp_path, machines=1)
    room_findings(cfg, nn.Linear(1, 1), tmp_path, machines=2)
    assert needed == [4 * 2 * 16 * 3 * 800 * 1333, 4 * 2 * 8 * 3 * 800 * 1333]
    monkeypatch.setattr(room, "shared_memory", lambda bytes_, key: Finding("error", f"too little; set {key} 0"))
    with pytest.raises(ValueError, match="too little; set DATALOADER.NUM_WORKERS 0"):
        run(options(tmp_path, data))
    assert not (tmp_path / "run" / "last.pth").exists()


def test_the_tool(tmp_path, data, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("train_net", ROOT / "tools" / "train_net.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    words = ["--config", str(write_config(tmp_path)), "--output", str(tmp_path / "run"), "--check", "DATA.ROOT"]
    monkeypatch.setattr(sys, "argv", ["train_net.py", *words, str(data / "nowhere")])
    assert tool.main() == 1
    said = capsys.readouterr().out
    assert "error    DATA.ROOT: no folder" in said and "Training should not start: 1 error" in said
