"""Configs are read as yacs reads them but refuse what it swallows; the schedule follows the batch as Detectron2's."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.engine import DefaultTrainer
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.structures import BoxMode
from made_data import SMALL, write_config
from test_zoo import COVERED

from resnet_backbone.detection.config import default_config
from resnet_backbone.detection.preflight.boxes import anchor_finding
from resnet_backbone.detection.training.config import leaves, read_config
from resnet_backbone.detection.training.schedule import check_batch, scale_schedule

OURS = {
    "MODEL.RESIDUAL.", "DATA.", "SOLVER.OPTIMIZER", "SOLVER.AMP.DTYPE", "SOLVER.ACCUMULATE", "SOLVER.EMA.",
    "TEST.PICTURES", "TEST.PICTURE_THRESH", "TEST.BEST_METRIC", "TEST.COCO_BACKEND",
    "TEST.VOC_ROUNDING", "INPUT.MAPPER_TRAIN",
}  # fmt: skip


# Detectron2's RetinaNet configs compute their anchors by Python code in YAML.
@pytest.mark.parametrize("name", [n for n in COVERED[::4] if "retinanet" not in n and "rpn_R" not in n])
def test_a_zoo_config_reads_as_yacs_reads_it(name):
    path = model_zoo.get_config_file(f"{name}.yaml")
    stock = get_cfg()
    stock.merge_from_file(path)
    pairs = [
        "SOLVER.BASE_LR",
        "1e-3",
        "DATASETS.TRAIN",
        "('a', 'b')",
        "MODEL.MASK_ON",
        "True",
        "SOLVER.STEPS",
        "(1, 2)",
    ]
    stock.merge_from_list(pairs)
    read = read_config(path, pairs)
    ours = {k: v for k, v in leaves(read.cfg) if not k.startswith(tuple(OURS))}
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in ours.items()} == {
        k: tuple(v) if isinstance(v, list) else v for k, v in leaves(stock)
    }
    assert read.given == set(pairs[::2]) and "MODEL.WEIGHTS" in read.in_file


@pytest.mark.parametrize(
    ("text", "pairs", "sentence"),
    [
        ("SOLVER: {BASE_LRR: 1}", [], r"unknown key 'SOLVER.BASE_LRR'; did you mean 'SOLVER.BASE_LR'\?"),
        ("epochs: 90", [], "unknown key 'epochs'; a classifier's recipe is for tools/pretrain_imagenet.py"),
        ("MAX_ITER: 10", [], r"unknown key 'MAX_ITER'; did you mean 'SOLVER.MAX_ITER'\?"),
        ("SOLVER: 3", [], "SOLVER is a group of keys; set one of them, as SOLVER"),
        ("SOLVER: {MAX_ITER: many}", [], "SOLVER.MAX_ITER is 'many', but it must be a whole number"),
        ("SOLVER: {MAX_ITER: true}", [], "SOLVER.MAX_ITER is True, but it must be a whole number"),
        ("- a", [], "a config is a mapping"),
        ("a: [", [], "not readable as YAML"),
        ('A: !!python/object/apply:eval ["1"]', [], r"would run Python code \(line 1\), and is not run"),
        ("_BASE_: [small.yaml]", [], "small.yaml: builds on itself by _BASE_"),
        ("_BASE_: missing.yaml", [], "missing.yaml: no such config file"),
        ("{}", ["SEED"], "'SEED' has no value behind it"),
        ("{}", ["MODEL.MASKON", "True"], "command line: unknown key 'MODEL.MASKON'; did you mean 'MODEL.MASK_ON'"),
        ("{}", ["SOLVER.STEPS", "('4',)"], r"SOLVER.STEPS is \('4',\), but must hold numbers \(as \(30000,\)\)"),
        ("INPUT: {MIN_SIZE_TRAIN: ['128']}", [], r"INPUT.MIN_SIZE_TRAIN is \('128',\), but must hold numbers"),
        ("SOLVER: {STEPS: []}", ["SOLVER.STEPS", "[[4]]"], r"SOLVER.STEPS is \(\[4\],\), but must hold numbers"),
        ("{}", ["DATA.CLASSES", "[1, 2]"], r"DATA.CLASSES is \[1, 2\], but must hold text \(as \['cat'\]\)"),
        ("{}", ["DATA.CLASSES", "[['cat']]"], "DATA.CLASSES is .*, but must hold text"),
        ("{}", ["MODEL.RESNETS.DEFORM_ON_PER_STAGE", "[1]"], "DEFORM_ON_PER_STAGE is .*, but must hold True or False"),
        ("{}", ["MODEL.MASK_ON", "maybe"], "MODEL.MASK_ON is 'maybe', but it must be True or False"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, text, pairs, sentence):
    path = write_config(tmp_path, text)
    with pytest.raises(ValueError, match=sentence) as caught:
        read_config(path, pairs)
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_its_neighbour(tmp_path):
    write_config(tmp_path, "{}")
    with pytest.raises(ValueError, match=r"smal.yaml: no such config file; did you mean .*small.yaml"):
        read_config(tmp_path / "smal.yaml")


def test_a_base_is_read_first_and_types_bend_only_where_nothing_is_lost(tmp_path):
    write_config(tmp_path, "SOLVER: {BASE_LR: 1, STEPS: [3]}\nSEED: 4")
    (tmp_path / "own.yaml").write_text("_BASE_: small.yaml\nSOLVER: {BASE_LR: 1e-4}\nINPUT: {MIN_SIZE_TRAIN: 320}")
    read = read_config(tmp_path / "own.yaml", ["DATASETS.TEST", "mine", "SOLVER.NESTEROV", "true"])
    assert read.cfg.SOLVER.BASE_LR == 1e-4 and read.cfg.SOLVER.STEPS == (3,) and read.cfg.SEED == 4
    assert read.cfg.INPUT.MIN_SIZE_TRAIN == (320,) and read.cfg.DATASETS.TEST == ("mine",)
    assert read.cfg.SOLVER.NESTEROV is True
    assert read.explicit >= {"SEED", "SOLVER.BASE_LR", "DATASETS.TEST"}


def test_anchor_sizes_for_all_levels_at_once_are_detectron2s_too(tmp_path):
    cfg = read_config(write_config(tmp_path, "{}"), ["MODEL.ANCHOR_GENERATOR.SIZES", "[32, 64]"]).cfg
    record = {"height": 100, "width": 200, "annotations": [{"bbox": [0, 0, 40, 40], "bbox_mode": BoxMode.XYXY_ABS}]}
    cfg.INPUT.MIN_SIZE_TRAIN = (0,)  # leaves images as they are
    assert "objects are 40 to 40 pixels large" in anchor_finding(cfg, [record]).text
    assert "anchors 32 to 64" in anchor_finding(cfg, [record]).text
    generator = build_anchor_generator(cfg, [ShapeSpec(stride=stride) for stride in (4, 8)])
    assert generator.num_anchors == [6, 6]  # two sizes in three shapes, on both levels


def test_defaults_of_ours_do_not_change_detectron2s():
    ours = {k: v for k, v in leaves(default_config()) if not k.startswith(tuple(OURS))}
    assert ours == dict(leaves(get_cfg()))


@pytest.mark.parametrize("processes", [1, 2, 4, 16])
def test_the_schedule_follows_the_processes_as_detectron2s(processes):
    cfg = default_config()
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.REFERENCE_WORLD_SIZE, cfg.SOLVER.BASE_LR = 16, 8, 0.02
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS = 9000, (6000, 8001), 100
    cfg.TEST.EVAL_PERIOD = 500
    stock = DefaultTrainer.auto_scale_workers(cfg, processes)
    notes = scale_schedule(cfg, 16, (), processes)
    names = ("IMS_PER_BATCH", "BASE_LR", "MAX_ITER", "STEPS", "WARMUP_ITERS", "CHECKPOINT_PERIOD")
    assert {n: cfg.SOLVER[n] for n in names} == {n: stock.SOLVER[n] for n in names}
    assert cfg.TEST.EVAL_PERIOD == stock.TEST.EVAL_PERIOD
    assert len(notes) == 1 and "linear rule" in notes[0]
    assert scale_schedule(cfg, cfg.SOLVER.IMS_PER_BATCH, (), processes) == []


def test_a_batch_of_the_command_line_scales_and_what_is_given_stays(tmp_path):
    path = write_config(tmp_path, SMALL)
    pairs = ["SOLVER.IMS_PER_BATCH", "8", "SOLVER.MAX_ITER", "4"]
    read = read_config(path, pairs)
    notes = scale_schedule(read.cfg, 2, read.given, 1)
    assert pytest.approx(0.04) == read.cfg.SOLVER.BASE_LR  # 0.01 * 8 / 2, by hand
    assert read.cfg.SOLVER.MAX_ITER == 4 and read.cfg.SOLVER.WARMUP_ITERS == 1  # not 0, which is off
    assert "batch 8 instead of 2" in notes[0] and "MAX_ITER" not in notes[0]


def test_a_batch_that_cannot_be_shared_is_refused():
    cfg = default_config()
    cfg.SOLVER.IMS_PER_BATCH = 3
    with pytest.raises(ValueError, match="SOLVER.IMS_PER_BATCH: 3 images cannot be shared by 2 processes.* as 2"):
        check_batch(cfg, 2)
    cfg.SOLVER.ACCUMULATE = 3
    check_batch(cfg, 1)
    cfg.SOLVER.IMS_PER_BATCH = 8
    sentence = "SOLVER.ACCUMULATE: a batch of 8 on 2 processes cannot be split into 3 micro-batches.* a multiple of 6"
    with pytest.raises(ValueError, match=sentence):
        check_batch(cfg, 2)


def test_the_tool_explains_itself():
    import subprocess
    import sys

    tool = Path(__file__).parents[1] / "tools" / "train_net.py"
    said = subprocess.run([sys.executable, str(tool), "--help"], capture_output=True, text=True, check=True).stdout
    assert "examples:" in said and "--config configs/faster_rcnn_R101_coco.yaml" in said and "--resume" in said
