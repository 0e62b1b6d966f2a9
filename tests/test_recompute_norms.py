"""Weights with moving averages to weights for a detector: against one batch of the whole set, and in a detector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_models import randomize_statistics
from torchvision import transforms

import resnet_backbone as rb
from resnet_backbone.classification.testing import recompute
from resnet_backbone.cli import main
from resnet_backbone.detection.build import build_detector
from resnet_backbone.detection.training.config import read_config
from resnet_backbone.models.norms import FrozenBatchNorm2d
from resnet_backbone.weights.files import read_weights, write_weights
from resnet_backbone.weights.load import load_weights
from resnet_backbone.weights.record import WeightRecord

CONFIG = Path(__file__).parents[1] / "configs" / "faster_rcnn_R18_coco.yaml"
NARROW = {"stem_out_channels": 8, "res2_out_channels": 8}
RECORD = WeightRecord(
    "resnet_backbone", "made", "resnet18", input_size=64, resize=72, num_classes=3, top1=71.0,
    channel_order="BGR", mean=(103.53, 116.28, 123.675), std=(1.0, 2.0, 4.0),
)  # fmt: skip

OLD = "accuracy measured on 5 validation images of a", "batch norms: mean and variance over the 9 training images"


@pytest.fixture
def images(tmp_path):
    """Ten below imagenet/train, and what is not to be looked at beside them."""
    rng = np.random.default_rng(0)
    for k in range(12):
        where = ("val/a", ".b.part")[k - 10] if k >= 10 else f"train/{'abc'[k % 3]}"
        path = tmp_path / "imagenet" / ("train" if k == 11 else "") / where / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 25 * (k + 1) % 256, (10, 12, 3), np.uint8)
        Image.fromarray(noise).resize((96 + k, 80)).save(path)
    return tmp_path / "imagenet"


@pytest.fixture
def weights(tmp_path):
    net = rb.build("resnet18", num_classes=3, **NARROW)
    randomize_statistics(net)
    return write_weights(tmp_path / "averages.safetensors", net.state_dict(), replace(RECORD, notes=OLD))


@torch.no_grad()
def whole_set(images) -> torch.Tensor:
    """As torchvision crops it, BGR, mean and deviation by hand."""
    crop = transforms.Compose([transforms.Resize(72), transforms.CenterCrop(64), transforms.PILToTensor()])
    files = [path for path in images.glob("train/[abc]/*.png")]
    pixels = torch.stack([crop(Image.open(path)) for path in files]).double().flip(1)
    return (pixels - torch.tensor(RECORD.mean).view(3, 1, 1)) / torch.tensor(RECORD.std).view(3, 1, 1)


@torch.no_grad()
def test_they_are_the_training_sets(images, weights, tmp_path, capsys):
    output = tmp_path / "detector.safetensors"
    words = ["weights", "recompute-norms", str(weights), str(output), "--images", str(images), "--workers", "0"]
    assert main([*words, "--device", "cpu"]) == 0
    said = "batch norms: mean and variance over 10 images of imagenet, central crop"
    assert said in capsys.readouterr().out
    before, after = read_weights(weights), read_weights(output)
    note = (said,)
    assert replace(after.record, sha256=None) == replace(before.record, top1=None, notes=note, sha256=None)
    nets = [rb.build("resnet18", num_classes=3, **NARROW, weights=path).double() for path in (weights, output)]
    x = whole_set(images)
    torch.testing.assert_close(nets[1].eval()(x), nets[0].train()(x), rtol=1e-4, atol=1e-5)
    changed = {key for key in before.state if not torch.equal(before.state[key], after.state[key])}
    assert changed == {key for key in before.state if "running_" in key or "tracked" in key}


def test_a_detector_is_frozen_with_exactly_these(images, weights, tmp_path):
    output = tmp_path / "detector.pth"
    words = ["weights", "recompute-norms", str(weights), str(output), "--images", str(images), "--workers", "0"]
    assert main([*words, "--batch", "4", "--count", "9", "--device", "cpu"]) == 0
    pairs = {"STEM_OUT_CHANNELS": 8, "RES2_OUT_CHANNELS": 8}
    words = [word for key, value in pairs.items() for word in (f"MODEL.RESNETS.{key}", str(value))]
    cfg = read_config(CONFIG, ["MODEL.WEIGHTS", str(output), "MODEL.DEVICE", "cpu", *words]).cfg
    rb.prepare(cfg)
    detector = build_detector(cfg)
    load_weights(detector, cfg.MODEL.WEIGHTS, fine_tune=True)
    state = read_weights(output).state
    frozen = {n: m for n, m in detector.backbone.bottom_up.named_modules() if isinstance(m, FrozenBatchNorm2d)}
    assert len(frozen) == 20
    for name, norm in frozen.items():
        for key, value in norm.state_dict().items():
            assert torch.equal(value, state[f"{name}.{key}"]), (name, key)
    assert cfg.INPUT.FORMAT == "BGR" and cfg.MODEL.PIXEL_STD == [1.0, 2.0, 4.0]


def test_ctrl_c_is_one_word(images, weights, tmp_path, capsys, monkeypatch):
    def interrupted(*_) -> None:
        raise KeyboardInterrupt  # a signal is ignored where the tests were started in the background

    monkeypatch.setattr(recompute, "recompute_statistics", interrupted)
    words = ["weights", "recompute-norms", str(weights), str(tmp_path / "a.pth"), "--images", str(images)]
    assert main([*words, "--workers", "0", "--device", "cpu"]) == 130
    assert capsys.readouterr().err.strip().splitlines()[-1] == "interrupted"


@torch.no_grad()
def test_affine_only_norms_get_statistics_and_answer_as_before(images, weights, tmp_path):
    state = {key: value for key, value in read_weights(weights).state.items() if "running_" not in key}
    affine, output = tmp_path / "affine.pth", tmp_path / "detector.safetensors"
    write_weights(affine, state, replace(RECORD, notes=("batch norms are affine only: mean 0, variance 1",)))
    words = ["weights", "recompute-norms", str(affine), str(output), "--images", str(images), "--workers", "0"]
    assert main([*words, "--device", "cpu", "--batch", "4"]) == 0
    record = read_weights(output).record
    assert record.top1 == 71 and record.notes == (
        "batch norms: mean and variance over 10 images of imagenet, central crop",
    )
    nets = [rb.build("resnet18", num_classes=3, **NARROW, weights=path).double() for path in (affine, output)]
    x = whole_set(images)
    expected = nets[0].eval()(x)
    torch.testing.assert_close(nets[1].eval()(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(nets[1].train()(x), expected, rtol=1e-4, atol=1e-5)  # a training finds it as it is
    assert not torch.allclose(nets[0].train()(x), expected, rtol=0.1)


def test_what_cannot_be_computed_is_one_sentence(images, weights, tmp_path, capsys):
    def said(source=weights, output="out.pth", folder=images, *more: str) -> str:
        words = ["weights", "recompute-norms", str(source), str(tmp_path / output), "--images", str(folder)]
        assert main([*words, "--workers", "0", "--device", "cpu", *more]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and not (tmp_path / output).exists()
        return error

    assert "write .safetensors or .pth, not '.bin'" in said(output="out.bin")
    assert "0 images there; give a folder of training images" in said(folder=tmp_path / "none")
    assert "--count 1: at least 2, 0 and 2" in said(weights, "out.pth", images, "--count", "1")
    state = read_weights(weights).state
    backbone = {key: value for key, value in state.items() if not key.startswith("linear")}
    write_weights(tmp_path / "backbone.pth", backbone, replace(RECORD, num_classes=None))
    assert "no classifier (only a backbone)" in said(tmp_path / "backbone.pth")
    (images / "train/a/0.png").write_bytes(b"nothing")
    assert "0.png: not an image" in said()
