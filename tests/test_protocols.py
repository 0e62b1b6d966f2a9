"""One crop, ten crops, several scales: against torchvision's crops, and plain loops over windows and views."""

from __future__ import annotations

import csv
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from resnet_backbone.classification.data.splits import Array
from resnet_backbone.classification.testing.answers import Answers
from resnet_backbone.classification.testing.compare import EvalOptions, compare
from resnet_backbone.classification.testing.images import LabelledImages, find_images
from resnet_backbone.classification.testing.protocols import probabilities, protocol
from resnet_backbone.classification.testing.testing import load_classifier, run_protocol
from resnet_backbone.images.transforms import normalise
from resnet_backbone.models.build import build_network
from resnet_backbone.weights.files import write_weights
from resnet_backbone.weights.record import WeightRecord

TOOL = Path(__file__).parents[1] / "tools" / "eval_imagenet.py"
NARROW = {"stem_out_channels": 8, "res2_out_channels": 8}
RECORD = WeightRecord("resnet_backbone", "made", "resnet18", input_size=64, resize=72, num_classes=3)


def network(seed: int = 0, **options):
    torch.manual_seed(seed)
    net = build_network("resnet18", num_classes=3, **NARROW, **options)
    torch.nn.init.normal_(net.linear.weight)  # answers that differ from image to image
    return net.eval()


def picture(seed: int, size: tuple[int, int] = (90, 75)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 8 + 1, size[0] // 8 + 1, 3), np.uint8)
    return Image.fromarray(noise).resize(size)


@pytest.mark.parametrize(("name", "size"), [("resnet18", 224), ("cifar_resnet20", 32), ("vgg16", 224)])
def test_the_convolutional_form_has_one_place_at_the_usual_size(name, size):
    net = build_network(name, num_classes=5).eval()
    x = torch.randn(1, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(net.score_map(x)[:, :, 0, 0], net(x), rtol=1e-4, atol=1e-5)
        assert net.score_map(x).shape == (1, 5, 1, 1)
        assert net.classify_everywhere(torch.randn(1, *_last(net), 9, 8)).shape[2:] == (9 - 6, 8 - 6) or size == 32


def _last(net):
    return (512,) if net.variant.family != "cifar" else (64,)


@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_every_place_is_the_classifier_on_its_window(name):
    net = build_network(name, num_classes=4).eval()
    features = torch.randn(1, 512, 8, 9)
    with torch.no_grad():
        scores = net.classify_everywhere(features)
        for y in range(2):
            for x in range(3):
                alone = net.classify(features[:, :, y : y + 7, x : x + 7])
                torch.testing.assert_close(scores[:, :, y, x], alone, rtol=1e-4, atol=1e-5)


def test_ten_crops_are_torchvisions():
    image = picture(0)
    theirs = transforms.TenCrop(64)(transforms.Resize(72)(image))
    ours = protocol("10-crop").views(image, RECORD)
    # In another order: it mirrors the image and then crops.
    assert sorted(one.permute(1, 2, 0).numpy().tobytes() for one in ours) == sorted(
        np.asarray(other).tobytes() for other in theirs
    )
    (single,) = protocol("1-crop").views(image, RECORD)
    assert np.array_equal(single, ours[4])


def test_several_scales_see_the_whole_image_and_its_mirror():
    image = picture(1)
    views = protocol("multi-scale", [48, 96]).views(image, RECORD)
    assert [tuple(view.shape) for view in views] == [(3, 48, 57), (3, 48, 57), (3, 96, 115), (3, 96, 115)]
    assert torch.equal(views[0].flip(2), views[1])
    assert np.array_equal(views[2].permute(1, 2, 0), np.asarray(transforms.Resize(96)(image)))


@pytest.mark.parametrize("name", ["10-crop", "multi-scale"])
@pytest.mark.parametrize("batch", [1, 7])
def test_probabilities_are_means_over_views(name, batch):
    net, chosen = network(), protocol(name, [64, 96])
    views = [chosen.views(picture(k, (90 - 5 * k, 75)), RECORD) for k in range(3)]
    found = probabilities(net, RECORD, views, chosen.everywhere, batch=batch)
    for row, of_image in zip(found, views):
        alone = []
        for view in of_image:
            x = normalise(view[None], RECORD.mean, RECORD.std)
            with torch.no_grad():
                alone.append((net.score_map(x).mean((2, 3)) if chosen.everywhere else net(x)).softmax(1)[0])
        torch.testing.assert_close(row, torch.stack(alone).mean(0), rtol=1e-5, atol=1e-6)
        assert row.sum() == pytest.approx(1, abs=1e-5) and row.max() < 0.999


def test_counting_by_hand():
    labels = np.array([0, 0, 1, 2])
    images = LabelledImages(Array(np.zeros((4, 3, 1, 1), np.uint8), labels, "made"), np.arange(4), tuple("xyz"))
    found = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.2, 0.7, 0.1], [0.5, 0.5, 0.0]], np.float32)
    answers = Answers(images, found, labels)
    assert answers.accuracy().top1 == 2 and answers.accuracy().top5 is None
    six = np.eye(6, dtype=np.float32)[[0, 0]] + np.arange(6, dtype=np.float32) / 100
    right = Answers(images, six, np.array([0, 1])).accuracy()
    assert (right.top1, right.top5) == (1, 1)
    assert answers.class_errors() == [("z", 1, 1), ("x", 2, 1), ("y", 1, 0)]
    assert answers.confusions() == [("x", "y", 1), ("z", "x", 1)]


@pytest.fixture
def tested(tmp_path):
    """Three classes of four pictures each, and two networks."""
    for k in range(12):
        path = tmp_path / "data" / "val" / "abc"[k % 3] / f"{k:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(k).save(path)
    for seed in (0, 1):
        write_weights(tmp_path / f"net{seed}.safetensors", network(seed).state_dict(), RECORD)
    return tmp_path


def test_an_ensemble_is_the_mean_of_its_networks(tested):
    weights = tuple(str(tested / f"net{seed}.safetensors") for seed in (0, 1))
    said: list[str] = []
    compare(EvalOptions(weights, tested / "data", ("1-crop", "10-crop"), output=tested / "out", batch=3), said.append)
    images = find_images(tested / "data")
    assert images.classes == ("a", "b", "c") and images.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    each = [run_protocol(*load_classifier(w, images), images, protocol("10-crop")).found for w in weights]
    mean = np.mean(each, axis=0)
    errors = 100 - 100 * np.mean(mean.argmax(1) == images.labels)
    assert f"all together  10-crop      {errors:>9.2f} %" in "\n".join(said)
    with open(tested / "out" / "all-together-10-crop-answers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["answer"] for row in rows] == ["abc"[k] for k in mean.argmax(1)]
    assert float(rows[0]["probability"]) == pytest.approx(mean[0].max(), abs=1e-4)
    assert sorted(p.name for p in (tested / "out").iterdir())[0] == "all-together-1-crop-answers.csv"


def test_what_cannot_be_tested_is_one_sentence(tested):
    weights = str(tested / "net0.safetensors")

    def said(chosen: str = weights, **more) -> str:
        with pytest.raises(ValueError) as caught:
            compare(EvalOptions((chosen,), **{"data": tested / "data", **more}), lambda _: None)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "protocol '5-crop': use 1-crop, 10-crop or multi-scale" in said(protocols=("5-crop",))
    assert "scales [16]" in said(protocols=("multi-scale",), scales=(16,))
    assert "no such folder or archive; --data takes class folders, tar shards" in said(data=tested / "out")
    (tested / "empty").mkdir()
    assert "neither labels.txt nor class folders" in said(data=tested / "empty")
    assert "--limit 0" in said(limit=0)
    assert f"{weights} is a file and no folder; choose another folder" in said(output=tested / "net0.safetensors")
    backbone = {k: v for k, v in network().state_dict().items() if not k.startswith("linear")}
    write_weights(tested / "backbone.safetensors", backbone, RECORD)
    assert "there is no classifier (only a backbone)" in said(str(tested / "backbone.safetensors"))
    (tested / "data" / "val" / "d").mkdir()
    picture(1).save(tested / "data" / "val" / "d" / "1.png")
    assert "3 classes, but the images lie in 4 class folders" in said()
    (tested / "data" / "val" / "labels.txt").write_text("a/00.png 7\n")
    assert "an image has the label 7" in said()
    (tested / "data" / "val" / "labels.txt").write_text("a/00.png 1\n")
    (tested / "data" / "val" / "a" / "00.png").write_bytes(b"nothing")
    assert "00.png: not an image" in said()
    assert "00.png: not an image" in said(workers=1)


def test_the_tool(tested, monkeypatch, capsys):
    words = ["--weights", str(tested / "net0.safetensors"), "--data", str(tested / "data"), "--workers", "0"]
    monkeypatch.setattr(sys, "argv", [str(TOOL), *words, "--limit", "6"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert left.value.code == 0 and "6 images of 3 classes" in capsys.readouterr().out
    help_ = subprocess.run([sys.executable, str(TOOL), "--help"], capture_output=True, text=True, check=True).stdout
    assert "examples:" in help_ and "multi-scale" in help_
