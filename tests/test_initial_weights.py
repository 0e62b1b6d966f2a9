"""Classifiers that start from weights that are there: loaded whole, with a head that fits, or refused in a sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torchvision
from made_cifar import CIFAR, write_cifar
from made_pretraining import SMALL, TOOL, metrics, options, tool, write_stripes
from made_tools import exit_code
from test_models import randomize_statistics

import resnet_backbone as rb
from resnet_backbone.classification.training.classifier import build_classifier
from resnet_backbone.classification.training.initial import load_initial
from resnet_backbone.cli import main
from resnet_backbone.weights.files import read_weights

SHORT = replace(SMALL, epochs=None, iterations=2, save_every=2.0, test_every=0.0, exact_norm_images=0)
WIDE = replace(SHORT, stem_out_channels=None, res2_out_channels=None)
HEAD = "linear.weight", "linear.bias"
EVAL = TOOL.with_name("eval_imagenet.py")


@pytest.fixture
def torchvisions(tmp_path):
    """A file of torchvision's ResNet-18 for three classes, and the network."""
    network = torchvision.models.resnet18(num_classes=3).eval()
    randomize_statistics(network)
    torch.save(network.state_dict(), tmp_path / "theirs.pth")
    return tmp_path / "theirs.pth", network


@pytest.fixture
def own(tmp_path, folders):
    """Weights that a run on two classes has left."""
    assert tool(options(tmp_path / "first", SHORT, folders)) == 0
    return tmp_path / "first/model.safetensors"


def test_torchvisions_weights_answer_as_torchvisions_network(torchvisions):
    path, theirs = torchvisions
    ours = build_classifier(replace(WIDE, weights=str(path)), 3).eval()
    load_initial(ours, replace(WIDE, weights=str(path)))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


def test_a_fresh_head_is_drawn_and_the_rest_is_not(torchvisions):
    path, theirs = torchvisions
    for classes in (3, 5):  # as many classes may be others
        config = replace(WIDE, weights=str(path), fresh_head=True)
        ours = build_classifier(config, classes).eval()
        drawn = ours.linear.weight.clone()
        load_initial(ours, config)
        assert torch.equal(ours.linear.weight, drawn) and torch.equal(ours.stem.conv1.weight, theirs.conv1.weight)
        assert torch.equal(ours.get_parameter("res5.1.conv2.weight"), theirs.layer4[1].conv2.weight)


def test_a_run_begins_with_the_weights_and_so_does_their_average(tmp_path, folders, own):
    config = replace(SHORT, weights=str(own), rate_per_256=1e-12, weight_decay=0.0, ema=0.9)
    assert tool(options(tmp_path / "second", config, folders)) == 0
    before, after = read_weights(own), read_weights(tmp_path / "second/model.safetensors")
    for name in before.state:
        if "running_" not in name and "num_batches" not in name:
            torch.testing.assert_close(after.state[name], before.state[name], rtol=0, atol=1e-8)
    assert f"started from {own}" in after.record.notes


def test_cifar_networks_of_others_are_trained_on_as_they_pad(tmp_path, capfd):
    data = write_cifar(tmp_path / "cifar.npz")
    small = replace(CIFAR, iterations=2, mean_image=False, mean=SMALL.mean, std=SMALL.std, schedule="cosine")
    first = replace(small, pad_before=True)
    assert tool(options(tmp_path / "first", first, data)) == 0
    own = tmp_path / "first/model.safetensors"
    assert read_weights(own).record.pad_before
    second = replace(first, weights=str(own), rate_per_256=1e-12, weight_decay=0.0)
    assert tool(options(tmp_path / "second", second, data)) == 0
    one, other = (rb.build("cifar_resnet8", num_classes=10, weights=tmp_path / run / "model.safetensors").eval()
                  for run in ("first", "second"))  # fmt: skip
    assert one.config.pad_before and other.config.pad_before
    capfd.readouterr()
    assert tool(options(tmp_path / "third", replace(small, weights=str(own)), data)) == 1
    assert "build it with pad_before=True" in capfd.readouterr().err
    assert tool(options(tmp_path / "fourth", replace(first, shortcut="B"), data)) == 1
    assert "pad_before: cifar_resnet8 has no shortcut of option A, which alone pads" in capfd.readouterr().err


def test_other_classes_than_the_heads_are_refused_and_a_fresh_head_takes_them(tmp_path, own, capfd):
    data = write_stripes(tmp_path / "more")
    for split in ("train", "val"):
        (data / split / "third").mkdir()
        for file in (data / split / "down").iterdir():
            (data / split / "third" / file.name).write_bytes(file.read_bytes())
    chosen = options(tmp_path / "second", replace(SHORT, weights=str(own)), data)
    assert tool(chosen) == 1
    assert (
        f"error: weights: {own} tells 2 classes apart, the data have 3; fresh_head true draws the last layer anew"
        in capfd.readouterr().err
    )
    assert not (tmp_path / "second/last.pth").exists()
    assert tool(chosen, "--check") == 1
    assert "tells 2 classes apart" in capfd.readouterr().out
    assert tool(chosen, "fresh_head", "true") == 0
    assert read_weights(tmp_path / "second/model.safetensors").record.num_classes == 3


def test_classes_of_other_names_are_refused_where_the_head_is_kept(tmp_path, own, folders, capfd):
    """As many classes in another order of names have other labels."""
    for split in ("train", "val"):
        (folders / split / "down").rename(folders / split / "aslant")
    chosen = options(tmp_path / "second", replace(SHORT, weights=str(own)), folders)
    assert tool(chosen) == 1
    said = capfd.readouterr().err
    assert f"error: weights: the classes of {own} have 'down' where these have 'aslant'" in said
    assert tool(chosen, "fresh_head", "true") == 0
    made = tmp_path / "second/model.safetensors"
    assert read_weights(made).record.classes == ("across", "aslant") and read_weights(own).record.classes[1] == "down"
    capfd.readouterr()
    words = "--data", str(folders), "--workers", "0", "--weights"
    assert exit_code(EVAL, *words, str(made)) == 0
    assert exit_code(EVAL, *words, str(own)) == 1
    assert f"error: {own}: its classes have 'down' where these have 'aslant'; give images" in capfd.readouterr().err
    assert main(["weights", "show", str(made)]) == 0
    assert "classes       across, aslant\n" in capfd.readouterr().out


def test_a_run_that_is_gone_on_with_needs_them_no_more(tmp_path, folders, own):
    chosen = options(tmp_path / "second", replace(SHORT, weights=str(own)), folders)
    assert tool(chosen) == 0
    own.unlink()
    before = metrics(tmp_path / "second")
    assert tool(replace(chosen, resume=True)) == 0 and metrics(tmp_path / "second")[: len(before)] == before
    assert tool(replace(chosen, overwrite=True)) == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"mean": (0.0, 0.0, 0.0)}, r"mean is \[0.0, 0.0, 0.0\], but weights .* with mean \[123.675, 116.28, 103.53\]"),
        ({"norm_eps": 1e-3}, "eps 1e-05 in batch norm, the network was built with 0.001"),
        ({"network": "resnet34"}, "another network than the one it is for"),
        ({"res2_out_channels": 16}, "another network than the one it is for"),
    ],
)
def test_what_does_not_fit_is_refused(torchvisions, changed, said):
    path, _ = torchvisions
    config = replace(WIDE, weights=str(path), **changed)
    network = build_classifier(config, 3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=said):
        load_initial(network, config)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_refusal_names_the_file_and_not_the_run_that_wrote_it(own):
    config = replace(WIDE, weights=str(own))
    with pytest.raises(ValueError, match="^" + str(own) + ": tensors of another shape"):
        load_initial(build_classifier(config, 2), config)


def test_a_detector_or_a_backbone_is_no_classifier(tmp_path, torchvisions):
    _, theirs = torchvisions
    state = theirs.state_dict()
    torch.save({key: value for key, value in state.items() if not key.startswith("fc.")}, tmp_path / "backbone.pth")
    config = replace(WIDE, weights=str(tmp_path / "backbone.pth"))
    with pytest.raises(ValueError, match="has no last layer; fresh_head true draws the last layer anew"):
        load_initial(build_classifier(config, 3), config)
    load_initial(build_classifier(config, 3), replace(config, fresh_head=True))
    detector = torchvision.models.detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None)
    torch.save(detector.state_dict(), tmp_path / "detector.pth")
    config = replace(WIDE, weights=str(tmp_path / "detector.pth"))
    with pytest.raises(ValueError, match="is a detector; a classifier starts from a classifier's weights"):
        load_initial(build_classifier(config, 3), config)


@pytest.mark.parametrize("filled", [False, True], ids=["none", "as a frozen norm was filled"])
def test_norms_without_statistics_are_refused_with_the_command_that_gives_them(tmp_path, torchvisions, folders, filled):
    _, theirs = torchvisions
    torch.save({k: v for k, v in theirs.state_dict().items() if "running_" not in k}, tmp_path / "affine.pth")
    if filled:
        frozen = rb.build("resnet18", num_classes=3, norm="FrozenBN", weights=tmp_path / "affine.pth")
        torch.save(frozen.state_dict(), tmp_path / "affine.pth")
    config = replace(WIDE, weights=str(tmp_path / "affine.pth"), data=str(folders))
    with pytest.raises(
        ValueError, match="its batch norms are affine only, which a training's first step would undo"
    ) as e:
        load_initial(build_classifier(config, 3), config)
    command = str(e.value).split("`")[1].replace("OUT", str(tmp_path / "given")).split()
    assert main([*command[1:], "--batch", "8", "--workers", "0", "--device", "cpu"]) == 0
    config = replace(config, weights=str(tmp_path / "given.safetensors"))
    load_initial(build_classifier(config, 3), config)


def test_a_fresh_head_without_weights_is_refused():
    with pytest.raises(ValueError, match="fresh_head: true, but there are no weights to start from"):
        replace(SHORT, fresh_head=True)
