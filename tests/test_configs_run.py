"""The detector configs by the tool itself: its help names files that are there, and they train on other data."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from test_configs import ROOT, TOOL, path_of

from resnet_backbone.detection.training.config import read_config


def ran(*arguments, folder):
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_help_shows_examples_whose_configs_exist(tmp_path):
    done = ran("--help", folder=tmp_path)
    assert done.returncode == 0 and "examples:" in done.stdout
    named = set(re.findall(r"configs/\S+\.yaml", done.stdout))
    assert len(named) >= 3 and all((ROOT / name).is_file() for name in named)


@pytest.fixture
def few_cells(real_data, tmp_path):
    """Four photographs of BCCD to train on, two to test on."""
    bccd, few = real_data / "bccd", tmp_path / "cells"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (few / folder).mkdir(parents=True)
    for split, count in (("trainval", 4), ("test", 2)):
        names = (bccd / "ImageSets" / "Main" / f"{split}.txt").read_text().split()[:count]
        (few / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            shutil.copy(bccd / "Annotations" / f"{name}.xml", few / "Annotations")
            shutil.copy(bccd / "JPEGImages" / f"{name}.jpg", few / "JPEGImages")
    return few


@pytest.mark.parametrize(
    "name, weights", [("faster_rcnn_R18_C4_coco", "resnet18_pqf_fp16.pth.xz"), ("faster_rcnn_VGG16_coco", "")]
)
def test_coco_config_trains_on_other_data(name, weights, few_cells, real_data, tmp_path):
    done = ran(
        "--config", path_of(name), "--output", tmp_path / "run",
        "DATA.ROOT", few_cells, "MODEL.WEIGHTS", real_data / "weights" / weights if weights else "",
        "MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TRAIN", 64, "INPUT.MIN_SIZE_TEST", 64, "SOLVER.IMS_PER_BATCH", 2,
        "SOLVER.MAX_ITER", 2, "SOLVER.STEPS", "()", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16,
        "MODEL.RPN.POST_NMS_TOPK_TEST", 32, "DATALOADER.NUM_WORKERS", 0, "TEST.PICTURES", 2, "SEED", 1,
        folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    for file in ("config.yaml", "log.txt", "last.pth", "model_final.pth", "pictures/cells_test.jpg"):
        assert (run / file).stat().st_size > 0
    assert len(list((run / "pictures" / "cells_test").glob("*.jpg"))) == 2
    losses = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert losses["iteration"] == 2 and losses["loss"] > 0
    assert "bbox" in json.loads((run / "evaluation" / "cells_test" / "metrics.json").read_text())
    settled = read_config(run / "config.yaml").cfg
    assert settled.MODEL.ROI_HEADS.NUM_CLASSES == 3 and settled.DATA.CLASSES == ["Platelets", "RBC", "WBC"]
