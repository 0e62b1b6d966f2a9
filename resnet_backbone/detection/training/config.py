"""Config files and KEY VALUE pairs into a Detectron2 config: a misspelt key or a wrong value is one sentence."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from resnet_backbone.detection.config import default_config
from resnet_backbone.engine.yaml_config import layers

ELEMENTS: dict[str, Sequence[Any]] = {
    "DATA.CLASSES": ["cat"], "DATASETS.TRAIN": ("my_data",), "DATASETS.TEST": ("my_data",),
    "MODEL.FPN.IN_FEATURES": ["res2"],
}  # fmt: skip
"""What stands in lists that are empty by default."""


@dataclass(frozen=True)
class ReadConfig:
    """A config, not frozen, and who said what.

    Attributes:
        cfg: the merged config.
        in_file: keys that the file (or a file it builds on) sets.
        given: keys of the KEY VALUE pairs.
    """

    cfg: CfgNode
    in_file: frozenset[str]
    given: frozenset[str]

    @property
    def explicit(self) -> frozenset[str]:
        """Keys that somebody set, whatever their value."""
        return self.in_file | self.given


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> ReadConfig:
    """Reads a YAML config with its `_BASE_`, then `overrides`: KEY VALUE KEY VALUE ..., which win.

    Raises:
        ValueError: no such file, no YAML mapping, an unknown key (names the nearest), a value of another type.
    """
    cfg, defaults = default_config(), default_config()
    values = _load(path, cfg)
    for key, value in values.items():
        _set(cfg, key, value, str(path), defaults)
    if len(overrides) % 2:
        raise ValueError(f"KEY VALUE pairs: {overrides[-1]!r} has no value behind it")
    pairs = dict(zip(overrides[::2], overrides[1::2], strict=True))
    for key, text in pairs.items():
        _check_key(key, cfg, "command line")
        _set(cfg, key, text if isinstance(value_of(cfg, key), str) else _decoded(text), "command line", defaults)
    return ReadConfig(cfg, frozenset(values), frozenset(pairs))


def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its value, as "SOLVER.BASE_LR"."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def value_of(cfg: CfgNode, key: str) -> Any:
    """`value_of(cfg, "SOLVER.BASE_LR")`."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def _load(path: str | Path, cfg: CfgNode) -> dict[str, Any]:
    """Every key that the file, or a file that it builds on, sets."""
    values: dict[str, Any] = {}
    for file, content in layers(path):
        own = dict(leaves(content))
        for key in own:
            _check_key(key, cfg, str(file))
        values |= own
    return values


def _check_key(key: str, cfg: CfgNode, where: str) -> None:
    known = [name for name, _ in leaves(cfg)]
    if key in known:
        return
    inside = [name for name in known if name.startswith(f"{key}.")]
    if inside:
        raise ValueError(f"{where}: {key} is a group of keys; set one of them, as {inside[0]}")
    raise ValueError(f"{where}: unknown key {key!r}; {_nearest(key, known)}")


def _nearest(key: str, known: Collection[str]) -> str:
    last = key.split(".")[-1]
    same_name = [name for name in known if name.split(".")[-1] == last]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.7) or same_name[:1]
    near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    if not near and key.islower():
        return "a classifier's recipe is for tools/pretrain_imagenet.py; detectors' keys are upper-case"
    return f"did you mean {near[0]!r}?" if near else "Detectron2's config reference and README.md name the keys"


def _decoded(text: str) -> Any:
    """As yacs reads it: a Python literal, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)


def _set(cfg: CfgNode, key: str, value: Any, where: str, defaults: CfgNode) -> None:
    """Sets one key, lists and tuples alike, whole numbers as floats where a float stands."""
    *path, last = key.split(".")
    node = value_of(cfg, ".".join(path)) if path else cfg
    fitted = _fit(node[last], value, f"{where}: {key}")
    example = ELEMENTS.get(key, value_of(defaults, key))
    if isinstance(example, (list, tuple)) and example:
        _check_elements(example, fitted, f"{where}: {key}")
    node[last] = fitted


def _check_elements(example: Sequence[Any], value: Sequence[Any], where: str) -> None:
    """Elements are numbers, texts or truth values as in `example`, and lie no deeper in lists."""
    kind, depth = _kinds_and_depth(example)
    kinds, deep = _kinds_and_depth(value)
    if not kinds <= kind or deep > depth:
        names = {float: "numbers", bool: "True or False", str: "text"}
        raise ValueError(f"{where} is {value!r:.60}, but must hold {names[min(kind, key=str)]} (as {example!r:.60})")


def _kinds_and_depth(value: Any) -> tuple[set[type], int]:
    """The kinds of all elements, whole numbers and floats being one, and how deep they lie."""
    if isinstance(value, (list, tuple)):
        inside = [_kinds_and_depth(one) for one in value]
        return {kind for kinds, _ in inside for kind in kinds}, 1 + max((depth for _, depth in inside), default=0)
    return {float if type(value) is int else type(value)}, 0


def _fit(present: Any, value: Any, where: str) -> Any:
    kind = type(present)
    # YAML 1.1 reads 1e-4, without a point, as text; yacs reads (1, 2) in quotes as a tuple.
    if isinstance(value, str) and kind is not str:
        value = _decoded(value)
    if present is None or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (list, tuple) and isinstance(value, (list, tuple)):
        return kind(value)
    if kind is tuple and isinstance(value, str):
        return (value,)  # DATASETS.TRAIN my_data
    if kind is tuple and isinstance(value, int) and not isinstance(value, bool):
        return (value,)  # INPUT.MIN_SIZE_TRAIN 320
    names = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}
    raise ValueError(f"{where} is {value!r}, but it must be {names.get(kind, 'a list')} (as {present!r})")
