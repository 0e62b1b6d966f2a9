"""CIFAR out of every layout: the same images as were written, and one sentence on every damaged file."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import tarfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from resnet_backbone.classification.data.cifar import read_cifar

RNG = np.random.default_rng(0)
TRAIN, TEST = (RNG.integers(0, 256, (count, 3, 32, 32), np.uint8) for count in (50, 20))
LABELS = {10: (np.arange(50) % 10, np.arange(20) % 10), 100: (np.arange(50) * 2, np.arange(20) * 5)}
TEN = [f"kind{k}" for k in range(10)]
FINE = [f"fine{k}" for k in range(100)]


def rows(pixels, *labels) -> bytes:
    return np.concatenate(
        [*(label[:, None].astype(np.uint8) for label in labels), pixels.reshape(len(pixels), -1)], 1
    ).tobytes()


class Python2(pickle._Pickler):
    """Strings and bytes as Python 2 wrote them, with which the official files were made."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def save_string(self, value: str | bytes) -> None:
        data = value if isinstance(value, bytes) else value.encode()
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def pickled_by_python2(content: object) -> bytes:
    file = io.BytesIO()
    Python2(file, protocol=2).dump(content)
    return file.getvalue().replace(b"numpy._core", b"numpy.core")


def ten_binary(root: Path) -> Path:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    for k in range(5):
        part = slice(10 * k, 10 * k + 10)
        (folder / f"data_batch_{k + 1}.bin").write_bytes(rows(TRAIN[part], LABELS[10][0][part]))
    (folder / "test_batch.bin").write_bytes(rows(TEST, LABELS[10][1]))
    (folder / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    return folder


def hundred_binary(root: Path) -> Path:
    folder = root / "cifar-100-binary"
    folder.mkdir()
    for name, pixels, labels in zip(("train", "test"), (TRAIN, TEST), LABELS[100]):
        (folder / f"{name}.bin").write_bytes(rows(pixels, labels // 5, labels))
    (folder / "fine_label_names.txt").write_text("\n".join(FINE))
    return folder


def ten_python(root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    splits = [(f"data_batch_{k + 1}", slice(10 * k, 10 * k + 10), 0) for k in range(5)] + [("test_batch", slice(20), 1)]
    for name, part, which in splits:
        content = {"data": (TRAIN, TEST)[which][part].reshape(-1, 3072), "labels": LABELS[10][which][part].tolist()}
        (folder / name).write_bytes(pickled_by_python2({**content, "batch_label": name}))
    (folder / "batches.meta").write_bytes(pickled_by_python2({"label_names": TEN, "num_vis": 3072}))
    return folder


def hundred_python(root: Path) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir()
    for name, pixels, labels in zip(("train", "test"), (TRAIN, TEST), LABELS[100]):
        content = {"data": pixels.reshape(-1, 3072), "fine_labels": labels.tolist(), "coarse_labels": [0] * len(labels)}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": FINE}, protocol=2))
    return folder


def assert_read(path: Path, count: int) -> None:
    read = read_cifar(path)
    for split, pixels, labels in zip((read.train, read.test), (TRAIN, TEST), LABELS[count]):
        assert np.array_equal(split.pixels, pixels) and split.labels.tolist() == labels.tolist()
        assert split.pixels.dtype == np.uint8 and split.labels.dtype == np.int64 and len(split) == len(labels)
    assert read.classes == tuple(TEN if count == 10 else FINE)


@pytest.mark.parametrize(
    ("write", "count"), [(ten_binary, 10), (ten_python, 10), (hundred_binary, 100), (hundred_python, 100)]
)
def test_folders_and_archives(tmp_path, write, count):
    folder = write(tmp_path)
    assert_read(folder, count)
    assert_read(tmp_path, count)
    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    assert_read(tmp_path / "cifar.tar.gz", count)


@pytest.mark.parametrize("channels_last", [False, True])
def test_npz(tmp_path, channels_last):
    order = (0, 2, 3, 1) if channels_last else (0, 1, 2, 3)
    np.savez(
        tmp_path / "c.npz", x_train=TRAIN.transpose(order), x_test=TEST.transpose(order),
        y_train=LABELS[10][0][:, None], y_test=LABELS[10][1][:, None],
    )  # fmt: skip
    read = read_cifar(tmp_path / "c.npz")
    assert np.array_equal(read.train.pixels, TRAIN) and np.array_equal(read.test.pixels, TEST)
    assert read.test.labels.tolist() == LABELS[10][1].tolist() and read.classes[3] == "cat"


def test_what_is_damaged_is_one_sentence(tmp_path):
    def said(path: Path) -> str:
        with pytest.raises(ValueError) as caught:
            read_cifar(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such folder or archive" in said(tmp_path / "none")
    assert "holds no CIFAR in one of its official layouts" in said(tmp_path)
    with tarfile.open(tmp_path / "imagenet.tar", "w") as archive:
        archive.add(__file__, "n01440764.tar")
    assert "imagenet.tar: no CIFAR in this archive; of ImageNet's tools/prepare" in said(tmp_path / "imagenet.tar")
    folder = ten_binary(tmp_path)
    last = folder / "data_batch_5.bin"
    whole = last.read_bytes()
    last.write_bytes(whole[:-1])
    assert "data_batch_5.bin: 30729 bytes are no whole number of 3073-byte rows" in said(folder)
    last.write_bytes(b"\x0a" + whole[1:])
    assert "labels from 0 to 10 for 10 classes" in said(folder)
    last.unlink()
    assert "data_batch_5.bin is missing" in said(folder)
    (tmp_path / "c.tar.gz").write_bytes(b"\x1f\x8b no archive")
    assert "c.tar.gz: not readable as an archive" in said(tmp_path / "c.tar.gz")
    np.savez(tmp_path / "c.npz", x_train=TRAIN)
    assert "c.npz: not readable as .npz with x_train" in said(tmp_path / "c.npz")
    np.savez(tmp_path / "f.npz", x_train=TRAIN / 255, y_train=LABELS[10][0], x_test=TEST, y_test=LABELS[10][1])
    assert "type float64 for 50 labels; CIFAR has 32 x 32 RGB in uint8" in said(tmp_path / "f.npz")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"x_train": TRAIN.transpose(2, 3, 1, 0)}, "x_train of shape (32, 32, 3, 50)"),  # MATLAB's order
        ({"x_test": np.zeros((len(TEST), 64, 64, 3), np.uint8)}, "64, 64, 3)"),
        ({"x_test": np.zeros((len(TEST), 64, 16, 3), np.uint8)}, "64, 16, 3)"),  # as many numbers as CIFAR's
        ({"y_train": LABELS[10][0] / 2}, "y_train of type float64"),
        ({"y_test": LABELS[10][1].astype(str)}, "y_test of type <U"),
    ],
)
def test_arrays_of_another_kind_are_not_taken_for_cifars(tmp_path, changed, said):
    arrays = {"x_train": TRAIN, "y_train": LABELS[10][0], "x_test": TEST, "y_test": LABELS[10][1]}
    np.savez(tmp_path / "c.npz", **{**arrays, **changed})
    with pytest.raises(ValueError, match=f"c.npz: .*{re.escape(said)}"):
        read_cifar(tmp_path / "c.npz")


def test_of_a_large_archive_of_something_else_no_file_is_read(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(tarfile.TarFile, "extractfile", lambda _, member: read.append(member.name))
    (tmp_path / "n01440764.tar").write_bytes(bytes(10_240))
    with tarfile.open(tmp_path / "ILSVRC2012_img_train.tar", "w") as archive:
        archive.add(tmp_path / "n01440764.tar", "n01440764.tar")
    with pytest.raises(ValueError, match="no CIFAR in this archive"):
        read_cifar(tmp_path / "ILSVRC2012_img_train.tar")
    assert not read


def test_a_hostile_pickle_is_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    folder = ten_python(tmp_path)
    (folder / "data_batch_3").write_bytes(pickle.dumps({"data": Hostile(), "labels": []}))
    with pytest.raises(ValueError, match="data_batch_3: the pickle asks for posix.mkdir"):
        read_cifar(folder)
    assert not (tmp_path / "owned").exists()
    (folder / "data_batch_3").write_bytes(pickle.dumps({"data": TRAIN}))
    with pytest.raises(ValueError, match="data_batch_3: holds no data and labels"):
        read_cifar(folder)
