"""tools/train_net.py with bad settings, data and weights: one sentence before the first iteration, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import pytest
import torch
from made_data import SMALL, write_rectangles
from made_runs import command, options, patched_run, said_by

import resnet_backbone as rb
from resnet_backbone.detection.training.launch import guarded, start
from resnet_backbone.weights.files import write_weights
from resnet_backbone.weights.record import WeightRecord


@pytest.fixture
def data(tmp_path) -> Path:
    return write_rectangles(tmp_path / "rectangles")


def test_counts_of_processes_that_cannot_be_are_one_sentence(tmp_path, data, capsys):
    def said(rank=0, **more) -> str:
        assert start(options(tmp_path, data, **more), rank) == 1
        return capsys.readouterr().err

    assert "error: --num-gpus 0: at least 1" in said(gpus=0)
    if torch.cuda.device_count() < 2:
        assert f"--num-gpus 2: this machine has {torch.cuda.device_count()} CUDA GPUs" in said(gpus=2)
    assert "ranks go from 0 to machines - 1" in said(rank=1)
    if torch.cuda.is_available():
        assert "--dist-url tcp://HOST:PORT" in said(machines=2)


def test_bad_settings_are_one_sentence_before_the_first_iteration(tmp_path, data, capsys):
    def said(*pairs: str, **more) -> str:
        return said_by(capsys, options(tmp_path, data, *pairs, **more))

    assert "did you mean 'SOLVER.MAX_ITER'" in said("SOLVER.MAXITER", "3")
    error = said("MODEL.ROI_HEADS.NUM_CLASSES", "5")
    assert "MODEL.ROI_HEADS.NUM_CLASSES: 5, but the data have 2 classes (wide, tall)" in error
    if not torch.cuda.is_available():
        assert "no CUDA GPU; use MODEL.DEVICE cpu" in said("MODEL.DEVICE", "cuda")
    assert "MODEL.DEVICE: 'gpu' is no device" in said("MODEL.DEVICE", "gpu")
    error = said("MODEL.BACKBONE.NAME", "build_residual_fpn_backbon")
    assert "nothing is registered as 'build_residual_fpn_backbon'; did you mean 'build_residual_fpn_backbone'" in error
    assert "MODEL.META_ARCHITECTURE: nothing is registered" in said("MODEL.META_ARCHITECTURE", "FasterRCNN")
    assert "IN_FEATURES" in said("MODEL.FPN.IN_FEATURES", "['res2', 'res9']")
    assert "choose MODEL.BACKBONE.NAME build_residual" in said("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone")
    assert "DATALOADER.SAMPLER_TRAIN: 'Nonsense'" in said("DATALOADER.SAMPLER_TRAIN", "Nonsense")
    assert "TEST.AUG.ENABLED: True is not supported" in said("TEST.AUG.ENABLED", "True")
    assert "no folder" in said("DATA.ROOT", str(tmp_path / "nowhere"))
    assert "holds no model_final.pth" in said(eval_only=True)
    assert "SOLVER.OPTIMIZER: 'Adam' is neither" in said("SOLVER.OPTIMIZER", "Adam")
    assert "MODEL.RESNETS.NORM is FrozenBN" in said("MODEL.RESNETS.NORM", "FrozenBN")
    assert "no data set 'coco_2017_trian'; did you mean 'coco_2017_train" in said(
        "DATA.ROOT", "", "DATASETS.TRAIN", "coco_2017_trian"
    )
    error = said("DATA.ROOT", "", "DATASETS.TRAIN", "voc_2007_train", "DATASETS.TEST", "voc_2007_val")
    assert "DATASETS.TRAIN: voc_2007_train: no " in error and "set DETECTRON2_DATASETS" in error


def test_bad_data_are_one_sentence_before_the_first_iteration(tmp_path, data, capsys):
    content = json.loads((data / "train.json").read_text())

    def said(**changes) -> str:
        root = tmp_path / f"data{len(list(tmp_path.iterdir()))}"
        shutil.copytree(data, root)
        (root / "train.json").write_text(json.dumps({**content, **changes}))
        return said_by(capsys, options(tmp_path, root))

    assert "has an object to train on" in said(annotations=[])
    assert "has no images" in said(images=[], annotations=[])
    stranger = [{**content["images"][0], "file_name": "gone.png"}]
    assert "gone.png: annotated, but there is no such file" in said(images=stranger)
    broken = tmp_path / "broken"
    shutil.copytree(data, broken)
    whole = (broken / "images" / "2.png").read_bytes()
    (broken / "images" / "2.png").write_bytes(whole[: len(whole) // 2])
    assert "2.png: not readable as an image" in said_by(capsys, options(tmp_path, broken))


def test_boxes_outside_or_of_no_size_are_told_of_and_survived(tmp_path, data, capsys):
    content = json.loads((data / "train.json").read_text())
    content["annotations"][0]["bbox"] = [500, 500, 10, 10]
    content["annotations"][2]["bbox"] = [5, 5, 0, 8]
    content["annotations"].append({**content["annotations"][3], "id": 99, "image_id": 77})
    (data / "train.json").write_text(json.dumps(content))
    assert guarded(options(tmp_path, data)) == 0
    said = capsys.readouterr().out
    assert "1 boxes lie outside their image" in said and "1 boxes have no width or height" in said
    assert "1 annotations without their image left out" in said


def test_an_image_that_breaks_later_is_named_not_a_traceback(tmp_path, data, capsys, monkeypatch):
    from resnet_backbone.detection.training import run as module

    def spoil(*arguments):
        (data / "images" / "1.png").write_bytes(b"not an image any more")
        return training_records(*arguments)

    training_records = module.training_records
    monkeypatch.setattr(module, "training_records", spoil)
    error = said_by(capsys, options(tmp_path, data, "DATALOADER.NUM_WORKERS", "1"))
    assert "1.png: cannot be trained on" in error


def weights_file(path: Path, name: str = "resnet18") -> Path:
    net = rb.build(name, num_classes=3)
    return write_weights(path, net.state_dict(), WeightRecord("resnet_backbone", "made", name))


def test_weights_of_another_depth_or_cut_off_are_refused(tmp_path, data, capsys):
    deep = weights_file(tmp_path / "deep.safetensors", "resnet34")
    error = said_by(capsys, options(tmp_path, data, "MODEL.WEIGHTS", str(deep)))
    assert "another network than the one it is for (the file is resnet34)" in error
    cut = weights_file(tmp_path / "cut.pth")
    cut.write_bytes(cut.read_bytes()[:100_000])
    assert "cut.pth: damaged or truncated torch file" in said_by(
        capsys, options(tmp_path, data, "MODEL.WEIGHTS", str(cut))
    )
    error = said_by(capsys, options(tmp_path, data, "MODEL.WEIGHTS", str(weights_file(tmp_path / "r18.pth")),
                                    "MODEL.PIXEL_STD", "[2.0, 2.0, 2.0]"))  # fmt: skip
    assert "MODEL.PIXEL_STD is [2.0, 2.0, 2.0], but the weights" in error


def test_backbone_weights_alone_are_not_evaluated(tmp_path, data, capsys):
    weights = weights_file(tmp_path / "r18.pth")
    error = said_by(capsys, options(tmp_path, data, "MODEL.WEIGHTS", str(weights), eval_only=True))
    assert "the detector's heads would stay random" in error


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, data):
    """A file size limit stands in for a full disk: the kernel refuses the write in the middle in the same way."""
    last = tmp_path / "run" / "last.pth"
    filling = (
        "    first(self)\n    import resource, os\n    size = os.path.getsize(self.output / 'last.pth') // 2\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))"
    )
    full = patched_run(command(tmp_path, data, "SOLVER.CHECKPOINT_PERIOD", "1", text=SMALL), "save", filling)
    assert full.returncode == 1 and full.stderr.strip().splitlines()[-1].startswith("error: "), full.stderr
    assert "Traceback" not in full.stderr and "last.pth" in full.stderr.strip().splitlines()[-1]
    assert torch.load(last, weights_only=True)["iteration"] == 1
    assert not list((tmp_path / "run").glob("*.part")) and not list((tmp_path / "run").glob(".*.part"))


def test_photographs_of_mixed_kinds_train(tmp_path, data):
    grey = cv2.imread(str(data / "images" / "1.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(data / "images" / "1.png"), grey)
    assert guarded(options(tmp_path, data, "MODEL.MASK_ON", "True", "SOLVER.OPTIMIZER", "AdamW")) == 0
    assert os.listdir(tmp_path / "run" / "pictures")
