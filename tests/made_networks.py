"""Networks with settings and norms that say something, and how far two of them differ."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.modeling import build_backbone
from test_detectron2_backbones import OURS

from resnet_backbone.models.build import build_network

FOLD, LAST, COMPILE = "FOLD_NORMS", "CHANNELS_LAST", "COMPILE"
SETTINGS = [(FOLD,), (LAST,), (FOLD, LAST)]


def with_settings(cfg, settings):
    cfg = cfg.clone()
    cfg.MODEL.RESIDUAL = CfgNode(dict.fromkeys(settings, True))
    return cfg


def random_norms(module):
    for name, tensor in module.state_dict().items():
        if name.endswith(("norm.weight", "running_var")):
            tensor.uniform_(0.5, 1.0)
        elif name.endswith(("norm.bias", "running_mean")):
            tensor.uniform_(-0.2, 0.2)
    return module


def stock_and_ours(cfg, settings=()):
    stock = random_norms(build_backbone(cfg))
    ours = with_settings(cfg, settings)
    ours.MODEL.BACKBONE.NAME = OURS[cfg.MODEL.BACKBONE.NAME]
    ours = build_backbone(ours)
    ours.load_state_dict(stock.state_dict(), strict=True)
    return stock.eval(), ours.eval()


def network(name="resnet18", **options):
    options = {"out_features": ("res2", "res3"), "norm": "FrozenBN", **options}
    return random_norms(build_network(name, **options)).eval()


def difference(got, expected):
    """The largest relative difference of two dicts of features or gradients."""
    assert got.keys() == expected.keys()
    return max(float((got[k] - expected[k]).detach().norm() / expected[k].detach().norm()) for k in expected)


def gradients(net, image):
    net.zero_grad()
    sum(f.square().mean() for f in net(image).values()).backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
