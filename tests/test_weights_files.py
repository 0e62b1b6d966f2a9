"""Files of weights: every format read, nothing in them ever run, damage named in one sentence."""

from __future__ import annotations

import collections
import dataclasses
import gzip
import io
import json
import lzma
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.weights.errors import WeightsError
from resnet_backbone.weights.files import read_weights, write_weights
from resnet_backbone.weights.record import WeightRecord, sidecar_of

STATE = {
    "stem.conv1.weight": torch.arange(6.0).reshape(1, 2, 3),
    "linear.bias": torch.tensor([1.5], dtype=torch.float16),
}
RECORD = WeightRecord(
    "resnet_backbone", "made here", "resnet18", None, "BGR", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), top1=50.0
)


def same(state, other):
    return state.keys() == other.keys() and all(
        torch.equal(state[k], other[k]) and state[k].dtype == other[k].dtype for k in state
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_our_files_come_back_bit_for_bit_with_their_record(tmp_path, suffix):
    path = write_weights(tmp_path / f"net{suffix}", STATE, RECORD)
    file = read_weights(path)
    assert same(file.state, STATE)
    assert dataclasses.replace(file.record, sha256=None) == RECORD
    assert file.record.sha256 == file.sha256
    if suffix == ".pth":
        assert torch.load(path, weights_only=True)["record"]["channel_order"] == "BGR"


@pytest.mark.parametrize("compress", [lzma.compress, gzip.compress, bytes])
@pytest.mark.parametrize("container", [None, "state_dict", "model"])
@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files_plain_wrapped_and_compressed(tmp_path, compress, container, legacy):
    buffer = io.BytesIO()
    content = STATE if container is None else {container: STATE, "epoch": 3}
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    path = tmp_path / "anything.th"
    path.write_bytes(compress(buffer.getvalue()))
    file = read_weights(path)
    assert same(file.state, STATE) and file.container == (container or "")


@pytest.mark.parametrize("protocol", [2, 4])
def test_caffe2_and_detectron2_pickles(tmp_path, protocol):
    array = np.arange(4, dtype=np.float32).reshape(2, 2)
    blobs = {"blobs": {"res2_0_branch2a_w": array, "res2_0_branch2a_w_momentum": array}}
    model = {
        "model": collections.OrderedDict(w=array),
        "__author__": "Detectron2 Model Zoo",
        "matching_heuristics": True,
    }
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps(blobs, protocol))
    file = read_weights(path)
    assert list(file.state) == ["res2_0_branch2a_w"] and file.author == "Caffe2"
    assert torch.equal(file.state["res2_0_branch2a_w"], torch.from_numpy(array))
    path.write_bytes(pickle.dumps(model, protocol))
    assert read_weights(path).author == "Detectron2 Model Zoo"


class Runs:
    """Leaves a file behind when a pickle of it is loaded carelessly."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("form", ["pickle", "torch", "legacy torch"])
def test_hostile_files_are_refused_and_never_run(tmp_path, form):
    marker, path = tmp_path / "it ran", tmp_path / "evil.pkl"
    content = {"model": {"w": torch.zeros(1)}, "extra": Runs(marker)}
    if form == "pickle":
        path.write_bytes(pickle.dumps({"model": {"w": np.zeros(1)}, "extra": Runs(marker)}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(WeightsError, match=r"evil\.pkl.*not run"):
        read_weights(path)
    assert not marker.exists()
    with path.open("rb") as file:  # the marker does appear when somebody is careless
        torch.load(file, weights_only=False) if form != "pickle" else pickle.load(file)
    assert marker.exists()


def test_a_numpy_shape_in_a_pickle_allots_no_memory(tmp_path):
    class Bomb:
        def __reduce__(self):
            multiarray = sys.modules.get("numpy._core.multiarray") or sys.modules["numpy.core.multiarray"]
            return multiarray._reconstruct, (np.ndarray, (1 << 50,), b"d")

    path = tmp_path / "bomb.pkl"
    path.write_bytes(pickle.dumps({"w": Bomb()}))
    assert read_weights(path).state["w"].numel() == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>sign in</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
        (b"hello", "neither a torch"),
        (pickle.dumps([1, 2]), "holds a list"),
        (pickle.dumps({"epoch": 3}), "no tensors in it; its keys are epoch"),
        (pickle.dumps({"w": np.zeros(100)})[:-60], "truncated pickle"),
        (lzma.compress(b"x" * 1000)[:-20], "damaged compression"),
        (gzip.compress(b"x" * 1000)[:-20], "damaged compression"),
    ],
)
def test_what_is_no_file_of_weights_is_one_sentence(tmp_path, content, message):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as error:
        read_weights(path)
    assert "broken.pth" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_truncated_files(tmp_path, suffix, keep):
    path = write_weights(tmp_path / f"cut{suffix}", {"w": torch.zeros(1000)}, RECORD)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(WeightsError, match="damaged"):
        read_weights(path)


def test_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "resnet50.pth").touch()
    with pytest.raises(WeightsError, match="no such file; did you mean .*resnet50.pth"):
        read_weights(tmp_path / "resnet5O.pth")


def test_a_folder_is_said_to_be_one(tmp_path):
    with pytest.raises(WeightsError, match="is a folder; name the file of weights in it"):
        read_weights(tmp_path)


def test_sidecar_record(tmp_path):
    path = tmp_path / "net.pth.xz"
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    path.write_bytes(lzma.compress(buffer.getvalue()))
    assert sidecar_of(path) == tmp_path / "net.json"
    sidecar_of(path).write_text(RECORD.to_json())
    assert read_weights(path).record.mean == (1.0, 2.0, 3.0)
    sidecar_of(path).write_text(dataclasses.replace(RECORD, sha256="0" * 64).to_json())
    with pytest.raises(WeightsError, match="belongs to a file with sha256 000000000000"):
        read_weights(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "RGB"}, "unknown key 'colour'"),
        ({"mean": "grey"}, "mean is 'grey'"),
        ({"mean": [1, "2", 3]}, "not a list of numbers"),
        ({"channel_order": "GBR"}, "neither 'RGB' nor 'BGR'"),
        ({"std": [0.0, 1.0, 1.0]}, "positive"),
        ({"naming": "keras"}, "none of"),
        ({"stride_in_1x1": 1}, "stride_in_1x1 is 1"),
        ({"classes": ["cat", 2]}, "classes is not a list of texts"),
    ],
)
def test_wrong_records_are_refused(change, message):
    values = {**json.loads(RECORD.to_json()), **change}
    with pytest.raises(WeightsError, match=message):
        WeightRecord.from_json(json.dumps(values))


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "last.pth"
    path.write_bytes(b"the old checkpoint")

    def fill(file):
        file.write(b"half of the new")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, fill)
    assert path.read_bytes() == b"the old checkpoint" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(WeightsError, match="write .safetensors or .pth"):
        write_weights(tmp_path / "net.onnx", STATE, RECORD)


class Failing(io.BytesIO):
    """A file in whose second write something comes up."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error, self.writes = error, 0

    def write(self, content) -> int:
        self.writes += 1
        if self.writes == 2:
            raise self.error
        return super().write(content)


@pytest.mark.parametrize("error", [OSError(28, "No space"), RuntimeError("a worker is killed"), KeyboardInterrupt()])
def test_what_comes_up_in_torchs_writer_is_not_lost(tmp_path, error):
    """Which ends with "unexpected pos 64 vs 0" instead."""
    with pytest.raises(type(error)) as caught:
        write_atomically(tmp_path / "last.pth", lambda _: torch.save({"a": torch.zeros(9)}, Failing(error)))
    assert caught.value is error or (caught.value.errno, caught.value.filename) == (28, str(tmp_path / "last.pth"))
    assert not list(tmp_path.iterdir())


def test_real_files(real_data):
    file = read_weights(real_data / "weights" / "resnet50_pqf_fp16.pth.xz")
    assert len(file.state) == 320 and file.state["conv1.weight"].dtype == torch.float16
    file = read_weights(next((real_data / "cifar10" / "pretrained").glob("resnet20*")))
    assert file.container == "state_dict" and "module.linear.weight" in file.state


def test_safetensors_of_others_and_bfloat16(tmp_path):
    state = {"w": torch.tensor([1.0, 2.0], dtype=torch.bfloat16)}
    path = tmp_path / "timm.safetensors"
    safetensors.torch.save_file(state, path)
    file = read_weights(path)
    assert same(file.state, state) and file.record is None
