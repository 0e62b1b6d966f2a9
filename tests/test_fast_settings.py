"""Fast settings beside the plain path and stock Detectron2: same outputs, gradients and names, and nothing stale."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model, build_roi_heads
from made_networks import (
    COMPILE,
    FOLD,
    LAST,
    SETTINGS,
    difference,
    gradients,
    network,
    random_norms,
    stock_and_ours,
    with_settings,
)
from test_detectron2_backbones import config, training_example
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from resnet_backbone.detection.backbones import residual_backbone
from resnet_backbone.models.blocks import ConvNorm
from resnet_backbone.models.fast import speed_up
from resnet_backbone.models.folding import fold
from resnet_backbone.models.norms import FrozenBatchNorm2d


@pytest.mark.parametrize(
    ("layout", "settings"),
    [("FPN", (FOLD,)), ("FPN", (LAST,)), *((layout, (FOLD, LAST)) for layout in ("C5", "DC5", "FPN", "RetinaNet"))],
)
def test_outputs_and_gradients_are_stock_detectron2s(layout, settings):
    stock, ours = stock_and_ours(config(layout), settings)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert difference(ours(image), stock(image)) <= 1e-5
    # Gradients in float64 alone: in float32 one rectifier near zero that switches by rounding is 1e-3 of a layer's.
    stock, ours, image = stock.double(), ours.double(), image.double()
    with torch.no_grad():
        assert difference(ours(image), stock(image)) <= 1e-10
    assert difference(gradients(ours.train(), image), gradients(stock.train(), image)) <= 1e-10


@pytest.mark.parametrize("name", ["resnet18", "cifar_resnet8", "vgg16_bn"])
def test_folding_is_exact_for_other_networks(name):
    features = ("conv2", "conv3") if name == "vgg16_bn" else ("res2", "res3")
    plain = network(name, out_features=features, freeze_at=1).double()
    folded = speed_up(copy.deepcopy(plain), fold_norms=True, channels_last=True)
    image = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    assert difference(folded(image), plain(image)) <= 1e-12
    assert difference(gradients(folded.train(), image), gradients(plain.train(), image)) <= 1e-10


def test_fold_is_convolution_and_norm():
    norm = random_norms(nn.ModuleDict({"norm": FrozenBatchNorm2d(6, eps=1e-3)}))["norm"].double()
    image, bias = torch.randn(2, 4, 9, 9, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    weight = torch.randn(6, 4, 3, 3, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    for b in (None, bias):
        folded = fold(weight, b, norm)
        assert folded[0].is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(F.conv2d(image, *folded), norm(F.conv2d(image, weight, b)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_gradients_of_a_folded_convolution(dtype, tolerance):
    plain = random_norms(ConvNorm(8, 16, 3, bias=True, norm="FrozenBN")).to(dtype)
    folded = speed_up(copy.deepcopy(plain), fold_norms=True, channels_last=True)
    image, slope = torch.randn(2, 8, 9, 9, dtype=dtype), torch.randn(2, 16, 9, 9, dtype=dtype)
    found = []
    for conv in (plain, folded):
        x = image.clone().requires_grad_()
        out = conv(x)
        (out * slope).sum().backward()
        found.append({"out": out.detach(), "x": x.grad, "weight": conv.weight.grad, "bias": conv.bias.grad})
    assert difference(found[1], found[0]) <= tolerance


class Operations(TorchDispatchMode):
    """Names of everything that the library is asked to compute."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("side", "folds"), [(8, False), (32, True)])
def test_training_folds_where_that_is_less_work_than_the_norm(side, folds):
    conv = speed_up(ConvNorm(16, 16, 3, norm="FrozenBN"), fold_norms=True)  # 144 weights an output channel
    x = torch.randn(1, 16, side, side)
    assert (conv.folding(conv, conv.norm, x) is not None) == folds
    with torch.no_grad():
        assert conv.folding(conv, conv.norm, x) is not None  # kept: nothing to weigh


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("layout", ["C5", "DC5", "FPN", "RetinaNet"])
def test_default_path_computes_what_stock_computes_and_nothing_else(layout, training):
    stock, ours = stock_and_ours(config(layout))
    found = []
    for net in (stock, ours):
        with Operations() as operations, torch.set_grad_enabled(training):
            features = net.train(training)(torch.randn(1, 3, 64, 64))
            if training:
                sum(f.sum() for f in features.values()).backward()
        found.append(operations.names)
    assert Counter(found[0]) == Counter(found[1])


def test_folding_needs_fewer_operations():
    _, ours = stock_and_ours(config("FPN"), (FOLD,))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        ours(image)  # fills what is kept
        with Operations() as operations:
            ours(image)
    assert not [name for name in operations.names if "batch_norm" in name or "rsqrt" in name]


@pytest.mark.parametrize("training", [False, True])
def test_bf16_autocast_of_the_default_is_stock_detectron2s_to_the_bit(training):
    # Few layers: a deep random network amplifies rounding to nonsense.
    stock, ours = stock_and_ours(config("C5", OUT_FEATURES=["stem", "res3"]))
    image = torch.randn(1, 3, 64, 64)
    found = []
    for net in (stock, ours):
        with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(training):
            features = net.train(training)(image)
        if training:
            sum(f.float().square().mean() for f in features.values()).backward()
        found.append((features, {n: p.grad for n, p in net.named_parameters() if p.grad is not None}))
    for expected, got in zip(*found):
        assert expected.keys() == got.keys()
        assert all(got[k].dtype == expected[k].dtype and torch.equal(got[k], expected[k]) for k in expected)
    assert all(f.dtype == torch.bfloat16 for f in found[1][0].values())


@pytest.mark.parametrize("settings", SETTINGS, ids="+".join)
def test_bf16_autocast_of_the_fast_settings(settings):
    stock, ours = stock_and_ours(config("C5", OUT_FEATURES=["stem", "res3"]), settings)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        exact = stock(image)
        with torch.autocast("cpu", torch.bfloat16):
            plain, fast = stock(image), ours(image)
            again = ours(image)
        # What was kept for bf16 does not serve float32.
        assert difference(ours(image), exact) <= 1e-5
    assert all(f.dtype == torch.bfloat16 for f in fast.values())
    assert all(torch.equal(fast[k], again[k]) for k in fast)
    assert difference(fast, exact) <= 1.2 * difference(plain, exact)
    with torch.autocast("cpu", torch.bfloat16):
        features = ours.train()(image)
    sum(f.float().square().mean() for f in features.values()).backward()
    found = {n: p.grad for n, p in ours.named_parameters() if p.grad is not None}
    assert all(g.dtype == torch.float32 for g in found.values())
    assert difference(found, gradients(stock.train(), image)) < 0.1


def detectors(settings):
    """Stock Faster R-CNN with FPN and ours, few proposals, on the same weights."""
    cfg = config("FPN")
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.ROI_HEADS.NAME = "GeneralizedRCNN", "StandardROIHeads"
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.NUM_FC = "FastRCNNConvFCHead", 1
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST, cfg.TEST.DETECTIONS_PER_IMAGE = 12, 5
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    stock = random_norms(build_model(cfg))
    cfg = with_settings(cfg, settings)
    cfg.MODEL.BACKBONE.NAME = "build_residual_fpn_backbone"
    ours = build_model(cfg)
    ours.load_state_dict(stock.state_dict(), strict=True)
    return stock.eval(), ours.eval()


@pytest.mark.parametrize("settings", [(), *SETTINGS], ids="+".join)
def test_whole_detector_finds_what_the_stock_one_finds(settings):
    stock, ours = detectors(settings)
    example = training_example((64, 96))
    with torch.no_grad():
        expected, got = (net([{"image": example["image"]}])[0]["instances"] for net in (stock, ours))
    assert len(got) == len(expected) > 0
    tolerance = 1e-4 if settings else 0.0  # of the image's side, and of a score
    assert (got.pred_boxes.tensor - expected.pred_boxes.tensor).abs().max() <= tolerance * 96
    assert (got.scores - expected.scores).abs().max() <= tolerance
    assert torch.equal(got.pred_classes, expected.pred_classes)


def test_the_c4_heads_res5_is_fast_too():
    cfg = config("C4")
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.IN_FEATURES = "ResidualRes5ROIHeads", ["res4"]
    shape = {"res4": ShapeSpec(channels=1024, stride=16)}
    plain = random_norms(build_roi_heads(cfg, shape)).res5.eval()
    fast = build_roi_heads(with_settings(cfg, (FOLD, LAST)), shape).res5.eval()
    fast.load_state_dict(plain.state_dict(), strict=True)
    regions = torch.rand(3, 1024, 14, 14)
    with torch.no_grad():
        expected, got = plain(regions), fast(regions)
    assert got.is_contiguous(memory_format=torch.channels_last) and not torch.equal(got, expected)
    assert difference({"res5": got}, {"res5": expected}) <= 1e-5


def test_whole_detector_under_bf16_autocast():
    _, ours = detectors((FOLD, LAST))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = ours([{"image": torch.rand(3, 64, 96) * 255}])[0]["instances"]
    assert len(found) and torch.isfinite(found.pred_boxes.tensor).all()


def test_an_export_is_the_plain_graph():
    net = speed_up(network().requires_grad_(False), fold_norms=True)
    image = torch.randn(1, 3, 32, 32)
    net(image)
    exported = torch.export.export(net, (image,)).module()
    assert difference(exported(image), net(image)) <= 1e-5
    assert "batch_norm" in exported.code


def test_settings_are_off_by_default_and_a_keyword_in_python():
    plain = residual_backbone("resnet18", out_features=("res2",))
    assert plain.stem.conv1.folding is None and not plain._forward_pre_hooks
    assert plain._compiled_call_impl is None
    fast = residual_backbone("resnet18", out_features=("res2",), fold_norms=True, channels_last=True, compile=True)
    assert fast.stem.conv1.folding is not None and fast._compiled_call_impl is not None
    assert fast.stem.conv1.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("keys", "resnets", "message"),
    [
        ({FOLD: "yes"}, {}, "MODEL.RESIDUAL.FOLD_NORMS 'yes': use True or False"),
        ({FOLD: True}, {"NORM": "GN"}, "MODEL.RESIDUAL.FOLD_NORMS True: there is no frozen batch norm"),
        (
            {COMPILE: True, "CHECKPOINT_STAGES": ["res3"]},
            {},
            "MODEL.RESIDUAL.COMPILE True.*CHECKPOINT_STAGES|checkpoint",
        ),
    ],
)
def test_settings_that_cannot_be_met_are_one_sentence(keys, resnets, message):
    cfg = config("FPN", 18, **resnets)
    cfg.MODEL.BACKBONE.NAME = "build_residual_fpn_backbone"
    cfg.MODEL.RESIDUAL = CfgNode(keys)
    with pytest.raises(ValueError, match=message):
        build_backbone(cfg)
