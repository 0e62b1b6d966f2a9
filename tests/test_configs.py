"""The detector configs: read, named and headed by the rules, equal to Detectron2's zoo, trainable on a small image."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import torch
import torchvision
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from resnet_backbone.detection.prepare import prepare
from resnet_backbone.detection.training.config import leaves, read_config, value_of
from resnet_backbone.detection.training.schedule import scale_schedule
from resnet_backbone.detection.training.sets import use_data
from resnet_backbone.weights.load import Source, load_weights
from resnet_backbone.weights.naming import to_ours
from resnet_backbone.weights.sources import implied_record

ROOT = Path(__file__).parents[1]
TOOL = ROOT / "tools" / "train_net.py"
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
NAME = (
    r"(faster_rcnn|mask_rcnn|retinanet)_(R(18|34|50|101|152)|VGG16)(_(C4|C5|DC5))?_"
    r"(coco|voc0712|voc12|bccd|balloon|shapes)(_[a-z0-9]+)?"
)
HEAD = ("Command", "Hardware", "Time", "Expected", "Measured")
# The weights' record and the data settle these.
NEVER_TYPED = {
    "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "INPUT.FORMAT", "MODEL.RESNETS.STRIDE_IN_1X1", "MODEL.RESIDUAL.NORM_EPS",
    "MODEL.ROI_HEADS.NUM_CLASSES", "MODEL.RETINANET.NUM_CLASSES", "DATA.CATEGORY_IDS",
}  # fmt: skip

# Another network at the same schedule; VGG at half the rate.
BASIC = {"MODEL.WEIGHTS", "MODEL.RESNETS.DEPTH", "MODEL.RESNETS.RES2_OUT_CHANNELS"}
DEEPER = {"MODEL.WEIGHTS", "MODEL.RESNETS.DEPTH"}
VGG = {"MODEL.WEIGHTS", "MODEL.RESNETS.OUT_FEATURES", "SOLVER.BASE_LR"}
VGG_FPN = VGG | {"MODEL.FPN.IN_FEATURES"}
C4 = {"MODEL.ROI_HEADS.NAME"}
VOC = {"MODEL.ROI_HEADS.NUM_CLASSES"}
# VGG's fc6 and fc7 against the zoo's C4: other features, and a box head of two linear layers.
VGG_C5 = VGG | C4 | {
    "MODEL.RPN.IN_FEATURES", "MODEL.ROI_HEADS.IN_FEATURES", "MODEL.ROI_BOX_HEAD.NAME", "MODEL.ROI_BOX_HEAD.NUM_FC",
    "MODEL.ROI_BOX_HEAD.FC_DIM", "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION",
}  # fmt: skip
DETECTION, SEGMENTATION, PASCAL = "COCO-Detection/", "COCO-InstanceSegmentation/", "PascalVOC-Detection/"
# Config: the zoo's, and the keys that differ beside the backbone's name and the batch's reference.
ZOO = {
    "faster_rcnn_R18_coco": (DETECTION + "faster_rcnn_R_50_FPN_3x", BASIC),
    "faster_rcnn_R34_coco": (DETECTION + "faster_rcnn_R_50_FPN_3x", BASIC),
    "faster_rcnn_R50_coco": (DETECTION + "faster_rcnn_R_50_FPN_3x", set()),
    "faster_rcnn_R101_coco": (DETECTION + "faster_rcnn_R_101_FPN_3x", set()),
    "faster_rcnn_R152_coco": (DETECTION + "faster_rcnn_R_101_FPN_3x", DEEPER),
    "faster_rcnn_VGG16_coco": (DETECTION + "faster_rcnn_R_50_FPN_3x", VGG_FPN),
    "faster_rcnn_R18_C4_coco": (DETECTION + "faster_rcnn_R_50_C4_3x", BASIC | C4),
    "faster_rcnn_R50_C4_coco": (DETECTION + "faster_rcnn_R_50_C4_3x", C4),
    "faster_rcnn_R101_C4_coco": (DETECTION + "faster_rcnn_R_101_C4_3x", C4),
    "faster_rcnn_VGG16_C5_coco": (DETECTION + "faster_rcnn_R_50_C4_3x", VGG_C5),
    "faster_rcnn_R18_DC5_coco": (DETECTION + "faster_rcnn_R_50_DC5_3x", BASIC),
    "faster_rcnn_R50_DC5_coco": (DETECTION + "faster_rcnn_R_50_DC5_3x", set()),
    "faster_rcnn_R101_DC5_coco": (DETECTION + "faster_rcnn_R_101_DC5_3x", set()),
    "mask_rcnn_R50_coco": (SEGMENTATION + "mask_rcnn_R_50_FPN_3x", set()),
    "mask_rcnn_R101_coco": (SEGMENTATION + "mask_rcnn_R_101_FPN_3x", set()),
    "retinanet_R101_coco": (DETECTION + "retinanet_R_101_FPN_3x", set()),
    "faster_rcnn_R50_voc0712": (PASCAL + "faster_rcnn_R_50_FPN", VOC),
    "faster_rcnn_R50_C4_voc0712": (PASCAL + "faster_rcnn_R_50_C4", C4 | VOC),
    "faster_rcnn_R101_C4_voc0712": (PASCAL + "faster_rcnn_R_50_C4", C4 | VOC | DEEPER),
    "faster_rcnn_VGG16_C5_voc0712": (PASCAL + "faster_rcnn_R_50_C4", VGG_C5 | VOC),
}


def path_of(name):
    return ROOT / "configs" / f"{name}.yaml"


def head_of(path):
    """The lines of the comment that a file begins with."""
    lines = path.read_text().splitlines()
    count = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return [line[1:].strip() for line in lines[:count]]


def command_of(path):
    return next(line.split(":", 1)[1].strip() for line in head_of(path) if line.startswith("Command:"))


def tool():
    spec = importlib.util.spec_from_file_location("train_net", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built(cfg, device="cpu"):
    """A model with random weights; on "meta" without any numbers, in no time."""
    cfg = cfg.clone()
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = "", device
    with torch.device(device):
        return build_model(cfg)


def shapes(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config_is_readable_named_and_headed_by_the_rules(path):
    read = read_config(path)
    assert re.fullmatch(NAME, path.stem), path.name
    assert sorted(read.in_file & NEVER_TYPED) == []
    head = head_of(path)
    for label in HEAD:
        assert sum(line.startswith(f"{label}:") for line in head) == 1, f"{path.name}: {label}"
    measured = next(line for line in head if line.startswith("Measured:"))
    assert not (measured.startswith("Measured: no") and read.cfg.TEST.EXPECTED_RESULTS)
    arguments = tool().parser().parse_intermixed_args(shlex.split(command_of(path))[2:])
    assert ROOT / arguments.config == path
    read_config(path, arguments.options)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config_builds_for_the_input_of_its_weights(path):
    read = read_config(path)
    cfg = read.cfg
    if "://" in cfg.MODEL.WEIGHTS:
        record = prepare(cfg, explicit=read.explicit)
        depth = "vgg16" if "vgg" in cfg.MODEL.BACKBONE.NAME else f"resnet{cfg.MODEL.RESNETS.DEPTH}"
        assert record.variant == depth
        assert (cfg.INPUT.FORMAT, list(cfg.MODEL.PIXEL_STD)) == (record.channel_order, list(record.std))
    assert built(cfg, "meta").state_dict()
    batch, processes = cfg.SOLVER.IMS_PER_BATCH, max(cfg.SOLVER.REFERENCE_WORLD_SIZE, 1)
    assert batch % processes == 0 and (processes == 1 or batch == 2 * processes)


def test_every_large_config_stands_beside_one_of_the_zoo():
    assert set(ZOO) == {path.stem for path in CONFIGS if path.stem.endswith(("_coco", "_voc0712"))}


@pytest.mark.parametrize("name", ZOO)
def test_config_differs_from_the_zoo_in_named_keys_alone(name):
    zoo, others = ZOO[name]
    stock = get_cfg()
    stock.merge_from_file(model_zoo.get_config_file(f"{zoo}.yaml"))
    ours = read_config(path_of(name)).cfg
    unused = () if ours.MODEL.MASK_ON else ("MODEL.ROI_MASK_HEAD.",)
    different = {
        key
        for key, value in leaves(stock)
        if not key.startswith(unused) and as_list(value) != as_list(value_of(ours, key))
    }
    assert different == {"MODEL.BACKBONE.NAME", "SOLVER.REFERENCE_WORLD_SIZE"} | others
    if others <= C4 | VOC:
        # The run sets the classes from the data.
        ours.MODEL.ROI_HEADS.NUM_CLASSES = stock.MODEL.ROI_HEADS.NUM_CLASSES
        assert shapes(built(ours, "meta")) == shapes(built(stock, "meta"))


def as_list(value):
    """Lists and tuples alike."""
    return [as_list(one) for one in value] if isinstance(value, (list, tuple)) else value


def test_coco_schedule_on_one_gpu():
    cfg = read_config(path_of("faster_rcnn_R101_coco")).cfg
    scale_schedule(cfg, cfg.SOLVER.IMS_PER_BATCH, (), processes=1)
    solver = dict(cfg.SOLVER)
    assert (solver["IMS_PER_BATCH"], solver["MAX_ITER"], solver["STEPS"]) == (2, 2_160_000, (1_680_000, 2_000_000))
    assert solver["BASE_LR"] == pytest.approx(0.0025)


@pytest.mark.parametrize(
    "name, iterations, steps",
    [
        ("faster_rcnn_R50_bccd", 300, ()),
        ("faster_rcnn_R50_voc12", 900, (675,)),
        ("faster_rcnn_R50_C4_voc12", 900, (675,)),
    ],
)
def test_yardstick_keeps_its_values(name, iterations, steps):
    cfg = read_config(path_of(name)).cfg
    wanted = {
        "SOLVER.IMS_PER_BATCH": 2, "SOLVER.REFERENCE_WORLD_SIZE": 0, "SOLVER.BASE_LR": 0.0025,
        "SOLVER.WARMUP_ITERS": 100, "SOLVER.MAX_ITER": iterations, "SOLVER.STEPS": steps,
        "INPUT.MIN_SIZE_TRAIN": (320,), "INPUT.MIN_SIZE_TEST": 320, "SEED": 1,
    }  # fmt: skip
    assert {key: value_of(cfg, key) for key in wanted} == wanted


@pytest.mark.parametrize(
    "name, images, classes",
    [
        ("faster_rcnn_R50_bccd", (292, 72), ["Platelets", "RBC", "WBC"]),
        ("mask_rcnn_R50_balloon", (61, 13), ["balloon"]),
    ],
)
def test_config_finds_its_own_data(name, images, classes, real_data, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(real_data))
    read = read_config(path_of(name))
    use_data(read.cfg, read.explicit)
    sets = (*read.cfg.DATASETS.TRAIN, *read.cfg.DATASETS.TEST)
    assert tuple(len(DatasetCatalog.get(one)) for one in sets) == images
    assert classes == read.cfg.DATA.CLASSES
    assert len(classes) == read.cfg.MODEL.ROI_HEADS.NUM_CLASSES


def example(masks):
    """A small image with one object."""
    instances = Instances((64, 96))
    instances.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 72.0, 56.0]]))
    instances.gt_classes = torch.tensor([3])
    if masks:
        instances.gt_masks = BitMasks(torch.ones(1, 64, 96, dtype=torch.bool))
    return {"image": torch.rand(3, 64, 96) * 255, "height": 64, "width": 96, "instances": instances}


R18 = ("MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64")
FAMILIES = {
    "faster_rcnn_R18_coco": (),
    "faster_rcnn_R18_C4_coco": (),
    "faster_rcnn_R18_DC5_coco": (),
    "faster_rcnn_VGG16_coco": (),
    "faster_rcnn_VGG16_C5_coco": ("MODEL.ROI_BOX_HEAD.FC_DIM", "64"),  # the linear layers are nine tenths of it
    "mask_rcnn_R101_coco": R18,
    "retinanet_R101_coco": R18,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_losses_are_finite_and_reach_every_trainable_parameter(name):
    cfg = read_config(path_of(name), ["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16", *FAMILIES[name]]).cfg
    model = built(cfg).train()
    with EventStorage():
        losses = model([example(cfg.MODEL.MASK_ON)])
    assert losses and all(torch.isfinite(loss) for loss in losses.values()), losses
    sum(losses.values()).backward()
    for parameter_name, parameter in model.named_parameters():
        trained = parameter.grad is not None and bool(torch.isfinite(parameter.grad).all())
        assert trained == parameter.requires_grad, parameter_name


def test_imagenet_vgg_gives_its_linear_layers_to_the_box_head():
    cfg = read_config(path_of("faster_rcnn_VGG16_C5_coco")).cfg
    source = implied_record(cfg.MODEL.WEIGHTS)
    model = built(cfg, "meta").to_empty(device="cpu")
    with torch.device("meta"):
        theirs = torchvision.models.vgg16().state_dict()
    # One number a tensor, seen as the whole: 138 million numbers in no memory.
    numbered = {key: torch.full((1,), float(i)).expand(value.shape) for i, (key, value) in enumerate(theirs.items())}
    renamed = to_ours(numbered)
    report = load_weights(model, Source(renamed.state, source, renamed.dropped, detector=False), fine_tune=True)
    assert report.matched == report.total == 26
    head = model.roi_heads.box_head
    assert head.fc1.weight.shape == (4096, 512 * 7 * 7)
    for layer, theirs_name in (
        (head.fc1, "classifier.0"),
        (head.fc2, "classifier.3"),
        (model.backbone.conv5_3, "features.28"),
    ):
        assert torch.equal(layer.weight.detach(), numbered[f"{theirs_name}.weight"])
        assert torch.equal(layer.bias.detach(), numbered[f"{theirs_name}.bias"])
    assert model.backbone.output_shape()["conv5"].stride == 16
