"""What a run was trained on is what its weights are tested on: the same error to the image, whatever the layout."""

from __future__ import annotations

import csv
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_cifar import CIFAR
from made_pretraining import SMALL, metrics, write_stripes
from made_shards import serving
from made_tools import exit_code
from test_cifar import FINE, LABELS, TEN, TEST, TRAIN, hundred_binary, hundred_python, ten_binary, ten_python

import resnet_backbone as rb
from resnet_backbone.classification.prepare.prepare import PrepareOptions, prepare
from resnet_backbone.classification.testing.images import find_images
from resnet_backbone.classification.training.train import pretrain

TOOL = Path(__file__).parents[1] / "tools" / "eval_imagenet.py"


def evaluate(weights: Path, data: Path | str, *words: str) -> int:
    """The tool in this process, to its exit code."""
    return exit_code(TOOL, "--weights", str(weights), "--data", str(data), "--device", "cpu", *words)


def answers(folder: Path) -> list[list[str]]:
    """Rows of file, class, answer and probability."""
    (path,) = folder.glob("*-answers.csv")
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.fixture(scope="module")
def cifar_run(tmp_path_factory):
    """A finished run on CIFAR-10's binary files in miniature, and the folder that holds them."""
    root = tmp_path_factory.mktemp("cifar")
    config = replace(CIFAR, iterations=12, steps=(10.0,), test_every=0.0, save_every=0.0)
    pretrain(config, ten_binary(root), root / "run")
    return root / "run", root


def layouts(root: Path, binary: Path) -> list[Path]:
    """The same images in every layout."""
    with tarfile.open(root / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(binary, binary.name)
    arrays = {"x_train": TRAIN, "y_train": LABELS[10][0], "x_test": TEST, "y_test": LABELS[10][1]}
    np.savez(root / "c.npz", **arrays)
    return [binary, binary.parent, root / "cifar-10-binary.tar.gz", root / "c.npz", ten_python(root)]


def test_cifar_in_any_layout_gives_the_error_of_the_run(cifar_run, tmp_path, capsys):
    run, root = cifar_run
    last = metrics(run)[-1]
    expected = f"run       1-crop       {last['val/error']:>9.2f} %  {last['val/error5']:>9.2f} %"
    for data in layouts(tmp_path, root / "cifar-10-batches-bin"):
        words = ["--workers", "0", "--output", str(tmp_path / "tables")]
        assert evaluate(run / "model.safetensors", data, *words) == 0
        said = capsys.readouterr().out
        assert "20 images of 10 classes" in said and expected.split() == said.splitlines()[2].split(), data
    rows = answers(tmp_path / "tables")
    network = rb.build("cifar_resnet8", num_classes=10, weights=run / "model.safetensors").eval()
    with torch.no_grad():
        by_hand = network(torch.from_numpy(TEST).float() / 255).argmax(1)  # mean 0, std 255, untouched
    assert len(set(by_hand.tolist())) > 1, by_hand
    assert [row[:3] for row in rows] == [[f"test/{k}", TEN[k % 10], TEN[by_hand[k]]] for k in range(20)]


def test_a_few_images_of_cifar_are_spread_over_the_test_set(cifar_run, tmp_path):
    run, root = cifar_run
    words = ["--limit", "3", "--protocols", "10-crop", "--output", str(tmp_path / "out")]
    assert evaluate(run / "model.safetensors", root, *words) == 0
    assert [row[0] for row in answers(tmp_path / "out")] == ["test/0", "test/10", "test/19"]


@pytest.mark.parametrize("write", [hundred_binary, hundred_python])
def test_of_cifar_100_the_fine_classes_of_the_test_images_are_tested(tmp_path, write):
    found = find_images(write(tmp_path))
    assert found.labels.tolist() == LABELS[100][1].tolist() and found.classes == tuple(FINE)
    assert np.array_equal(found.split.read(7), TEST[7].transpose(1, 2, 0))


@pytest.fixture(scope="module")
def stripes_run(tmp_path_factory):
    """A finished run on class folders, whose root holds shards of the same images too."""
    root = tmp_path_factory.mktemp("stripes")
    write_stripes(root / "folders", train=8, val=9)
    made = PrepareOptions(root / "shards", folders=root / "folders", any_counts=True, shard_size=0.02)
    assert prepare(made, lambda line: None) == 0
    assert len(list((root / "shards" / "val").glob("*.tar"))) > 2
    pretrain(replace(SMALL, epochs=2.0), root / "shards", root / "run")
    return root


def test_shards_give_the_error_of_the_run_and_the_answers_of_the_folders(stripes_run, tmp_path, capsys):
    run, shards, folders = (stripes_run / name for name in ("run", "shards", "folders"))
    error = f"{metrics(run)[-1]['val/error']:.2f} %"
    found = {}
    with serving(stripes_run) as server:
        remote = f"{server.url}/shards"
        places = {"folders": folders, "shards": shards, "val": shards / "val", "remote": remote}
        for name, data in places.items():
            for words in (["--workers", "0"], ["--workers", "2"], ["--workers", "0", "--limit", "7"]):
                where = tmp_path / f"{name}{len(found)}"
                assert evaluate(run / "model.safetensors", data, *words, "--output", str(where)) == 0
                found[(name, *words)] = [row[1:] for row in answers(where)]
                said = capsys.readouterr().out
                assert "--limit" in words or ("18 images of 2 classes" in said and error in said)
    assert len(found) == 12
    for (name, *words), rows in found.items():
        whole = found["folders", "--workers", "0"]
        chosen = [0, 3, 6, 8, 11, 14, 17] if "--limit" in words else range(18)  # 17 / 6 = 2.83 apart
        assert rows == [whole[k] for k in chosen], (name, words)


def test_what_does_not_fit_is_one_sentence(cifar_run, stripes_run, tmp_path, capsys):
    (run, root), stripes = cifar_run, stripes_run

    def said(weights: Path, data: Path, *words: str) -> str:
        assert evaluate(weights, data, "--workers", "0", *words) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and not captured.out
        return captured.err

    weights = run / "model.safetensors"
    alone = "mean image of 32 x 32 pixels, so multi-scale cannot show it other sizes; take --protocols 1-crop"
    assert alone in said(weights, root, "--protocols", "1-crop", "multi-scale")
    assert "--scales [40]: for multi-scale alone; add it" in said(weights, root, "--scales", "40")
    assert "10 classes, but the images are of 2; give" in said(weights, stripes / "shards")
    assert "10 classes, but the images lie in 2 class folders" in said(weights, stripes / "folders")
    assert "2 classes, but the images are of 10; give" in said(stripes / "run" / "model.safetensors", root)
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "index.json").write_text("{}")
    assert "val/index.json: not an index of shards" in said(weights, tmp_path)


def test_the_address_of_the_split_itself_is_taken_too(stripes_run):
    with serving(stripes_run) as server:
        for address in ("shards", "shards/val", "shards/val/", "shards/val/index.json"):
            assert len(find_images(f"{server.url}/{address}")) == len(find_images(stripes_run / "shards")), address
