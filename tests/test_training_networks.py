"""What recipes ask of networks: stochastic depth, dropout, zero initialisation, synchronised norms, He's start."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from resnet_backbone.classification.testing.batch_norm import recompute_statistics
from resnet_backbone.models.build import build_network

NARROW = {
    "resnet18": {"stem_out_channels": 8, "res2_out_channels": 8},
    "resnet50": {"stem_out_channels": 8, "res2_out_channels": 16, "width_per_group": 4},
    "cifar_resnet20": {},
}


@pytest.mark.parametrize("name", NARROW)
def test_stochastic_depth_drops_the_branch_and_keeps_the_shortcut(name):
    net = build_network(name, num_classes=3, drop_path=0.5, **NARROW[name])
    for block in list(net.blocks())[-3:]:
        x = torch.randn(64, block.in_channels, 4, 4)
        shortcut = x if block.shortcut is None else block.shortcut(x)
        branch = block.residual(x)
        p = block.drop_path.p
        out, kinds = block(x), []
        for row in range(64):
            dropped = torch.allclose(out[row], shortcut[row].relu(), atol=1e-5)
            kept = torch.allclose(out[row], (shortcut[row] + branch[row] / (1 - p)).relu(), atol=1e-4)
            assert dropped != kept
            kinds.append(dropped)
        assert 0.2 < sum(kinds) / 64 < 0.75
        block.eval()
        assert torch.allclose(
            block(x), ((x if block.shortcut is None else block.shortcut(x)) + block.residual(x)).relu()
        )


@pytest.mark.parametrize("name", NARROW)
def test_zero_initialisation_trains(name):
    net = build_network(name, num_classes=3, zero_init_last_norm=True, **NARROW[name])
    net(torch.randn(4, 3, 64, 64)).square().sum().backward()
    for block in net.blocks():
        last = getattr(block, block.last_norm_of).norm
        assert last.weight.abs().max() == 0 and last.weight.grad.abs().max() > 0


@pytest.mark.parametrize("options", [{"zero_init_last_norm": True}, {"drop_path": 0.1}])
@pytest.mark.parametrize(
    "network", [{"name": "plain18"}, {"name": "cifar_plain20"}, {"name": "resnet18", "shortcut": "none"}]
)
def test_options_of_branches_are_refused_without_shortcuts(network, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}: without shortcuts"):
        build_network(**network, num_classes=3, **options)


def test_zero_initialisation_needs_norms():
    with pytest.raises(ValueError, match="has no norms here"):
        build_network("resnet18", num_classes=3, norm="", zero_init_last_norm=True)


def test_vgg_drops_half_of_fc6_and_fc7_in_training_alone():
    net = build_network("vgg16", num_classes=3)
    seen = {}
    for name in ("fc7", "fc8"):
        net.get_submodule(name).register_forward_pre_hook(lambda _, x, name=name: seen.update({name: x[0]}))
    for layer in (net.fc6, net.fc7):
        nn.init.zeros_(layer.weight)
        nn.init.ones_(layer.bias)
    x = torch.zeros(2, 512, 7, 7)
    net.train().classify(x)
    for given in seen.values():
        assert set(given.unique().tolist()) == {0.0, 2.0}
        assert (given == 0).float().mean() == pytest.approx(0.5, abs=0.03)
    net.eval().classify(x)
    assert all((given == 1).all() for given in seen.values())


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn", "resnet18", "resnet50", "cifar_plain20"])
def test_convolutions_start_from_hes_distribution(name):
    torch.manual_seed(0)
    features = ("conv5",) if "vgg" in name else ("res4",)
    for module in build_network(name, out_features=features).modules():
        if isinstance(module, nn.Conv2d):
            deviation = math.sqrt(2 / (module.out_channels * module.kernel_size[0] ** 2))
            sigma = 1 / math.sqrt(2 * module.weight.numel())
            assert module.weight.std().item() == pytest.approx(deviation, rel=5 * sigma)
            assert abs(module.weight.mean().item()) < 5 * deviation / math.sqrt(module.weight.numel())
            assert module.bias is None or module.bias.abs().max() == 0


def test_synchronised_norms_keep_everything_and_get_exact_statistics():
    torch.manual_seed(0)
    plain = build_network("cifar_resnet8", num_classes=3, zero_init_last_norm=True)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(
        build_network("cifar_resnet8", num_classes=3, zero_init_last_norm=True)
    )
    converted.load_state_dict(plain.state_dict())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in converted.modules())
    batches = [torch.randn(6, 3, 32, 32) * (k + 1) + k for k in range(3)]
    for network in (plain, converted):
        assert recompute_statistics(network, batches) == 18
    for (name, a), (_, b) in zip(plain.state_dict().items(), converted.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    assert converted.stem.conv1.norm.running_mean.abs().max() > 0.1
    assert converted.stem.conv1.norm.momentum == 0.1
