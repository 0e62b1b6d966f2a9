"""verify, deepen, convert and show: on networks whose answer is known, and on the real ones."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
import torchvision
from detectron2.config import get_cfg
from PIL import Image
from scipy.stats import binomtest
from test_models import randomize_statistics
from test_weights_load import saved

import resnet_backbone as rb
from resnet_backbone.cli import main
from resnet_backbone.weights.deepen import deepen
from resnet_backbone.weights.files import read_weights, write_weights
from resnet_backbone.weights.record import WeightRecord
from resnet_backbone.weights.verify import Hypothesis, labelled_images, paired_p, verify


@pytest.mark.parametrize(("small", "large"), [("resnet18", "resnet34"), ("resnet50", "resnet101")])
@torch.no_grad()
def test_deepened_networks_compute_the_same(tmp_path, small, large):
    theirs = torchvision.models.get_model(small, weights=None).eval()
    randomize_statistics(theirs)
    path = tmp_path / "large.safetensors"
    record = deepen(saved(theirs, tmp_path / "small.pth"), path, large)
    net = rb.build(large, num_classes=1000, weights=path).eval()
    image = torch.randn(2, 3, 64, 64)
    expected = theirs(image)
    assert (net(image) - expected).norm() <= 1e-5 * expected.norm()
    assert any("not trained as a" in note for note in record.notes)
    assert read_weights(path).record.variant == large


@torch.no_grad()
def test_narrow_networks_with_group_norm_are_shown_and_grown_as_what_they_are(tmp_path, capsys):
    narrow = {"stem_out_channels": 8, "res2_out_channels": 32, "norm": "GN"}
    net = rb.build("resnet18", num_classes=3, **narrow).eval()
    source = write_weights(
        tmp_path / "a.safetensors", net.state_dict(), WeightRecord("resnet_backbone", "made", "resnet18", norm="GN")
    )
    assert main(["weights", "show", str(source)]) == 0
    assert f"resnet18: {sum(p.numel() for p in net.parameters()):,} parameters" in capsys.readouterr().out
    deepen(source, tmp_path / "b.safetensors", "resnet34")
    grown = rb.build("resnet34", num_classes=3, **narrow, weights=tmp_path / "b.safetensors").eval()
    image = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(grown(image), net(image))


@torch.no_grad()
def test_norms_that_are_affine_only_stay_so(tmp_path):
    net = rb.build("resnet18", num_classes=3, norm="FrozenBN").eval()
    for module in net.modules():
        if type(module).__name__.startswith("Frozen"):
            module.weight.uniform_(0.5, 1.5), module.bias.uniform_(-0.5, 0.5)
    state = {key: value for key, value in net.state_dict().items() if "running" not in key}
    source = write_weights(tmp_path / "a.safetensors", state, WeightRecord("resnet_backbone", "made", "resnet18"))
    deepen(source, tmp_path / "b.safetensors", "resnet34")
    assert not any("running" in key for key in read_weights(tmp_path / "b.safetensors").state)
    small, large = (
        rb.build(name, num_classes=3, norm="FrozenBN", weights=tmp_path / file).eval()
        for name, file in (("resnet18", "a.safetensors"), ("resnet34", "b.safetensors"))
    )
    image = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(large(image), small(image))


def test_sentences_name_the_file_that_was_asked_for(tmp_path):
    """And not what its record says that it was made by, which many files share."""
    net, path = rb.build("resnet50", num_classes=3), tmp_path / "mine.safetensors"
    record = WeightRecord("resnet_backbone", "the tool, seed 0", "resnet50", stride_in_1x1=True, channel_order="BGR")
    write_weights(path, net.state_dict(), record)
    report = rb.load_weights(net, path)
    assert f"tensors from {path} (the tool, seed 0)\n" in str(report) and report.record.source == "the tool, seed 0"
    with pytest.raises(rb.WeightsError, match=f"^{path}: its record says stride_in_1x1=True"):
        rb.build("resnet50", num_classes=3, stride_in_1x1=False, weights=path)
    with pytest.raises(rb.WeightsError, match=f"^{path}: another network than the one it is for"):
        rb.load_weights(rb.build("resnet101", num_classes=3), path)
    with pytest.raises(rb.WeightsError, match=f"the weights {path} expect BGR: set INPUT.FORMAT to BGR"):
        cfg = get_cfg()
        cfg.MODEL.WEIGHTS, cfg.INPUT.FORMAT = str(path), "RGB"
        rb.prepare(cfg)


def test_added_blocks_learn_though_a_detector_freezes_their_norms(tmp_path):
    path = tmp_path / "large.safetensors"
    deepen(saved(torchvision.models.resnet18(), tmp_path / "small.pth"), path, "resnet34")
    net = rb.build("resnet34", out_features=("res5",), norm="FrozenBN", weights=path)
    net(torch.randn(1, 3, 64, 64))["res5"].square().sum().backward()
    assert net.res4[5].conv2.weight.grad.abs().max() > 0


@pytest.mark.parametrize("to", ["resnet50", "resnet18", "vgg16", "cifar_resnet56"])
def test_what_cannot_grow_is_one_sentence(tmp_path, to):
    source = saved(torchvision.models.resnet34(), tmp_path / "w.pth")
    with pytest.raises(rb.WeightsError, match=f"does not grow into {to}"):
        deepen(source, tmp_path / "o.pth", to)


def test_convert_and_show_by_the_command_line(tmp_path, capsys):
    theirs = torchvision.models.resnet18()
    source = saved(theirs, tmp_path / "w.pth")
    assert main(["weights", "convert", str(source), str(tmp_path / "ours.safetensors")]) == 0
    back = tmp_path / "back.safetensors"
    assert main(["weights", "convert", str(tmp_path / "ours.safetensors"), str(back), "--to", "torchvision"]) == 0
    state = read_weights(back).state
    assert state.keys() == theirs.state_dict().keys()
    assert all(torch.equal(state[k], v) for k, v in theirs.state_dict().items())
    capsys.readouterr()
    assert main(["weights", "show", str(source)]) == 0
    shown = capsys.readouterr().out
    assert "resnet18: 11,689,512 parameters, 1,814,073,344 multiply-adds at 224" in shown and "ASSUMED" in shown


def test_command_line_errors_are_one_line(tmp_path, capsys):
    assert main(["weights", "show", str(tmp_path / "none.pth")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "no such file" in error and error.count("\n") == 1


@pytest.mark.parametrize(("a", "b"), [(0, 0), (9, 1), (30, 10), (3, 3)])
def test_paired_test_is_the_exact_binomial(a, b):
    ours = paired_p(np.array([True] * a + [False] * b + [True] * 5), np.array([False] * a + [True] * b + [True] * 5))
    assert ours == pytest.approx(binomtest(a, a + b).pvalue if a + b else 1.0)


@pytest.fixture
def colour_classifier(tmp_path):
    """Red, green and blue images, and a network that tells them apart only in BGR, mean alone."""
    images = tmp_path / "images"
    images.mkdir()
    rng, lines = np.random.default_rng(0), []
    for i in range(30):
        pixels = rng.integers(90, 130, (64, 64, 3))
        pixels[..., i % 3] += 60
        Image.fromarray(pixels.astype(np.uint8)).save(images / f"{i} x.png")
        lines.append(f"{i} x.png {i % 3}")
    (images / "labels.txt").write_text("\n".join(lines))
    net = rb.build("resnet18", num_classes=3)
    state = net.state_dict()
    for key in state:  # the stem passes channel sums on; every block is its shortcut
        if key.endswith(("conv1.weight", "conv2.weight", "shortcut.weight", "linear.weight")):
            state[key].zero_()
    for c in range(3):
        state["stem.conv1.weight"][c, c] = 0.01
        state["linear.weight"][2 - c, c] = 1.0  # input channel 0 is blue: class 2
        for stage in ("res3", "res4", "res5"):
            state[f"{stage}.0.shortcut.weight"][c, c] = 1.0
    record = WeightRecord("resnet_backbone", "colours", "resnet18", input_size=32, resize=32, num_classes=3)
    return write_weights(tmp_path / "colours.safetensors", state, record), images


def test_verify_finds_the_channel_order_and_says_what_it_cannot_tell(colour_classifier):
    path, images = colour_classifier
    report = verify(path, images, screen=None)
    right = {row.hypothesis: row.correct for row in report.rows}
    assert right[Hypothesis("BGR", "mean alone", None)] == 30
    assert right[Hypothesis("RGB", "mean alone", None)] == 10  # green alone
    assert report.rows[0].hypothesis.channel_order == "BGR"
    assert report.winner is None and "cannot be told apart" in str(report)


@pytest.mark.parametrize(
    ("labels", "message"),
    [("a.png zero\n", "labels.txt:1"), ("none.png 3\n", "no image"), (None, "neither labels.txt")],
)
def test_wrong_labels_are_one_sentence(tmp_path, labels, message):
    if labels is not None:
        (tmp_path / "labels.txt").write_text(labels)
    with pytest.raises(ValueError, match=message):
        labelled_images(tmp_path)


def test_verify_takes_the_folder_of_val_and_no_other_number_of_classes(colour_classifier, tmp_path, capsys):
    """train/ and val/ were two classes, and missing classes gave all others wrong labels."""
    path, images = colour_classifier
    root = tmp_path / "folders"
    for line in (images / "labels.txt").read_text().splitlines():
        name, _, label = line.rpartition(" ")
        for split in ("train", "val"):
            (root / split / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(images / name, root / split / label)
    assert verify(path, root, screen=None).rows == verify(path, images, screen=None).rows
    assert main(["weights", "verify", str(path), "--images", str(root), "--limit", "0"]) == 1
    assert "--limit 0: at least 1 image" in capsys.readouterr().err
    shutil.rmtree(root / "val" / "1")
    assert main(["weights", "verify", str(path), "--images", str(root / "val")]) == 1
    assert "3 classes, but the images lie in 2 class folders; give all" in capsys.readouterr().err


def test_verify_on_the_real_resnet18_writes_its_record(real_data, tmp_path, capsys):
    """The command on 100 real images: winner, sidecar, and the sidecar believed afterwards."""
    path = tmp_path / "unknown.pth.xz"
    shutil.copy(real_data / "weights" / "resnet18_pqf_fp16.pth.xz", path)
    images = str(real_data / "imagenet_val")
    assert main(["weights", "verify", str(path), "--images", images, "--limit", "100"]) == 0
    out = capsys.readouterr().out
    assert "expects RGB, mean and deviation" in out and "record written to" in out
    record = read_weights(path).record
    assert not record.assumed and record.channel_order == "RGB" and record.std == pytest.approx((58.395, 57.12, 57.375))
