"""CIFAR-10 and -100 out of their official files: binary or Python, as a folder or the archive itself, or an .npz."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_backbone.classification.data.archives import content_of, files_of, opened
from resnet_backbone.weights.unpickle import load_arrays

PIXELS = 3 * 32 * 32
REMEDY = "get it again from the data set's own page"
LAYOUTS = "cifar-10-batches-bin, cifar-10-batches-py, cifar-100-binary, cifar-100-python"
TEN = "airplane automobile bird cat deer dog frog horse ship truck"
SHAPES = (32, 32, 3), (3, 32, 32), (PIXELS,)
"""Of an image in an .npz."""
FILES = {
    *(f"data_batch_{k}{ending}" for k in range(1, 6) for ending in ("", ".bin")),
    *("test_batch", "test_batch.bin", "batches.meta", "batches.meta.txt"),
    *("train", "test", "meta", "train.bin", "test.bin", "fine_label_names.txt"),
}
"""That are read; an archive may be another one, of any size."""
Read = Callable[[str], bytes]


@dataclass(frozen=True)
class Images:
    """One split: pixels N,3,32,32 uint8 RGB, labels N int64."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Cifar:
    """Both splits and the names of the classes, by label."""

    train: Images
    test: Images
    classes: tuple[str, ...]


def read_cifar(path: str | Path) -> Cifar:
    """Reads all images into memory (184 MB).

    Args:
        path: one of the official folders, a folder that holds one, the .tar.gz of one, or an .npz with x_train,
            y_train, x_test and y_test, as Keras has them. Pickles are read without running anything.

    Raises:
        ValueError: nothing of the kind is there, or a file is cut off or damaged; names the file.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return _read_npz(path)
    read, names = _archive(path) if path.name.endswith((".tar.gz", ".tgz", ".tar")) else _folder(path)
    if "data_batch_1.bin" in names:
        parts = [f"data_batch_{k}.bin" for k in range(1, 6)]
        return _binary(read, names, parts, "test_batch.bin", "batches.meta.txt", 1)
    if "train.bin" in names:
        return _binary(read, names, ["train.bin"], "test.bin", "fine_label_names.txt", 2)
    if "data_batch_1" in names:
        parts = [f"data_batch_{k}" for k in range(1, 6)]
        return _python(read, names, parts, "test_batch", "batches.meta", ("labels", "label_names"))
    if {"train", "test", "meta"} <= names:
        return _python(read, names, ["train"], "test", "meta", ("fine_labels", "fine_label_names"))
    raise ValueError(f"{path}: holds no CIFAR in one of its official layouts ({LAYOUTS}); {REMEDY}")


def is_cifar(path: str | Path) -> bool:
    """Whether `read_cifar` is the one to read `path`: a file, or a folder with one of its layouts."""
    path = Path(path)
    if not path.is_dir():
        return path.is_file()
    marks = {*LAYOUTS.split(", "), "data_batch_1.bin", "data_batch_1", "test.bin", "meta"}
    # A class may be called "meta".
    return any(entry.name in marks and entry.is_dir() == entry.name.startswith("cifar") for entry in path.iterdir())


def _folder(path: Path) -> tuple[Read, set[str]]:
    if not path.is_dir():
        raise ValueError(f"{path}: no such folder or archive; CIFAR comes as {LAYOUTS}, or as .npz")
    inner = next((path / name for name in LAYOUTS.split(", ") if (path / name).is_dir()), path)
    return lambda name: (inner / name).read_bytes(), {entry.name for entry in inner.iterdir()}


def _archive(path: Path) -> tuple[Read, set[str]]:
    with opened(path) as archive:
        wanted = ((Path(member.name).name, member) for member in files_of(archive, path))
        files = {name: content_of(archive, member, path) for name, member in wanted if name in FILES}
    if not files:
        raise ValueError(f"{path}: no CIFAR in this archive; of ImageNet's tools/prepare_imagenet.py makes data")
    return files.__getitem__, set(files)


def _binary(read: Read, names: set[str], parts: list[str], test: str, meta: str, label_bytes: int) -> Cifar:
    """Rows of one label (CIFAR-100: coarse, then fine), then 3,072 pixels, channel by channel."""
    _complete(names, [*parts, test])

    def rows(name: str) -> NDArray[np.uint8]:
        flat = np.frombuffer(read(name), np.uint8)
        if not len(flat) or len(flat) % (label_bytes + PIXELS):
            raise ValueError(
                f"{name}: {len(flat)} bytes are no whole number of {label_bytes + PIXELS}-byte rows; {REMEDY}"
            )
        return flat.reshape(-1, label_bytes + PIXELS)

    train, held = np.concatenate([rows(name) for name in parts]), rows(test)
    classes = read(meta).decode().split() if meta in names else _unnamed(label_bytes)
    return _checked(
        *((part[:, label_bytes:], part[:, label_bytes - 1]) for part in (train, held)), classes=classes, where=parts[0]
    )


def _unnamed(label_bytes: int) -> list[str]:
    return TEN.split() if label_bytes == 1 else [f"class {k}" for k in range(100)]


def _python(read: Read, names: set[str], parts: list[str], test: str, meta: str, keys: tuple[str, str]) -> Cifar:
    """Pickles of {data: N x 3072, labels or fine_labels}."""
    _complete(names, [*parts, test])
    label_key, names_key = keys

    def split(files: list[str]) -> tuple[Any, Any]:
        contents = [_mapping(read(name), name, ("data", label_key)) for name in files]
        pixels = np.concatenate([np.asarray(one["data"]) for one in contents])
        return pixels, np.concatenate([np.asarray(one[label_key]) for one in contents])

    classes = list(map(str, _mapping(read(meta), meta, (names_key,))[names_key])) if meta in names else []
    return _checked(split(parts), split([test]), classes=classes or TEN.split(), where=parts[0])


def _mapping(data: bytes, name: str, keys: tuple[str, ...]) -> Mapping[str, Any]:
    content = load_arrays(data, name)
    if not isinstance(content, dict) or any(key not in content for key in keys):
        raise ValueError(f"{name}: holds no {' and '.join(keys)}, as CIFAR's Python files do; {REMEDY}")
    return content


def _read_npz(path: Path) -> Cifar:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {key: arrays[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        what = str(error).splitlines()[0]
        raise ValueError(f"{path}: not readable as .npz with x_train, y_train, x_test, y_test ({what})") from None
    splits = []
    for name in ("train", "test"):
        pixels, labels = content[f"x_{name}"], content[f"y_{name}"].reshape(-1)
        if pixels.shape[1:] not in SHAPES or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{path}: x_{name} of shape {pixels.shape} and y_{name} of type {labels.dtype}; CIFAR has "
                f"N x 32 x 32 x 3 or N x 3 x 32 x 32 and whole numbers; {REMEDY}"
            )
        if pixels.shape[1:] == (32, 32, 3):
            pixels = pixels.transpose(0, 3, 1, 2)
        splits.append((pixels, labels))
    count = int(splits[0][1].max()) + 1 if splits[0][1].size else 0
    classes = TEN.split() if count == 10 else [f"class {k}" for k in range(count)]
    return _checked(splits[0], splits[1], classes=classes, where=str(path))


def _complete(names: set[str], wanted: list[str]) -> None:
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ValueError(f"{missing[0]} is missing beside the other files of CIFAR; {REMEDY}")


def _checked(train: tuple[Any, Any], test: tuple[Any, Any], *, classes: list[str], where: str) -> Cifar:
    splits = []
    for pixels, labels in (train, test):
        if pixels.dtype != np.uint8 or pixels.size != len(labels) * PIXELS or not len(labels):
            raise ValueError(
                f"{where}: pixels of shape {pixels.shape} and type {pixels.dtype} for {len(labels)} labels; CIFAR has "
                f"32 x 32 RGB in uint8, one label each; {REMEDY}"
            )
        whole = np.ascontiguousarray(labels, dtype=np.int64)
        if whole.min() < 0 or whole.max() >= len(classes):
            raise ValueError(
                f"{where}: labels from {whole.min()} to {whole.max()} for {len(classes)} classes; {REMEDY}"
            )
        splits.append(Images(np.ascontiguousarray(pixels).reshape(-1, 3, 32, 32), whole))
    return Cifar(splits[0], splits[1], tuple(classes))
