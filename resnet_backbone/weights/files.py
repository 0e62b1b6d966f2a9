"""Reads and writes files of weights; nothing that a file contains is ever executed."""

from __future__ import annotations

import dataclasses
import difflib
import gzip
import hashlib
import io
import json
import lzma
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.checkpoint import CLASSIFIER, DETECTOR, is_state
from resnet_backbone.weights.download import WEB_PAGE, is_web_page
from resnet_backbone.weights.errors import WeightsError
from resnet_backbone.weights.record import WeightRecord, sidecar_of
from resnet_backbone.weights.unpickle import load_arrays

RECORD_KEY = "resnet_backbone.record"
# Containers seen around state dicts, in the order in which one is preferred.
CONTAINERS = ("model", "state_dict", "model_state", "blobs", "net", "params")
MAX_BYTES = 16 * 2**30  # no network of the family comes near; a decompression bomb does


@dataclass(frozen=True)
class WeightsFile:
    """The content of a file: tensors under the file's own names, and what else it says about itself.

    Attributes:
        record: embedded in the file or beside it, else None.
        author: "Caffe2" for files in Caffe2's naming, else what the file says.
        container: the key under which the tensors were found, "" for none.
        of_run: it is the state that a run goes on from.
    """

    path: Path
    state: dict[str, torch.Tensor]
    record: WeightRecord | None
    author: str | None
    container: str
    sha256: str
    of_run: bool = False


def read_weights(path: str | Path, *, of_run: bool = False) -> WeightsFile:
    """Reads .pth, .pt, .th (torch), .pkl (Caffe2, MSRA, Detectron2) or .safetensors, also .xz or .gz compressed.

    The format is known by the content, not by the name.

    Args:
        of_run: takes the state of a run (last.pth) too, for who knows its config: no record says what it expects, and
            with SOLVER.EMA or exact statistics of batch norm what is tested and written are other tensors.

    Raises:
        WeightsError: no such file; truncated, foreign or hostile content; a run's state; a sidecar of another file.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder; name the file of weights in it")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file{_neighbours(path)}")
    raw = path.read_bytes()
    sha256 = hashlib.sha256(raw).hexdigest()
    data = decompress(raw, path.name)
    if data[:2] == b"PK":
        content = _load_torch(data, path.name)
    elif _is_safetensors(data):
        return _finish(path, *_load_safetensors(data, path.name), None, "", sha256)
    elif data[:1] == b"\x80":
        content = _load_pickle(data, path.name)
    else:
        raise WeightsError(f"{path}: {_what_it_is(data)}")
    if is_state(content) and not of_run:
        raise WeightsError(f"{path}: the state of a run in training, no weights; {_weights_of_run(path)}")
    state, container, author, record = _unwrap(content, path.name)
    return replace(_finish(path, state, record, author, container, sha256), of_run=is_state(content))


def _weights_of_run(path: Path) -> str:
    for name in (CLASSIFIER, DETECTOR):
        if path.with_name(name).is_file():
            return f"its weights are beside it: {path.with_name(name)}"
    return "there are none beside it: the run writes them at its end, go on with it by --resume"


def _finish(
    path: Path,
    state: dict[str, torch.Tensor],
    record: WeightRecord | None,
    author: str | None,
    container: str,
    sha256: str,
) -> WeightsFile:
    sidecar = sidecar_of(path)
    if record is None and sidecar.is_file():
        record = WeightRecord.from_json(sidecar.read_text(encoding="utf-8"), str(sidecar))
        if record.sha256 is not None and record.sha256 != sha256:
            raise WeightsError(
                f"{sidecar}: this record belongs to a file with sha256 {record.sha256[:12]}..., but {path.name} has "
                f"{sha256[:12]}...; delete the record or get the file that it describes"
            )
    if record is not None:
        record = replace(record, sha256=sha256)
    return WeightsFile(path, state, record, author, container, sha256)


def decompress(data: bytes, name: str) -> bytes:
    """`data` itself, or what its xz or gzip compression holds.

    Raises:
        WeightsError: truncated, or larger than any weights.
    """
    openers: dict[bytes, Any] = {b"\xfd7zXZ": lzma.open, b"\x1f\x8b": gzip.open}
    opener = next((o for magic, o in openers.items() if data.startswith(magic)), None)
    if opener is None:
        return data
    try:
        with opener(io.BytesIO(data)) as file:
            content: bytes = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise WeightsError(f"{name}: damaged compression ({error}); get the file again") from None
    if len(content) > MAX_BYTES:
        raise WeightsError(f"{name}: unpacks to more than {MAX_BYTES >> 30} GiB, which no weights of the family do")
    return content


def _is_safetensors(data: bytes) -> bool:
    length = int.from_bytes(data[:8], "little")
    return len(data) > 9 and 2 <= length <= 100_000_000 and data[8:9] == b"{"


def _load_safetensors(data: bytes, name: str) -> tuple[dict[str, torch.Tensor], WeightRecord | None]:
    try:
        state = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{name}: damaged safetensors file ({error}); get the file again") from None
    length = int.from_bytes(data[:8], "little")
    text = json.loads(data[8 : 8 + length]).get("__metadata__", {}).get(RECORD_KEY)
    return state, None if text is None else WeightRecord.from_json(text, name)


def _load_torch(data: bytes, name: str) -> Any:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_BYTES:
                raise WeightsError(f"{name}: unpacks to more than {MAX_BYTES >> 30} GiB, which no weights do")
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:
        raise _torch_error(name, error) from None


def _load_pickle(data: bytes, name: str) -> Any:
    # torch's format before 1.6 begins with this number, pickled.
    if data[2:20].find(b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") >= 0:
        try:
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:
            raise _torch_error(name, error) from None
    return load_arrays(data, name)


def _torch_error(name: str, error: Exception) -> WeightsError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "Unsupported" in str(error) or "GLOBAL" in str(error):
        wanted = next((line for line in str(error).splitlines() if "GLOBAL" in line), first).strip()
        return WeightsError(
            f"{name}: holds more than tensors, and was not run: {wanted[:200]} "
            "Remedy: save only its state_dict() where it was made"
        )
    return WeightsError(f"{name}: damaged or truncated torch file ({first[:200]}); get the file again")


def _what_it_is(data: bytes) -> str:
    if not data:
        return "the file is empty; get it again"
    if is_web_page(data):
        return WEB_PAGE
    if data.startswith(b"version https://git-lfs"):
        return "this is a git-lfs pointer, not weights: run `git lfs pull` where it came from"
    return "neither a torch, pickle nor safetensors file; get it again or say where it is from"


def _unwrap(content: Any, name: str) -> tuple[dict[str, torch.Tensor], str, str | None, WeightRecord | None]:
    """The tensors in a file's content, where they were, its author and its record."""
    if not isinstance(content, Mapping):
        raise WeightsError(f"{name}: holds a {type(content).__name__}, not tensors by name; save a state_dict()")
    container, author, record = "", content.get("__author__"), None
    if isinstance(content.get("record"), Mapping):
        record = WeightRecord.from_json(json.dumps(content["record"]), name)
    inner: Mapping[str, Any] = content
    for key in CONTAINERS:
        if isinstance(content.get(key), Mapping):
            container, inner = key, content[key]
            break
    state = {}
    for key, value in inner.items():
        if isinstance(value, torch.Tensor):
            state[str(key)] = value
        elif isinstance(value, np.ndarray) and value.dtype != object:
            state[str(key)] = torch.from_numpy(np.ascontiguousarray(value))
    state = {key: value for key, value in state.items() if not key.endswith("_momentum")}
    if not state:
        raise WeightsError(f"{name}: no tensors in it; its keys are {', '.join(map(str, list(inner)[:6]))}")
    # Caffe2's blobs carry underscores where everyone else has dots.
    if author is None and any("_branch2a_w" in key for key in state):
        author = "Caffe2"
    return state, container, author if isinstance(author, str) else None, record


def _neighbours(path: Path) -> str:
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.with_name(near[0])}?" if near else ""


def check_suffix(path: str | Path) -> None:
    """Before work that ends in `write_weights`.

    Raises:
        WeightsError: `write_weights` would refuse the name.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise WeightsError(f"{path}: write .safetensors or .pth, not {path.suffix or 'a name without suffix'!r}")


def write_weights(path: str | Path, state: Mapping[str, torch.Tensor], record: WeightRecord) -> Path:
    """Writes tensors with their record, atomically: `.safetensors`, or `.pth` that `weights_only=True` loads.

    Raises:
        WeightsError: another suffix. OSError: the file cannot be written; nothing is left behind.
    """
    check_suffix(path)
    path = Path(path)
    record = replace(record, sha256=None)
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    if path.suffix == ".safetensors":
        data = safetensors.torch.save(tensors, {RECORD_KEY: record.to_json()})
        write_atomically(path, lambda file: file.write(data))
    else:
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(record).items()}
        # Author and heuristics let Detectron2's own checkpointer match the names inside a detector.
        content = {
            "model": tensors,
            "record": plain,
            "__author__": "resnet_backbone",
            "matching_heuristics": True,
        }
        write_atomically(path, lambda file: torch.save(content, file))
    return path
