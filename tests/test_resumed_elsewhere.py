"""A run that goes on on another device, in another cut of the batch, or with more patience for broken images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made_pretraining import SMALL
from torch import nn

from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.training.checkpoint import read_run
from resnet_backbone.classification.training.classifier import build_classifier
from resnet_backbone.classification.training.loop import Loop
from resnet_backbone.classification.training.room import room_findings
from resnet_backbone.engine import room


@pytest.fixture
def make(folders, tmp_path):
    """make(config) gives a loop in tmp_path."""

    def made(config=SMALL) -> Loop:
        network = build_classifier(config, 2)
        return Loop(config, open_data(str(folders)), network, tmp_path, torch.device("cpu"))

    return made


def test_the_optimiser_works_as_this_device_wants(make, tmp_path):
    """A GPU's is fused; one with a CUDA graph has to be, wherever the run began."""
    make().save()
    state = torch.load(tmp_path / "last.pth", weights_only=True)
    for one in state["optimizer"]["param_groups"]:
        one |= {"fused": True, "momentum": 0.25}
    torch.save(state, tmp_path / "last.pth")
    loop = make()
    loop.resume()
    assert [(one["fused"], one["momentum"]) for one in loop.optimizer.param_groups] == [(None, 0.25)] * 2


def test_broken_images_may_be_raised_as_its_sentence_says(make, tmp_path, folders):
    make(replace(SMALL, broken_images=1)).save()
    loop = make(replace(SMALL, broken_images=2))
    loop.resume()
    loop.broken.add([("a", "a: not an image"), ("b", "b: not an image")])


def test_another_reader_is_said(make, caplog):
    """Its views are not the same to the bit."""
    make().save()
    make().resume()
    assert "grey levels" not in caplog.text
    make(replace(SMALL, reader="plain")).resume()
    assert "reader plain, before it was fast: from here on the images differ by up to two grey levels" in caplog.text


def test_norms_that_see_all_processes_need_the_same_parts(make, tmp_path, folders):
    """Two parts of one process are not one part of each of two, where SyncBN sees both."""
    data = open_data(str(folders))
    for norm in ("BN", "SyncBN"):
        config = replace(SMALL, norm=norm, accumulate=2)
        make(config).save()
        two = replace(config, accumulate=1)
        if norm == "BN":
            assert read_run(tmp_path / "last.pth", two, data, processes=2)["iteration"] == 0
            continue
        with pytest.raises(ValueError, match="begun with accumulate 2, now it is 1"):
            read_run(tmp_path / "last.pth", two, data, processes=2)


def test_room_for_those_who_train_and_those_who_test(tmp_path, monkeypatch):
    needed = []
    monkeypatch.setattr(room, "shared_memory", lambda bytes_, key: needed.append(bytes_))
    config = replace(SMALL, size=176, test_size=224, test_resize=232, batch_size=64, workers=4)
    for machines in (1, 2):
        room_findings(config, nn.Linear(1, 1), tmp_path, machines)
    assert needed == [4 * 2 * 3 * (176**2 + 224**2) * images for images in (64, 32)]
