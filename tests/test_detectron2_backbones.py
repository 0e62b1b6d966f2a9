"""Our backbones against Detectron2's own on the same weights, and what its users meet."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, ROI_HEADS_REGISTRY, build_backbone, build_model
from detectron2.modeling.roi_heads import Res5ROIHeads
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

import resnet_backbone
from resnet_backbone.detection.c4_head import ResidualRes5ROIHeads
from resnet_backbone.models.norms import FrozenBatchNorm2d

OURS = {
    "build_resnet_backbone": "build_residual_backbone",
    "build_resnet_fpn_backbone": "build_residual_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone": "build_residual_retinanet_fpn_backbone",
}

LAYOUTS = {
    "C4": {"name": "build_resnet_backbone", "OUT_FEATURES": ["res4"]},
    "C5": {"name": "build_resnet_backbone", "OUT_FEATURES": ["stem", "res5"]},
    "DC5": {"name": "build_resnet_backbone", "OUT_FEATURES": ["res5"], "RES5_DILATION": 2},
    "FPN": {"name": "build_resnet_fpn_backbone", "OUT_FEATURES": ["res2", "res3", "res4", "res5"]},
    "RetinaNet": {"name": "build_retinanet_resnet_fpn_backbone", "OUT_FEATURES": ["res3", "res4", "res5"]},
}


def config(layout: str = "C4", depth: int = 50, **resnets):
    cfg = get_cfg()
    keys = {"DEPTH": depth, **LAYOUTS[layout], **resnets}
    cfg.MODEL.BACKBONE.NAME = keys.pop("name")
    if depth < 50:
        keys.setdefault("RES2_OUT_CHANNELS", 64)
    for key, value in keys.items():
        cfg.MODEL.RESNETS[key] = value
    cfg.MODEL.FPN.IN_FEATURES = [f for f in keys["OUT_FEATURES"] if f != "stem"]
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def both(cfg):
    """Stock and ours on the same random weights; ours loads the stock state dict strictly."""
    stock = build_backbone(cfg)
    for name, tensor in stock.state_dict().items():
        if name.endswith(("norm.weight", "running_var")):
            tensor.uniform_(0.5, 1.0)
        elif name.endswith(("norm.bias", "running_mean")):
            tensor.uniform_(-0.2, 0.2)
    cfg = cfg.clone()
    cfg.MODEL.BACKBONE.NAME = OURS[cfg.MODEL.BACKBONE.NAME]
    ours = build_backbone(cfg)
    assert set(ours.state_dict()) == set(stock.state_dict())
    ours.load_state_dict(stock.state_dict(), strict=True)
    return stock.eval(), ours.eval()


# Detectron2 has no DC5 of ResNet-18; ours is tested by itself.
PARITY = [
    *((50, layout, v1) for layout in LAYOUTS for v1 in (True, False)),
    *((18, layout, True) for layout in LAYOUTS if layout != "DC5"),
    (101, "FPN", True),
    (101, "C4", False),
]


@pytest.mark.parametrize(("depth", "layout", "stride_in_1x1"), PARITY)
def test_equals_detectron2(depth, layout, stride_in_1x1):
    stock, ours = both(config(layout, depth, STRIDE_IN_1X1=stride_in_1x1))
    image = torch.randn(1, 3, 64, 64)
    assert ours.size_divisibility == stock.size_divisibility
    assert {k: (v.channels, v.stride) for k, v in ours.output_shape().items()} == {
        k: (v.channels, v.stride) for k, v in stock.output_shape().items()
    }
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        with torch.no_grad():
            expected, got = stock.to(dtype)(image.to(dtype)), ours.to(dtype)(image.to(dtype))
        assert expected.keys() == got.keys()
        for name in expected:
            assert (got[name] - expected[name]).norm() <= tolerance * expected[name].norm() > 0


def test_same_gradients_and_the_same_parameters_are_frozen():
    stock, ours = both(config("FPN"))
    image = torch.randn(1, 3, 64, 64)
    for net in (stock, ours):
        net.train()
        sum(f.square().sum() for f in net(image).values()).backward()
    theirs = dict(stock.named_parameters())
    assert theirs.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        assert parameter.requires_grad == theirs[name].requires_grad, name
        if parameter.requires_grad:
            assert torch.equal(parameter.grad, theirs[name].grad), name


def test_import_is_idempotent_and_registers_everything():
    resnet_backbone.register_detectron2()
    resnet_backbone.register_detectron2()
    for name in (*OURS.values(), "build_vgg_backbone", "build_vgg_fpn_backbone"):
        assert name in BACKBONE_REGISTRY
    assert "ResidualRes5ROIHeads" in ROI_HEADS_REGISTRY


@pytest.mark.parametrize("depth", [50, 152])
def test_c4_head_is_the_stock_one_for_bottlenecks(depth):
    cfg = config("C4", depth)
    stock, channels = Res5ROIHeads._build_res5_block(cfg)
    ours, our_channels = ResidualRes5ROIHeads._build_res5_block(cfg)
    ours.load_state_dict(stock.state_dict(), strict=True)
    region = torch.randn(2, 1024, 14, 14)
    assert channels == our_channels
    with torch.no_grad():
        assert torch.equal(ours(region.clone()), stock(region.clone()))


@pytest.mark.parametrize("depth", [18, 34])
@pytest.mark.parametrize("layout", ["C4", "DC5"])
def test_c4_and_dc5_of_basic_networks_train(depth, layout):
    cfg = config(layout, depth)
    cfg.MODEL.BACKBONE.NAME = "build_residual_backbone"
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    feature = "res4" if layout == "C4" else "res5"
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = [feature]
    cfg.MODEL.ROI_HEADS.NAME = "ResidualRes5ROIHeads" if layout == "C4" else "StandardROIHeads"
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 14 if layout == "C4" else 7
    model = build_model(cfg)
    if layout == "C4":
        assert len(model.roi_heads.res5) == {18: 2, 34: 3}[depth]
    with EventStorage():
        losses = model.train()([training_example()])
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name


def training_example(size=(96, 128)):
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 12.0, 70.0, 80.0], [40.0, 20.0, 120.0, 90.0]]))
    instances.gt_classes = torch.tensor([1, 3])
    masks = torch.zeros(2, *size, dtype=torch.bool)
    masks[0, 12:80, 10:70] = masks[1, 20:90, 40:120] = True
    instances.gt_masks = BitMasks(masks)
    return {"image": torch.randint(0, 255, (3, *size)).float(), "instances": instances, "height": 96, "width": 128}


def test_vgg_backbones():
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_vgg_backbone"
    c5 = build_backbone(cfg)
    assert {k: (v.channels, v.stride) for k, v in c5.output_shape().items()} == {"conv5": (512, 16)}
    assert not any(p.requires_grad for n, p in c5.named_parameters() if n.startswith(("conv1_", "conv2_")))
    assert all(p.requires_grad for n, p in c5.named_parameters() if n.startswith("conv3_"))
    cfg.MODEL.BACKBONE.NAME = "build_vgg_fpn_backbone"
    cfg.MODEL.FPN.IN_FEATURES = ["conv3", "conv4", "conv5", "pool5"]
    fpn = build_backbone(cfg)
    with torch.no_grad():
        features = fpn(torch.randn(1, 3, 64, 64))
    assert {name: tuple(f.shape[-2:]) for name, f in features.items()} == {
        "p2": (16, 16), "p3": (8, 8), "p4": (4, 4), "p5": (2, 2), "p6": (1, 1)
    }  # fmt: skip
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3"]
    with pytest.raises(ValueError, match="MODEL.FPN.IN_FEATURES"):
        build_backbone(cfg)


def test_unfilled_backbone_raises_and_names_the_keys():
    backbone = build_backbone(with_ours(config("C4")))
    state = backbone.state_dict()
    lost = {k: v for k, v in state.items() if k != "res3.1.conv2.norm.running_var"}
    with pytest.raises(resnet_backbone.WeightsError, match="lost batch-norm statistics") as error:
        backbone.load_state_dict(lost, strict=False)
    assert "\n" in str(error.value) and "res3.1.conv2.norm.running_var" in str(error.value)
    with pytest.raises(resnet_backbone.WeightsError, match="0 of 215 tensors filled"):
        backbone.load_state_dict({"layer1.0.conv1.weight": torch.zeros(1)}, strict=False)


def test_affine_only_batch_norms_of_caffe_are_filled_by_design(caplog):
    backbone = build_backbone(with_ours(config("C4")))
    for norm in backbone.modules():
        if isinstance(norm, FrozenBatchNorm2d):
            norm.running_mean.fill_(7.0)
    affine = {k: v for k, v in backbone.state_dict().items() if "running" not in k}
    with caplog.at_level("INFO"):
        backbone.load_state_dict(affine, strict=True)
    assert "affine only" in caplog.text
    assert backbone.stem.conv1.norm.running_mean.abs().max() == 0
    assert backbone.stem.conv1.norm.running_var.eq(1).all()


def with_ours(cfg):
    cfg.MODEL.BACKBONE.NAME = OURS[cfg.MODEL.BACKBONE.NAME]
    return cfg


@pytest.mark.parametrize("width", [16, 32, 96])
def test_basic_blocks_have_the_width_that_is_asked_for(width):
    cfg = with_ours(config("FPN", depth=18, STEM_OUT_CHANNELS=32, RES2_OUT_CHANNELS=width))
    shapes = build_backbone(cfg, ShapeSpec(channels=3)).bottom_up.output_shape()
    assert {name: shape.channels for name, shape in shapes.items()} == {
        f"res{stage}": width * 2 ** (stage - 2) for stage in (2, 3, 4, 5)
    }


@pytest.mark.parametrize(
    ("resnets", "message"),
    [
        ({"DEPTH": 51}, "MODEL.RESNETS.DEPTH 51"),
        ({"DEFORM_ON_PER_STAGE": [False, True, True, True]}, "DEFORM_ON_PER_STAGE"),
        ({"DEPTH": 18, "RES2_OUT_CHANNELS": 256}, "set it to 64"),
        ({"OUT_FEATURES": ["res9"]}, "did you mean"),
    ],
)
def test_wrong_keys_are_one_sentence(resnets, message):
    cfg = with_ours(config("C4"))
    for key, value in resnets.items():
        cfg.MODEL.RESNETS[key] = value
    with pytest.raises(ValueError, match=message):
        build_backbone(cfg, ShapeSpec(channels=3))


def test_without_detectron2_the_import_is_torch_alone():
    """In a process of its own, with Detectron2 hidden."""
    script = (
        "import sys, importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n.startswith('detectron2') else find(n, *a)\n"
        "import resnet_backbone as rb\n"
        "assert rb.build('cifar_resnet20', num_classes=10).variant.depth == 20\n"
        "heavy = {'detectron2', 'torchvision', 'matplotlib', 'cv2', 'pycocotools', 'fvcore'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "try: rb.register_detectron2()\n"
        "except ImportError as e: print(e)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "python -m resnet_backbone.install.detectron2" in done.stdout


def test_import_with_detectron2_stays_light():
    script = (
        "import sys, resnet_backbone\n"
        "print(sorted(m for m in ('matplotlib.pyplot', 'detectron2.engine', 'detectron2.data.datasets',\n"
        "                         'resnet_backbone.detection.trainer') if m in sys.modules))"
    )
    ours = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    stock = script.replace("resnet_backbone\n", "detectron2.modeling\n")
    baseline = subprocess.run([sys.executable, "-c", stock], capture_output=True, text=True)
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout == baseline.stdout
