"""torchvision://CIFAR10 from a local server: downloaded once, whole and verified, or one sentence."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import test_weights_download as serving
import torchvision
from made_cifar import CIFAR
from made_pretraining import options
from test_cifar import LABELS, TEN, TEST, TRAIN, ten_python
from test_launch import ends
from test_weights_download import Handler, server  # noqa: F401

from resnet_backbone.cache import cache_folder
from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.launch import job
from resnet_backbone.classification.testing.images import find_images
from resnet_backbone.weights import download

SOURCE = "torchvision://CIFAR10"


@pytest.fixture
def published(tmp_path, monkeypatch, request):
    """What torchvision names is a small archive on the local server; the first attempt is the last."""
    ten_python(tmp_path)
    with tarfile.open(tmp_path / "made.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    content = (tmp_path / "made.tar.gz").read_bytes()
    monkeypatch.setattr(serving, "CONTENT", content)
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    cifar = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar, "url", f"{request.getfixturevalue('server')}/cifar-10-python.tar.gz")
    monkeypatch.setattr(cifar, "tgz_md5", hashlib.md5(content).hexdigest())
    return cifar


def assert_opens() -> None:
    data = open_data(SOURCE)
    for split, pixels, labels in zip((data.train, data.val), (TRAIN, TEST), LABELS[10], strict=True):
        assert np.array_equal(split.images, pixels) and split.labels.tolist() == labels.tolist()
    assert data.classes == tuple(TEN) and data.name == "cifar-10-python.tar.gz"


def test_it_is_downloaded_once(published):
    assert_opens()
    assert_opens()
    assert Handler.requests == [("/cifar-10-python.tar.gz", None)]
    (cache_folder() / published.filename).write_bytes(b"damaged")
    assert_opens()
    assert len(Handler.requests) == 2


def test_its_test_images_are_tested_on(published):
    images = find_images(SOURCE)
    assert np.array_equal(images.split.images, TEST) and images.labels.tolist() == LABELS[10][1].tolist()


def test_two_processes_download_it_once_and_train(published, tmp_path, capfd, one_thread):
    config = replace(CIFAR, iterations=2, steps=(), schedule="cosine", test_every=0.0, save_every=0.0)
    chosen = options(tmp_path / "run", config, SOURCE)
    assert ends(capfd, job(chosen))[0] == [0, 0]
    assert len(Handler.requests) == 1 and (tmp_path / "run" / "model.safetensors").exists()
    assert f"data: {SOURCE}\n" in (tmp_path / "run" / "config.yaml").read_text()


def test_what_came_in_part_is_completed_and_not_used_before(published):
    Handler.drops = 1
    with pytest.raises(ValueError, match="the connection dropped"):
        open_data(SOURCE)
    assert not (cache_folder() / published.filename).exists()
    assert_opens()
    assert Handler.requests[1][1] == f"bytes={len(serving.CONTENT) // 2}-"


def test_another_file_is_refused_and_deleted(published, monkeypatch):
    monkeypatch.setattr(published, "tgz_md5", "0" * 32)
    with pytest.raises(ValueError, match=f"{published.url}: the file has md5 .*not 0000.*deleted"):
        open_data(SOURCE)
    assert not list(cache_folder().glob("cifar*"))


def test_without_a_network_a_sentence_names_the_address_and_what_to_do(published, monkeypatch):
    monkeypatch.setattr(published, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    with pytest.raises(ValueError) as caught:
        open_data(SOURCE)
    said = str(caught.value)
    assert said.startswith("http://127.0.0.1:9/cifar-10-python.tar.gz: no connection") and "\n" not in said
    assert said.endswith("check the network, or download it elsewhere and give its path")


def test_other_names_are_refused_and_a_missing_folder_says_how_to_download():
    with pytest.raises(ValueError, match="torchvision://MNIST: --data takes torchvision://CIFAR10 or "):
        open_data("torchvision://MNIST")
    with pytest.raises(ValueError, match="cifar10: no such folder or archive.*torchvision://CIFAR10"):
        open_data("cifar10")
