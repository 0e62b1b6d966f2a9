"""Exported networks against eager ones: torch.export, ONNX in onnxruntime, TorchScript's trace; sizes left open."""

from __future__ import annotations

import warnings

import onnxruntime
import pytest
import torch
from torch import nn
from torch.export import Dim

import resnet_backbone as rb
from resnet_backbone.models.norms import FrozenBatchNorm2d

# torch 2.11 exports VGG for multiples of 32 alone, and says so in a guard.
WIDER = 7 if torch.__version__ >= "2.15" else 32
V15 = {"stride_in_1x1": False}

# (variant, options, side in pixels of the example image).
CLASSIFIERS = [
    ("resnet18", {"shortcut": "C"}, 64),
    ("plain18", {}, 64),
    ("resnet50", V15, 64),
    ("cifar_resnet20", {"pad_before": True}, 32),
]
BACKBONES = [
    ("resnet18", {"shortcut": "A", "out_features": ("stem", "res5")}, 64),
    ("resnet18", {"shortcut": "B", "out_features": ("res4", "res5"), "res5_dilation": 2}, 64),
    ("resnet50", {"norm": "FrozenBN", "out_features": ("res2", "res3", "res4", "res5"), "freeze_at": 2}, 64),
    ("resnext50_32x4d", {"norm": "FrozenBN", "out_features": ("res5",), **V15}, 64),
    ("vgg16_bn", {"out_features": ("conv3", "pool5")}, 64),
]
CASES = [*((name, {"num_classes": 7, **options}, side) for name, options, side in CLASSIFIERS), *BACKBONES]
IDS = [f"{name}-{'-'.join(str(v) for v in options.values() if isinstance(v, str))}" for name, options, _ in CASES]


def network(name, options):
    """In evaluation mode, with statistics that leave no norm trivial."""
    net = rb.build(name, **options).eval()
    for norm in net.modules():
        if isinstance(norm, (nn.BatchNorm2d, FrozenBatchNorm2d)):
            norm.weight.data.uniform_(0.5, 1.0)
            norm.running_mean.uniform_(-0.2, 0.2)
            norm.running_var.uniform_(0.5, 1.5)
    return net


def open_sizes(options):
    """Any batch; any height and width too for a backbone, whose maps have no fixed size."""
    batch = {0: Dim("batch")}
    return batch if "num_classes" in options else {**batch, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}


def images(options, side):
    """The example that is exported, and another batch (a backbone's: of another height and width) to compare on."""
    other = (side, side) if "num_classes" in options else (side + 32, side + WIDER)
    return torch.randn(2, 3, side, side), torch.randn(3, 3, *other)


def maps(output):
    return output if isinstance(output, dict) else {"logits": output}


def assert_same(got, expected, tolerance):
    got, expected = maps(got), maps(expected)
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert got[name].shape == value.shape, name
        assert (got[name] - value).norm() <= tolerance * value.norm() > 0, name


@pytest.mark.parametrize(("name", "options", "side"), CASES, ids=IDS)
@torch.no_grad()
def test_torch_export_and_onnx_compute_what_eager_does(tmp_path, name, options, side):
    net = network(name, options)
    example, other = images(options, side)
    expected = net(other)
    program = torch.export.export(net, (example,), dynamic_shapes=(open_sizes(options),))
    assert_same(program.module()(other), expected, 1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(program, dynamo=True, verbose=False).save(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    outputs = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    named = dict(zip(maps(expected), map(torch.from_numpy, outputs), strict=True))
    assert_same(named, maps(expected), 1e-5)


def test_onnx_outputs_and_axes_carry_the_names_that_are_asked_for(tmp_path):
    net = network("resnet18", {"out_features": ("res2", "res5")})
    axes = {0: Dim("batch"), 2: Dim("height", min=32), 3: Dim("width", min=32)}
    torch.onnx.export(
        net, (torch.randn(2, 3, 64, 64),), tmp_path / "net.onnx", dynamo=True, verbose=False,
        input_names=["image"], output_names=["res2", "res5"], dynamic_shapes=(axes,),
    )  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    assert session.get_inputs()[0].name == "image"
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    assert [output.name for output in session.get_outputs()] == ["res2", "res5"]


@pytest.mark.parametrize(("name", "options", "side"), CASES, ids=IDS)
@pytest.mark.parametrize("gradients", [True, False], ids=["grad", "no_grad"])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript_traces(tmp_path, name, options, side, gradients):
    """Traced with and without gradients; saved, loaded, and run on another size. torch.jit.script is not offered."""
    net = network(name, options)
    example, other = images(options, side)
    with torch.set_grad_enabled(gradients):
        traced = torch.jit.trace(net, (example,), strict=not options.get("out_features"))
    traced.save(tmp_path / "net.pt")
    with torch.no_grad():
        assert_same(torch.jit.load(tmp_path / "net.pt")(other), net(other), 1e-6)


def test_an_exported_network_keeps_refusing_other_channels():
    net = network("cifar_resnet20", {"num_classes": 7})
    program = torch.export.export(net, (torch.randn(2, 3, 32, 32),), dynamic_shapes=({0: Dim("batch")},))
    with pytest.raises((AssertionError, RuntimeError, ValueError), match="3"):
        program.module()(torch.randn(2, 4, 32, 32))
