"""Detectron2's own detectors on our backbones learn: losses fall, and gradients reach what is to be trained alone."""

from __future__ import annotations

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from test_detectron2_backbones import training_example

import resnet_backbone  # noqa: F401  registers the backbones
from resnet_backbone.models.norms import FrozenBatchNorm2d

STEPS = 7
# RetinaNet starts at its prior and moves slowly; Mask R-CNN's proposals change under it.
RATES = {"retinanet": 0.02, "mask_rcnn": 0.002}
DETECTORS = {
    "COCO-Detection/retinanet_R_50_FPN_1x": "build_residual_retinanet_fpn_backbone",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": "build_residual_fpn_backbone",
}


def zoo_detector(name, depth, norm="FrozenBN", freeze_at=2):
    """A stock configuration of the zoo with our backbone, and few regions, for speed."""
    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(f"{name}.yaml"))
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = DETECTORS[name], freeze_at
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.NORM = depth, norm
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64 if depth < 50 else 256
    cfg.MODEL.RETINANET.NUM_CLASSES = cfg.MODEL.ROI_HEADS.NUM_CLASSES = 5
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN, cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 50, 32
    # Weights are random here: pixels of unit variance instead of MSRA's hundreds.
    cfg.MODEL.PIXEL_STD = [57.375, 57.12, 58.395]
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    return build_model(cfg)


def calm(model):
    """Halves each residual branch's last scale: a random deep network with fixed norms would explode."""
    for block in (m for m in model.backbone.bottom_up.modules() if hasattr(m, "last_norm_of")):
        getattr(block, block.last_norm_of).norm.weight.data.mul_(0.5)
    return model


def examples():
    """Two images whose boxes can be seen: brighter rectangles on noise."""
    batch = [training_example(), training_example()]
    for example in batch:
        example["image"] /= 4
        for box in example["instances"].gt_boxes.tensor.int().tolist():
            example["image"][:, box[1] : box[3], box[0] : box[2]] += 90
    return batch


def train(model, name):
    """`STEPS` steps of SGD on the same batch; the sum of losses at each."""
    batch, rate = examples(), next(rate for kind, rate in RATES.items() if kind in name)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=rate, momentum=0.9)
    sums = []
    with EventStorage():
        for _ in range(STEPS):
            # The heads sample regions: the same ones every time, so that losses can be compared.
            torch.manual_seed(1)
            losses = model(batch)
            assert all(torch.isfinite(loss) for loss in losses.values()), losses
            total = sum(losses.values())
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            sums.append(total.item())
    return sums


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("name", DETECTORS)
def test_detectron2s_detectors_train_on_our_backbones(name, depth):
    model = calm(zoo_detector(name, depth)).train()
    frozen = {
        k: v.clone() for k, v in model.backbone.bottom_up.state_dict().items() if k.startswith(("stem.", "res2."))
    }
    norms = {k: v.clone() for k, v in model.named_buffers() if "norm" in k}
    losses = train(model, name)
    assert losses[-1] < 0.95 * losses[0], losses
    for key, parameter in model.named_parameters():
        kept = key.startswith(("backbone.bottom_up.stem.", "backbone.bottom_up.res2."))
        assert parameter.requires_grad is not kept, key
        assert (parameter.grad is None) if kept else bool(parameter.grad.abs().max() > 0), key
    after = model.backbone.bottom_up.state_dict()
    assert frozen and all(torch.equal(after[key], value) for key, value in frozen.items())
    assert norms and all(torch.equal(value, norms[key]) for key, value in model.named_buffers() if "norm" in key)


@pytest.mark.parametrize("name", DETECTORS)
def test_batch_norm_from_scratch_trains_everything(name):
    model = zoo_detector(name, 18, norm="BN", freeze_at=0).train()
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in model.modules())
    before = model.backbone.bottom_up.res5[1].conv2.norm.running_mean.clone()
    losses = train(model, name)
    assert losses[-1] < 0.95 * losses[0], losses
    assert not torch.equal(model.backbone.bottom_up.res5[1].conv2.norm.running_mean, before)
    for key, parameter in model.named_parameters():
        assert parameter.requires_grad and parameter.grad.abs().max() > 0, key
