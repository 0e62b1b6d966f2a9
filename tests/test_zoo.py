"""Every configuration of Detectron2's model zoo with our backbone by changing MODEL.BACKBONE.NAME alone.

Strict load of the stock model's state dict, same outputs. `make test-zoo`; two of them run in `make test` too.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.model_zoo.model_zoo import _ModelZooUrls
from detectron2.modeling import build_model

OURS = {
    "build_resnet_backbone": "build_residual_backbone",
    "build_resnet_fpn_backbone": "build_residual_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone": "build_residual_retinanet_fpn_backbone",
}
ZOO = sorted(_ModelZooUrls.CONFIG_PATH_TO_URL_SUFFIX)

# Why a configuration of the zoo is not covered; anything else is.
COMPILED = "deformable convolution needs Detectron2's compiled operators"
OTHER = "its backbone is a RegNet, none of the paper's family"
LAZY = "a LazyConfig; see test_new_baselines"


def reason_left_out(name: str) -> str | None:
    if "regnet" in name:
        return OTHER
    if name.startswith("new_baselines"):
        return LAZY
    return COMPILED if "dconv" in name else None


COVERED = [name for name in ZOO if reason_left_out(name) is None]


def zoo_config(name: str):
    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(f"{name}.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    # Fewer proposals and no score threshold: outputs to compare, in a second.
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 12
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    if cfg.MODEL.LOAD_PROPOSALS:
        # Fast R-CNN's precomputed proposals travel with the image below.
        cfg.MODEL.PROPOSAL_GENERATOR.NAME = "PrecomputedProposals"
    return cfg


def image_of(cfg):
    from detectron2.structures import Boxes, Instances

    generator = torch.Generator().manual_seed(0)
    example = {"image": torch.rand(3, 64, 96, generator=generator) * 255, "height": 64, "width": 96}
    if cfg.MODEL.LOAD_PROPOSALS:
        boxes = torch.tensor([[4.0, 6.0, 60.0, 50.0], [20.0, 10.0, 90.0, 60.0]])
        example["proposals"] = Instances(
            (64, 96), proposal_boxes=Boxes(boxes), objectness_logits=torch.tensor([1.0, 0.5])
        )
    return [example]


def steady(model):
    """Norm statistics that keep a deep random net finite, the same in both models."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith(("norm.weight", "running_var")):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.5)
    return model.eval()


def compare(stock, ours, example):
    assert ours.state_dict().keys() == stock.state_dict().keys()
    ours.load_state_dict(stock.state_dict(), strict=True)
    with torch.no_grad():
        pixels = example[0]["image"][None] / 60 - 2
        expected, got = stock.backbone(pixels), ours.eval().backbone(pixels)
        assert expected.keys() == got.keys()
        for name, feature in expected.items():
            assert (got[name] - feature).norm() <= 1e-5 * feature.norm() > 0
        compare_outputs(stock(example)[0], ours(example)[0])


def compare_outputs(expected, got):
    assert expected.keys() == got.keys()
    for key, value in expected.items():
        if key in ("instances", "proposals"):
            assert value.get_fields().keys() == got[key].get_fields().keys()
            for field, wanted in value.get_fields().items():
                found = got[key].get(field)
                wanted, found = (getattr(x, "tensor", x) for x in (wanted, found))
                assert torch.allclose(found.float(), wanted.float(), rtol=1e-4, atol=1e-4), field
        elif key == "sem_seg":
            assert torch.allclose(got[key], value, rtol=1e-4, atol=1e-4)
        else:
            assert torch.equal(got[key][0], value[0])


def check(name: str) -> None:
    cfg = zoo_config(name)
    stock = steady(build_model(cfg))
    cfg.MODEL.BACKBONE.NAME = OURS[cfg.MODEL.BACKBONE.NAME]
    compare(stock, build_model(cfg), image_of(cfg))


@pytest.mark.parametrize("name", ["COCO-Detection/retinanet_R_50_FPN_1x", "PascalVOC-Detection/faster_rcnn_R_50_C4"])
def test_two_of_the_zoo(name):
    check(name)


@pytest.mark.zoo
@pytest.mark.parametrize("name", COVERED)
def test_zoo(name):
    check(name)


@pytest.mark.zoo
def test_nothing_is_left_out_silently(capsys):
    lazy = [name for name in ZOO if name in NEW_BASELINES]
    left_out = {name: reason for name in ZOO if name not in lazy and (reason := reason_left_out(name))}
    assert len(COVERED) + len(lazy) + len(left_out) == len(ZOO)
    with capsys.disabled():
        print(f"\n{len(COVERED) + len(lazy)} of the zoo's {len(ZOO)} configurations covered; not covered:")
        for name, reason in left_out.items():
            print(f"  {name}: {reason}")


def lazy_model(name):
    from detectron2.config import LazyConfig

    return LazyConfig.load(model_zoo.get_config_file(f"{name}.py")).model


@pytest.mark.zoo
@pytest.mark.parametrize(
    "name", ["COCO-Detection/retinanet_R_50_FPN_1x", "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x"]
)
def test_lazy_configs(name):
    """Stock LazyConfig, its bottom-up network replaced by ours."""
    from detectron2.config import LazyCall, instantiate

    from resnet_backbone.detection.backbones import residual_backbone

    model = lazy_model(name)
    stock = steady(instantiate(model))
    features = list(model.backbone.bottom_up.out_features)
    model.backbone.bottom_up = LazyCall(residual_backbone)(name="resnet50", out_features=features)
    ours = instantiate(model)
    example = [{"image": torch.rand(3, 64, 96) * 255, "height": 64, "width": 96}]
    compare(stock, ours, example)


# The folder's files, of which the 50 epochs have no weights in the zoo's table; RegNets apart.
FOLDER = Path(model_zoo.get_config_file("new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py")).parent
NEW_BASELINES = [f"new_baselines/{path.stem}" for path in sorted(FOLDER.glob("*.py")) if "regnet" not in path.stem]


@pytest.mark.zoo
@pytest.mark.parametrize("name", NEW_BASELINES)
def test_new_baselines(name):
    """The stock file with its bottom-up node alone replaced: that node's own arguments, read off it."""
    from detectron2.config import LazyCall, instantiate
    from detectron2.layers import get_norm

    from resnet_backbone.detection.backbones import residual_backbone

    model = lazy_model(name)
    # Fewer proposals and no score threshold: outputs to compare, in seconds.
    model.proposal_generator.post_nms_topk = (12, 12)
    model.roi_heads.box_predictor.test_score_thresh, model.roi_heads.box_predictor.test_topk_per_image = 0.0, 5
    stock = steady(instantiate(model))
    node = model.backbone.bottom_up
    assert node.stem.norm == node.stages.norm == "SyncBN"
    model.backbone.bottom_up = LazyCall(residual_backbone)(
        name=f"resnet{node.stages.depth}",
        out_features=list(node.out_features),
        stride_in_1x1=node.stages.stride_in_1x1,
        norm=lambda channels: get_norm("SyncBN", channels),
        freeze_at=node.freeze_at,
    )
    ours = instantiate(model)
    assert all(p.requires_grad for p in ours.backbone.parameters())
    example = [{"image": torch.rand(3, 64, 96) * 255, "height": 64, "width": 96}]
    compare(stock, ours, example)


def test_lengths_share_one_network():
    """The files of one depth differ in their schedule alone."""
    from detectron2.config import LazyConfig

    networks = {}
    for name in NEW_BASELINES:
        # Functions have an address in their text, which is no difference.
        text = re.sub(r" at 0x[0-9a-f]+", "", LazyConfig.to_py(lazy_model(name)))
        networks.setdefault("R_101" if "R_101" in name else "R_50", set()).add(text)
    assert len(NEW_BASELINES) == 7 and {depth: len(texts) for depth, texts in networks.items()} == {
        "R_50": 1,
        "R_101": 1,
    }
