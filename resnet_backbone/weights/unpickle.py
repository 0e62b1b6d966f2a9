"""Reads the pickles of Caffe2, MSRA and Detectron2 without running anything that they name."""

from __future__ import annotations

import collections
import io
import pickle
from typing import Any

import numpy as np

from resnet_backbone.weights.errors import WeightsError


def _codecs_encode(text: str, encoding: str) -> bytes:
    # How Python 2 strings travel in pickles written by Python 3; latin1 alone occurs.
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode(encoding)


def _reconstruct(_kind: type, _shape: tuple[int, ...], _dtype: bytes) -> np.ndarray:
    # numpy pickles an empty array first and its content later; a shape given here would allot memory at once.
    return np.ndarray.__new__(np.ndarray, (0,), np.int8)


def _scalar(dtype: np.dtype, data: bytes) -> Any:
    if dtype.hasobject:
        raise pickle.UnpicklingError("a numpy scalar of Python objects")
    return np.frombuffer(data, dtype=dtype, count=1)[0]


_SAFE: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): lambda *_: {},
    ("_codecs", "encode"): _codecs_encode,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(module, name): getattr(__import__("builtins"), name)
       for module in ("builtins", "__builtin__") for name in ("dict", "list", "tuple", "set", "int", "float", "bytes")},
}  # fmt: skip


class _SafeUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _SAFE[module, name]
        except KeyError:
            raise _Forbidden(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("a reference to data outside the file")


class _Forbidden(pickle.UnpicklingError):
    pass


def load_arrays(data: bytes, name: str) -> Any:
    """Unpickles containers, strings, numbers and numpy arrays; everything else is refused unexecuted.

    Args:
        data: the pickle, of Python 2 or 3.
        name: the file's name for messages.

    Raises:
        WeightsError: truncated, no pickle, or it names something else.
    """
    try:
        return _SafeUnpickler(io.BytesIO(data), encoding="latin1").load()
    except _Forbidden as error:
        raise WeightsError(
            f"{name}: the pickle asks for {error}, which no weights need; it was not run. "
            "If you trust the file, save its arrays as .safetensors where it was made"
        ) from None
    except MemoryError:
        raise WeightsError(f"{name}: the pickle asks for more memory than there is; the file is damaged") from None
    except Exception as error:  # damaged pickles raise nearly anything
        raise WeightsError(f"{name}: damaged or truncated pickle ({error}); get the file again") from None
