"""The family against the paper's counts, torchvision's modules and hand-worked properties."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from fvcore.nn import FlopCountAnalysis
from torch import nn

from resnet_backbone.models.blocks import ZeroPadShortcut
from resnet_backbone.models.build import build_network
from resnet_backbone.models.counting import count_multiply_adds, count_parameters
from resnet_backbone.models.norms import FrozenBatchNorm2d, freeze_norms
from resnet_backbone.models.variants import find_variant, list_variants

V15 = {"stride_in_1x1": False}

# (variant, options): parameters, multiply-adds; PAPER's two tables. 224 pixels, CIFAR 32.
GOLDEN = [
    ("resnet18", {"shortcut": "B"}, 11_689_512, 1_814_073_344),
    ("resnet18", {"shortcut": "A"}, 11_515_688, 1_794_805_760),
    ("plain18", {}, 11_515_688, 1_794_805_760),
    ("resnet34", {"shortcut": "A"}, 21_623_848, 3_644_493_824),
    ("resnet34", {"shortcut": "B"}, 21_797_672, 3_663_761_408),
    ("resnet34", {"shortcut": "C"}, 22_716_840, 3_830_747_136),
    ("plain34", {}, 21_623_848, 3_644_493_824),
    ("resnet50", {}, 25_557_032, 3_857_973_248),
    ("resnet50", V15, 25_557_032, 4_089_184_256),
    ("resnet101", {}, 44_549_160, 7_570_194_432),
    ("resnet101", V15, 44_549_160, 7_801_405_440),
    ("resnet152", {}, 60_192_808, 11_282_415_616),
    ("resnet152", V15, 60_192_808, 11_513_626_624),
    ("vgg16", {}, 138_357_544, 15_470_264_320),
    ("vgg19", {}, 143_667_240, 19_632_062_464),
    *((f"cifar_{kind}20", {}, 269_722, 40_551_040) for kind in ("resnet", "plain")),
    *((f"cifar_{kind}32", {}, 464_154, 68_862_592) for kind in ("resnet", "plain")),
    *((f"cifar_{kind}44", {}, 658_586, 97_174_144) for kind in ("resnet", "plain")),
    *((f"cifar_{kind}56", {}, 853_018, 125_485_696) for kind in ("resnet", "plain")),
    *((f"cifar_{kind}110", {}, 1_727_962, 252_887_680) for kind in ("resnet", "plain")),
    *((f"cifar_{kind}1202", {}, 19_421_274, 2_829_238_912) for kind in ("resnet", "plain")),
]

# Variants outside the paper: torchvision's module is the reference.
TORCHVISION_COUNTED = {
    "resnext50_32x4d": torchvision.models.resnext50_32x4d,
    "resnext101_32x8d": torchvision.models.resnext101_32x8d,
    "resnext101_64x4d": torchvision.models.resnext101_64x4d,
    "resnext152_32x8d": lambda: torchvision.models.ResNet(
        torchvision.models.resnet.Bottleneck, [3, 8, 36, 3], groups=32, width_per_group=8
    ),
    "wide_resnet50_2": torchvision.models.wide_resnet50_2,
    "wide_resnet101_2": torchvision.models.wide_resnet101_2,
    "vgg16_bn": torchvision.models.vgg16_bn,
    "vgg19_bn": torchvision.models.vgg19_bn,
}


@pytest.mark.parametrize(("name", "options", "parameters", "multiply_adds"), GOLDEN)
def test_golden_counts(name, options, parameters, multiply_adds):
    cifar = name.startswith("cifar")
    with torch.device("meta"):
        net = build_network(name, num_classes=10 if cifar else 1000, **options)
    assert count_parameters(net) == parameters
    assert count_multiply_adds(net, (32, 32) if cifar else (224, 224)) == multiply_adds


@pytest.mark.parametrize("name", TORCHVISION_COUNTED)
def test_counts_outside_the_paper_are_torchvisions(name):
    with torch.device("meta"):
        ours = build_network(name, num_classes=1000, **({} if "vgg" in name else V15))
        theirs = TORCHVISION_COUNTED[name]()
    assert count_parameters(ours) == sum(p.numel() for p in theirs.parameters())
    assert count_multiply_adds(ours) == count_multiply_adds(theirs)


def test_every_variant_has_a_golden_count():
    assert {name for name, *_ in GOLDEN} | set(TORCHVISION_COUNTED) == set(list_variants())


def test_multiply_adds_are_fvcores_convolutions_and_linears():
    net = build_network("resnet18", num_classes=1000).eval()
    by_operator = FlopCountAnalysis(net, torch.zeros(1, 3, 64, 96)).unsupported_ops_warnings(False).by_operator()
    assert count_multiply_adds(net, (64, 96)) == sum(by_operator[op] for op in ("conv", "linear", "addmm"))


def randomize_statistics(net: nn.Module) -> None:
    """Statistics and affine parameters that are neither trivial nor explosive at any depth."""
    generator = torch.Generator().manual_seed(0)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor, low, high in (
                (norm.weight, 0.5, 1.0), (norm.bias, -0.2, 0.2),
                (norm.running_mean, -0.2, 0.2), (norm.running_var, 0.5, 1.5),
            ):  # fmt: skip
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Copies tensor by tensor in definition order per kind of layer: independent of any naming map."""
    for kind in (nn.Conv2d, nn.BatchNorm2d, nn.Linear):
        ours = [m for _, m in ordered(target) if isinstance(m, kind)]
        theirs = [m for _, m in ordered(source) if isinstance(m, kind)]
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            for (_, x), (_, y) in zip(own_tensors(a), own_tensors(b), strict=True):
                x.data.copy_(y)


def ordered(net: nn.Module):
    """Modules by forward order within a block: convolutions 1 to 3, then the shortcut."""
    rank = {"conv1": 1, "conv2": 2, "conv3": 3, "shortcut": 4, "downsample": 4}

    def key(item):
        position, (name, _) = item
        parts = name.split(".")
        block = next((i for i, part in enumerate(parts) if part in rank and i > 0), None)
        if block is None or parts[0] == "stem":
            return (position_of[name.split(".")[0]], 0, 0, 0, position)
        stage, index = parts[0], int(parts[1])
        inner = parts[block]
        inner = {"bn1": "conv1"}.get(inner, inner)
        return (position_of[stage], index, rank[inner], 0, position)

    modules = list(net.named_modules())
    position_of = {name: i for i, (name, _) in enumerate(net.named_children())}
    position_of[""] = -1
    return [item for _, item in sorted(enumerate(modules), key=key)] if hasattr(net, "stem") else modules


def own_tensors(module: nn.Module):
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]


PARITY = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
          "wide_resnet50_2", "wide_resnet101_2", "vgg16", "vgg19", "vgg16_bn"]  # fmt: skip


def torchvision_twin(name: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None)
    randomize_statistics(theirs)
    basic_or_vgg = "vgg" in name or name in ("resnet18", "resnet34")
    ours = build_network(name, num_classes=1000, **({} if basic_or_vgg else V15))
    copy_in_order(theirs, ours)
    return ours.eval(), theirs.eval()


@pytest.mark.parametrize("name", PARITY)
@torch.no_grad()
def test_equals_torchvision(name):
    ours, theirs = torchvision_twin(name)
    image = torch.randn(1, 3, 64, 64)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        expected = theirs.to(dtype)(image.to(dtype))
        got = ours.to(dtype)(image.to(dtype))
        assert expected.std() > 0
        assert (got - expected).norm() <= tolerance * expected.norm()


def test_frozen_batch_norm_is_batch_norm_in_eval_mode():
    norm = nn.BatchNorm2d(6, dtype=torch.float64, eps=1e-3)
    randomize_statistics(norm)
    frozen = FrozenBatchNorm2d.frozen(norm)
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    expected = norm.eval()(x)
    assert torch.allclose(frozen(x), expected, rtol=0, atol=1e-12)
    assert torch.allclose(frozen(x.requires_grad_()), expected, rtol=0, atol=1e-12)
    assert not list(frozen.parameters())


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16_bn"])
@pytest.mark.parametrize("freeze_at", [0, 2])
def test_gradient_reaches_every_trainable_parameter_and_no_frozen_one(name, freeze_at):
    features = ("conv5",) if "vgg" in name else ("res5",)
    net = build_network(name, out_features=features, norm="FrozenBN", freeze_at=freeze_at)
    net(torch.randn(1, 3, 64, 64))[features[0]].square().sum().backward()
    frozen = ("stem.", "res2.") if features == ("res5",) else ("conv1_", "conv2_")
    for parameter_name, parameter in net.named_parameters():
        if freeze_at and parameter_name.startswith(frozen):
            assert parameter.grad is None, parameter_name
        else:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", ["resnet18", "plain18", "resnet50", "cifar_resnet20", "cifar_plain20", "vgg16"])
def test_classifier_gradient_reaches_everything(name):
    size = 32 if "cifar" in name else 64
    net = build_network(name, num_classes=7)
    net(torch.randn(2, 3, size, size)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_option_a_by_hand():
    x = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    behind = ZeroPadShortcut(2, 5, stride=2)(x)
    assert torch.equal(behind[:, :2], x[:, :, [0, 2]][..., [0, 2]])
    assert torch.equal(behind[:, 2:], torch.zeros(1, 3, 2, 2))
    around = ZeroPadShortcut(2, 6, stride=2, before=2)(x)
    assert torch.equal(around[:, 2:4], behind[:, :2]) and around[:, [0, 1, 4, 5]].abs().max() == 0


def test_zero_last_norm_makes_every_block_its_shortcut():
    net = build_network("resnet50", num_classes=5, zero_init_last_norm=True).eval()
    x = torch.randn(1, 256, 8, 8)
    assert torch.equal(net.res2[1](x), x.relu())


def test_output_shapes_strides_and_dilation():
    net = build_network("resnet50", out_features=("stem", "res3", "res4", "res5"), res5_dilation=2)
    features = net(torch.randn(1, 3, 64, 96))
    shapes = net.output_shape()
    assert [(s.channels, s.stride) for s in shapes.values()] == [(64, 4), (512, 8), (1024, 16), (2048, 16)]
    for name, feature in features.items():
        stride = shapes[name].stride
        assert feature.shape == (1, shapes[name].channels, 64 // stride, 96 // stride)
    assert [block.conv2.dilation for block in net.res5] == [(2, 2)] * 3
    basic = build_network("resnet18", out_features=("res5",), res5_dilation=2)
    assert basic(torch.randn(1, 3, 64, 64))["res5"].shape == (1, 512, 4, 4)


def test_layers_behind_the_last_feature_are_not_built():
    net = build_network("resnet50", out_features=("res4",))
    assert not hasattr(net, "res5")
    assert sum(p.numel() for p in net.parameters()) < 10_000_000


def test_activation_checkpointing_changes_nothing():
    torch.manual_seed(0)
    plain = build_network("resnet18", num_classes=3)
    recomputed = build_network("resnet18", num_classes=3, checkpoint_stages=("res2", "res4"))
    recomputed.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for net in (plain, recomputed):
        net(x).square().sum().backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), recomputed.named_parameters()):
        assert torch.equal(a.grad, b.grad), name
    # Without care the recomputation would move the running statistics a second time.
    for (name, a), (_, b) in zip(plain.named_buffers(), recomputed.named_buffers()):
        assert torch.equal(a, b), name


def test_stochastic_depth_keeps_the_mean_and_is_off_in_eval():
    net = build_network("resnet18", num_classes=3, drop_path=0.5)
    rates = [0.0 if b.drop_path is None else b.drop_path.p for b in net.blocks()]
    assert rates == pytest.approx([0.5 * i / 7 for i in range(8)])
    drop = copy.deepcopy(net.res5[1].drop_path)
    x = torch.ones(4000, 1, 1, 1)
    assert torch.equal(drop.eval()(x), x)
    assert drop.train()(x).mean() == pytest.approx(1.0, abs=0.05)
    assert set(drop(x).unique().tolist()) == {0.0, 2.0}


def test_norms_by_name_and_input_channels():
    net = build_network("resnet18", num_classes=3, norm="GN", in_channels=5)
    assert isinstance(net.stem.conv1.norm, nn.GroupNorm)
    assert net(torch.randn(1, 5, 64, 64)).shape == (1, 3)
    sync = build_network("resnet18", num_classes=3, norm="SyncBN")
    assert isinstance(sync.res5[1].conv2.norm, nn.SyncBatchNorm)
    assert isinstance(freeze_norms(sync).res5[1].conv2.norm, FrozenBatchNorm2d)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet51", "num_classes": 3}, "did you mean 'resnet50'"),
        ({"name": "cifar_resnet21", "num_classes": 3}, "6n\\+2"),
        ({"name": "resnet50"}, "num_classes for a classifier or out_features"),
        ({"name": "resnet50", "out_features": ("res6",)}, "did you mean 'res"),
        ({"name": "resnet50", "num_classes": 3, "shortcut": "D"}, "use one of A, B, C, none"),
        ({"name": "resnet50", "num_classes": 3, "norm": "BatchNorm"}, "unknown norm 'BatchNorm'"),
        ({"name": "plain18", "num_classes": 3, "shortcut": "B"}, "build resnet18 for shortcuts"),
        ({"name": "resnet18", "num_classes": 3, "groups": 32}, "no bottleneck"),
        ({"name": "vgg16", "num_classes": 3, "drop_path": 0.1}, "no residual stages"),
        ({"name": "resnet50", "num_classes": 3, "res5_dilation": 3}, "res5_dilation 3"),
        ({"name": "resnet50", "num_classes": 3, "freeze_at": 9}, "5 parts to freeze"),
        ({"name": "resnet50", "num_classes": 0}, "num_classes 0"),
        ({"name": "resnet50", "num_classes": 3, "mean_image": 0}, "mean_image 0"),
    ],
)
def test_what_does_not_fit_is_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_network(**arguments)


def test_wrong_input_is_one_sentence():
    with pytest.raises(ValueError, match="takes N,3,H,W, not \\(3, 64, 64\\)"):
        build_network("resnet18", num_classes=3)(torch.zeros(3, 64, 64))


def test_any_cifar_depth():
    assert find_variant("cifar_resnet164").depths == (27, 27, 27)
    assert find_variant("cifar_resnet164").depth == 164
    assert find_variant("resnet101").depth == 101 and find_variant("vgg19").depth == 19
