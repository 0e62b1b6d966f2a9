"""The README's way from ILSVRC2012's tars to a COCO detector: its own lines, on archives and a COCO in miniature."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from made_data import write_rectangles
from made_ilsvrc import write_archives
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resnet_backbone.detection.build import build_detector
from resnet_backbone.detection.training.config import read_config
from resnet_backbone.detection.training.smoke import SHRUNK
from resnet_backbone.engine.room import checkpoint_size
from resnet_backbone.models.build import build_network
from resnet_backbone.weights.files import read_weights

ROOT = Path(__file__).parents[1]
SECTION = (ROOT / "README.md").read_text().partition("## From ILSVRC2012's tars to a COCO detector")[2]
SECTION = SECTION.partition("\n## ")[0]
CLASSIFIER, DETECTOR = Path("runs/imagenet/R50"), Path("runs/faster_rcnn_R50_coco")

ONE_PROCESS = "--num-gpus 8"
"""Left out, as the README says; nothing else is."""
NARROW = {"STEM_OUT_CHANNELS": 8, "RES2_OUT_CHANNELS": 32}
DETECT = {
    **SHRUNK, "SOLVER.MAX_ITER": 3, "SOLVER.STEPS": "(2,)", "SOLVER.WARMUP_ITERS": 1, "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.BASE_LR": 1e-5, "SOLVER.CHECKPOINT_PERIOD": 3, "INPUT.MIN_SIZE_TRAIN": "(64,)", "INPUT.MIN_SIZE_TEST": 64,
    "MODEL.FPN.OUT_CHANNELS": 16, "MODEL.ROI_BOX_HEAD.FC_DIM": 16, "MODEL.DEVICE": "cpu", "TEST.PICTURES": 1,
    "SEED": 1, **{f"MODEL.RESNETS.{key}": value for key, value in NARROW.items()},
}  # fmt: skip
PRETRAIN = {
    **{key.lower(): value for key, value in NARROW.items()}, "epochs": "null", "iterations": 3, "steps": "[2]",
    "batch_size": 4, "size": 96, "shorter_sides": "[96, 112]", "test_size": 96, "test_resize": 96, "test_every": 3,
    "save_every": 3, "workers": 0, "device": "cpu",
}  # fmt: skip
SMALL: dict[str, list[str]] = {
    "prepare_imagenet": ["--any-counts"],
    "pretrain_imagenet": [str(word) for pair in PRETRAIN.items() for word in pair],
    "eval_imagenet": ["--workers", "0", "--device", "cpu"],
    "train_net": [str(word) for pair in DETECT.items() for word in pair],
    "evaluate": [],
}
"""What each tool gets behind the README's words."""

DRIVER = """
import json, runpy, sys, warnings
warnings.simplefilter("ignore")
for words in json.loads(sys.argv[1]):
    sys.argv = words
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as left:
        if left.code:
            sys.exit(f"{' '.join(words)}: exit code {left.code}")
    print(f"== end of {words[0]}", flush=True)
"""
"""All lines in one process, which imports torch once."""


def commands() -> list[list[str]]:
    """The README's, with what makes them small."""
    block = re.search(r"```\n(.*?)```", SECTION, re.DOTALL)[1]
    lines = block.replace("\\\n", " ").strip().splitlines()
    words = [shlex.split(line.replace(ONE_PROCESS, "")) for line in lines]
    assert all(line[0] == "python" for line in words)
    return [[*line[1:], *SMALL[Path(line[1]).stem]] for line in words]


def write_coco(root: Path) -> None:
    """As Detectron2 lays it out: six drawn images, their rectangles persons and cars among COCO's 80 classes."""
    made = write_rectangles(root / "made")
    (root / "annotations").mkdir()
    categories = [{"id": one["id"], "name": one["name"]} for one in COCO_CATEGORIES if one["isthing"]]
    for name, split in (("train", "train2017"), ("test", "val2017")):
        content = json.loads((made / f"{name}.json").read_text())
        for one in content["annotations"]:
            one["category_id"] = {1: 1, 2: 3}[one["category_id"]]
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps({**content, "categories": categories}))
        (root / split).mkdir()
        for image in content["images"]:
            (made / "images" / image["file_name"]).rename(root / split / image["file_name"])


@pytest.fixture(scope="module")
def route(tmp_path_factory):
    """A folder in which all commands have run, as in a clone, and what each said."""
    folder = tmp_path_factory.mktemp("route")
    for name in ("tools", "configs"):
        (folder / name).symlink_to(ROOT / name)
    write_archives(folder)
    for ours, theirs in (("train.tar", "img_train.tar"), ("val.tar", "img_val.tar")):
        (folder / ours).rename(folder / f"ILSVRC2012_{theirs}")
    (folder / "devkit.tar.gz").rename(folder / "ILSVRC2012_devkit_t12.tar.gz")
    write_coco(folder / "datasets" / "coco")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("DETECTRON2_DATASETS", None)
    words = [sys.executable, "-c", DRIVER, json.dumps(commands())]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder, done.stdout.split("== end of ")


def test_the_tools_are_all_there_in_their_order(route):
    _, said = route
    tools = [text.splitlines()[0] for text in said[1:]]
    order = ("prepare_imagenet", "pretrain_imagenet", "eval_imagenet", "train_net", "train_net", "evaluate")
    assert tools == [f"tools/{name}.py" for name in order]
    assert "train: 12 images of 3 classes" in said[0] and "val: 7 images of 3 classes" in said[0]
    assert "7 images of 3 classes" in said[2] and re.search(r"^R50 .*10-crop .*%", said[2], re.MULTILINE)


def test_the_detector_keeps_the_classifiers_batch_norms_and_trains_the_rest(route):
    folder, _ = route
    classifier = read_weights(folder / CLASSIFIER / "model.safetensors")
    assert "batch norms: mean and variance over the 12 training images, augmented as in training" in (
        classifier.record.notes
    )
    detector = read_weights(folder / DETECTOR / "model_final.pth")
    prefix = "backbone.bottom_up."
    body = {key.removeprefix(prefix): value for key, value in detector.state.items() if key.startswith(prefix)}
    assert set(body) == {key for key in classifier.state if "tracked" not in key and not key.startswith("linear.")}
    same = {key for key, value in body.items() if torch.equal(value, classifier.state[key])}
    # FREEZE_AT 2, and FrozenBN throughout.
    assert same == {key for key in body if ".norm." in key or key.startswith(("stem.", "res2."))}
    assert detector.record.mean == classifier.record.mean and detector.record.stride_in_1x1


def test_the_results_are_what_pycocotools_reads(route):
    """Three steps find nothing right: that the numbers agree is tested of trained detectors elsewhere."""
    folder, said = route
    truth = COCO(folder / "datasets/coco/annotations/instances_val2017.json")
    found = truth.loadRes(str(folder / DETECTOR / "evaluation/coco_2017_val/coco_instances_results.json"))
    assert {one["image_id"] for one in found.anns.values()} == set(truth.getImgIds())
    measured = COCOeval(truth, found, "bbox")
    with contextlib.redirect_stdout(io.StringIO()):
        measured.evaluate()
        measured.accumulate()
        measured.summarize()
    lines = [json.loads(line) for line in (folder / DETECTOR / "metrics.jsonl").read_text().splitlines()]
    (ours,) = [line["bbox/AP"] for line in lines if "bbox/AP" in line]
    assert ours == pytest.approx(100 * measured.stats[0], abs=1e-3) and "AP50" in said[5]


def test_the_sizes_that_the_readme_names_are_the_networks():
    rows = dict(re.findall(r"^\| (ResNet-50|Faster R-CNN): .* \| (.*) \|$", SECTION, re.MULTILINE))
    with torch.device("meta"):
        classifier = build_network("resnet50", num_classes=1000)
    config = ROOT / "configs" / "faster_rcnn_R50_coco.yaml"
    detector = build_detector(read_config(config, ["MODEL.DEVICE", "cpu"]).cfg)
    for name, model in (("ResNet-50", classifier), ("Faster R-CNN", detector)):
        weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
        assert rows[name] == f"{checkpoint_size(model) / 1e9:.2f}, {weights / 1e9:.2f}"
