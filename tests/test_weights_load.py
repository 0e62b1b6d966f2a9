"""Naming maps and strict loading, against torchvision's and timm's modules and real checkpoints."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import torchvision
from test_models import randomize_statistics

import resnet_backbone as rb
from resnet_backbone.weights import naming
from resnet_backbone.weights.convert import convert
from resnet_backbone.weights.files import write_weights
from resnet_backbone.weights.load import load_weights, read_source
from resnet_backbone.weights.record import WeightRecord
from resnet_backbone.weights.sources import implied_record

NAMES = ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "vgg16", "vgg16_bn"]


def saved(model, path):
    torch.save(model.state_dict(), path)
    return path


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_torchvision_files_give_torchvisions_outputs(tmp_path, name):
    theirs = torchvision.models.get_model(name, weights=None).eval()
    randomize_statistics(theirs)
    ours = rb.build(name, num_classes=1000, weights=saved(theirs, tmp_path / "w.pth")).eval()
    image = torch.randn(1, 3, 64, 64)
    expected = theirs(image)
    assert (ours(image) - expected).norm() <= 1e-5 * expected.norm()


@torch.no_grad()
def test_timm_files_give_timms_outputs(tmp_path):
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("resnet50", pretrained=False).eval()
    randomize_statistics(theirs)
    ours = rb.build("resnet50", num_classes=1000, weights=saved(theirs, tmp_path / "w.pth")).eval()
    image = torch.randn(1, 3, 64, 64)
    assert (ours(image) - theirs(image)).norm() <= 1e-5 * theirs(image).norm()
    foreign = timm.create_model("resnet50d", pretrained=False)
    with pytest.raises(rb.WeightsError, match="deep stem"):
        read_source(saved(foreign, tmp_path / "d.pth"))


@pytest.mark.parametrize("name", [*NAMES, "cifar_resnet20"])
def test_names_go_both_ways_exactly(name):
    state = rb.build(name, num_classes=10, stride_in_1x1=False).state_dict()
    for kind in ("torchvision", "cifar"):
        if kind == "cifar" and not name.startswith("cifar"):
            continue
        theirs = naming.from_ours(state, kind)
        back = naming.to_ours(theirs)
        assert not back.dropped and back.state.keys() == state.keys()
        assert all(back.state[key] is value for key, value in state.items())
    if not name.startswith(("vgg", "cifar")):
        with torch.device("meta"):
            reference = torchvision.models.get_model(name, weights=None, num_classes=10).state_dict()
        theirs = naming.from_ours(state, "torchvision")
        assert {k: v.shape for k, v in theirs.items()} == {k: v.shape for k, v in reference.items()}


def test_caffe2_names_against_detectron2s_converter():
    from detectron2.checkpoint.c2_model_loading import convert_basic_c2_names

    state = rb.build("resnet50", num_classes=1000).state_dict()
    affine = {k: v for k, v in state.items() if "running" not in k and "tracked" not in k}
    theirs = list(naming.from_ours(affine, "caffe2"))
    assert naming.detect(theirs) == "caffe2"
    converted = convert_basic_c2_names(list(theirs))
    assert converted == list(affine)
    assert list(naming.to_ours({k: torch.zeros(1) for k in theirs}).state) == list(affine)


def caffe2_file(path, stride_in_1x1=True):
    net = rb.build("resnet50", num_classes=1000, stride_in_1x1=stride_in_1x1)
    affine = {k: v for k, v in net.state_dict().items() if "running" not in k and "tracked" not in k}
    blobs = {k: v.numpy() for k, v in naming.from_ours(affine, "caffe2").items()}
    blobs["conv1_b"] = np.zeros(64, np.float32)
    path.write_bytes(pickle.dumps({"blobs": blobs}, 2))
    return path


def test_caffe2_files_load_with_their_two_allowances_said(tmp_path):
    path = caffe2_file(tmp_path / "R-50.pkl")
    net = rb.build("resnet50", out_features=("res5",), norm="FrozenBN", weights=path)
    assert net.config.stride_in_1x1 is True
    assert net.res5[2].conv3.norm.running_var.eq(1).all()
    report = load_weights(net, path)
    assert (report.matched, report.total) == (265, 265)
    assert "265 of 265 backbone tensors" in str(report)
    assert any("conv1_b" in line for line in report.allowed)
    assert any("53 batch norms are affine only" in line for line in report.allowed)
    assert any("not needed: 2 tensors of linear" in line for line in report.allowed)
    assert report.record.channel_order == "BGR" and report.record.assumed


def test_wrong_stride_is_refused_though_every_shape_fits(tmp_path):
    path = saved(torchvision.models.resnet50(), tmp_path / "w.pth")
    with pytest.raises(rb.WeightsError, match=r"stride_in_1x1=False.*built with True"):
        rb.build("resnet50", num_classes=1000, stride_in_1x1=True, weights=path)


def broken(change):
    state = torchvision.models.resnet18().state_dict()
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layer2.0.bn1.running_mean"), "batch-norm statistics are lost"),
        (lambda s: [s.pop(k) for k in list(s) if "running_var" in k], "batch-norm statistics are lost"),
        (lambda s: s.pop("layer2.0.conv1.weight"), "1 missing"),
        (lambda s: s.update({"layer2.0.conv9.weight": torch.zeros(1)}), "1 left over"),
        (lambda s: s.update({"layer9": torch.zeros(1)}), None),
        (lambda s: s.update({"fc.weight": torch.zeros(5, 512)}), "1 misshapen"),
    ],
)
def test_nothing_is_skipped(tmp_path, change, message):
    path = tmp_path / "w.pth"
    torch.save(broken(change), path)
    net = rb.build("resnet18", num_classes=1000)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    if message is None:
        assert any("layer9: unknown name" in line for line in load_weights(net, path).allowed)
        return
    with pytest.raises(rb.WeightsError, match=message) as error:
        load_weights(net, path)
    assert str(path) in str(error.value).splitlines()[0]
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, value):
    """They were trained from, recomputed and tested, at the chance of a guess."""
    theirs = torchvision.models.resnet18()
    theirs.layer2[0].conv1.weight.data[0, 0, 0, 0] = value
    net = rb.build("resnet18", num_classes=1000)
    before = net.state_dict()["stem.conv1.weight"].clone()
    with pytest.raises(rb.WeightsError, match=r"broken.pth: res3.0.conv1.weight hold no numbers \(NaN, infinity\)"):
        load_weights(net, saved(theirs, tmp_path / "broken.pth"))
    assert torch.equal(net.state_dict()["stem.conv1.weight"], before)
    converted = tmp_path / "converted.safetensors"
    convert(tmp_path / "broken.pth", converted, "resnet_backbone")
    with pytest.raises(rb.WeightsError, match="converted.safetensors: res3"):  # the file, not what it was made of
        load_weights(net, converted)


def test_another_depth_says_which(tmp_path):
    path = saved(torchvision.models.resnet34(), tmp_path / "w.pth")
    with pytest.raises(rb.WeightsError, match="the file is resnet34"):
        rb.build("resnet18", num_classes=1000, weights=path)


def test_classes_may_differ_only_for_fine_tuning(tmp_path):
    path = saved(torchvision.models.resnet18(), tmp_path / "w.pth")
    net = rb.build("resnet18", num_classes=7)
    with pytest.raises(rb.WeightsError, match="misshapen"):
        load_weights(net, path)
    report = load_weights(net, path, fine_tune=True)
    assert any("linear.bias, linear.weight" in line for line in report.allowed)
    assert (report.matched, report.total) == (100, 102)


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_any_input_channels_as_timm(tmp_path, channels):
    from timm.models._manipulate import adapt_input_conv

    theirs = torchvision.models.resnet18()
    net = rb.build("resnet18", num_classes=1000, in_channels=channels, weights=saved(theirs, tmp_path / "w.pth"))
    expected = adapt_input_conv(channels, theirs.conv1.weight.detach())
    assert torch.allclose(net.stem.conv1.weight, expected)


def test_our_records_settle_what_tensors_cannot_say(tmp_path):
    net = rb.build("cifar_resnet20", num_classes=10, pad_before=True, norm_eps=1e-3)
    record = WeightRecord("resnet_backbone", "ours", "cifar_resnet20", shortcut="A", pad_before=True, eps=1e-3)
    path = write_weights(tmp_path / "net.safetensors", net.state_dict(), record)
    again = rb.build("cifar_resnet20", num_classes=10, weights=path)
    assert again.config.pad_before and again.config.norm_eps == 1e-3
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(again.eval()(x), net.eval()(x))
    with pytest.raises(rb.WeightsError, match="eps 0.001"):
        rb.build("cifar_resnet20", num_classes=10, norm_eps=1e-5, weights=path)
    with pytest.raises(rb.WeightsError, match="shortcut option A"):
        load_weights(rb.build("cifar_plain20", num_classes=10, norm_eps=1e-3), path)


def test_implied_records_of_the_sources():
    record = implied_record("torchvision://ResNet101_Weights.IMAGENET1K_V2")
    assert (record.variant, record.stride_in_1x1, record.channel_order) == ("resnet101", False, "RGB")
    assert record.mean == pytest.approx((123.675, 116.28, 103.53)) and (record.resize, record.input_size) == (
        232,
        224,
    )
    assert record.top1 == pytest.approx(81.886)
    record = implied_record("detectron2://ImageNetPretrained/MSRA/R-101.pkl")
    assert record.detectron2_settings() == {
        "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675], "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
        "INPUT.FORMAT": "BGR", "MODEL.RESNETS.STRIDE_IN_1X1": True,
    }  # fmt: skip
    assert implied_record("timm://resnet34.ra4_e3600_r224_in1k").mean == (127.5, 127.5, 127.5)
    assert implied_record("timm://resnet101.a1h_in1k").mean == pytest.approx((123.675, 116.28, 103.53))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("torchvision://ResNet101_Weights.IMAGENET1K_V3", "did you mean|has IMAGENET1K_V1, IMAGENET1K_V2"),
        ("torchvision://resnet50", "did you mean torchvision://ResNet50_Weights"),
        ("timm://resnet50", "add the tag"),
        ("timm://resnet50d.ra2_in1k", "another stem"),
        ("torchvison://ResNet50_Weights.IMAGENET1K_V1", "did you mean torchvision://"),
        ("no/such/file.pth", "no such file"),
    ],
)
def test_misspelt_sources(source, message):
    with pytest.raises(rb.WeightsError, match=message):
        read_source(source)


@torch.no_grad()
def test_real_resnet50_is_right_without_any_setting(real_data):
    """The first 20 images; all 650 are in benchmarks/. torchvision's module is the reference."""
    from PIL import Image

    path = real_data / "weights" / "resnet50_pqf_fp16.pth.xz"
    source = read_source(path)
    assert source.record.assumed and source.record.stride_in_1x1 is False
    ours = rb.build("resnet50", num_classes=1000, weights=path).eval()
    lines = (real_data / "imagenet_val" / "labels.txt").read_text().splitlines()[:20]
    transform = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    images = torch.stack(
        [transform(Image.open(real_data / "imagenet_val" / line.split()[0]).convert("RGB")) for line in lines]
    )
    labels = torch.tensor([int(line.split()[1]) for line in lines])
    assert (ours(images).argmax(1) == labels).float().mean() > 0.6
    theirs = torchvision.models.resnet50()
    theirs.load_state_dict({k: v.float() for k, v in naming.from_ours(ours.state_dict(), "torchvision").items()})
    assert torch.allclose(ours(images[:4]), theirs.eval()(images[:4]), rtol=1e-4, atol=1e-4)
