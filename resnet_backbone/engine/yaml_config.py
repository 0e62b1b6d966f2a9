"""YAML files, what they build on, and KEY VALUE pairs into a frozen dataclass, strictly: nothing is ignored or bent."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

C = TypeVar("C")


BASE = "_BASE_"
"""The key under which a file names the file, or the files, that it builds on; Detectron2's word."""


def read_config(kind: type[C], path: str | Path, overrides: Sequence[str] = ()) -> C:
    """Reads `path`, over the files it builds on, into a `kind`; `overrides` are KEY VALUE KEY VALUE ... and win.

    Raises:
        ValueError: as `layers`; an unknown key (names the nearest), a value of another type, a key that is missing.
    """
    values: dict[str, Any] = {}
    for file, content in layers(path):
        values |= _checked(kind, content, str(file))
    made = make_config(kind, values, str(path))
    return with_values(made, overrides)


def with_values(made: C, overrides: Sequence[str]) -> C:
    """A config with KEY VALUE KEY VALUE ... in place of its own.

    Raises:
        ValueError: as `read_config`.
    """
    if len(overrides) % 2:
        raise ValueError(f"KEY VALUE pairs: {overrides[-1]!r} has no value")
    hints = typing.get_type_hints(type(made))
    given = {key: _parsed(hints.get(key), key, text) for key, text in zip(overrides[::2], overrides[1::2], strict=True)}
    return make_config(type(made), {**dataclasses.asdict(made), **given}, "command line") if given else made  # type: ignore[call-overload]


def _parsed(hint: Any, key: str, text: str) -> Any:
    """A value of the command line; of text the word itself, in which YAML would see comments and mappings."""
    if hint is str and not text.startswith(('"', "'")):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise ValueError(f"command line: {key} is {text!r}, which is not readable as YAML: {said}") from None


def layers(path: str | Path, above: tuple[Path, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """A YAML file and what it builds on, each with its own keys: the lowest first, whose values the next ones win over.

    Args:
        above: files that build on this one.

    Raises:
        ValueError: no such file, no YAML mapping, or a file that builds on itself.
    """
    path = Path(path)
    if path.resolve() in above:
        raise ValueError(f"{path}: builds on itself by {BASE}; take the {BASE} out of one of the files")
    content = _content(path)
    named = content.pop(BASE, None) or []
    bases = [named] if isinstance(named, str) else named
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ValueError(f"{path}: {BASE} is {named!r}, but it must be a file's name, or a list of them")
    below = [layers(path.parent / os.path.expanduser(base), (*above, path.resolve())) for base in bases]
    return [*(layer for several in below for layer in several), (path, content)]


def _content(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such config file{_neighbour(path)}") from None
    except yaml.constructor.ConstructorError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ValueError(
            f"{path}: holds a tag that would run Python code (line {line}), and is not run; write the values themselves"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a config is a mapping of keys to values, not {type(content).__name__}")
    return content


def _neighbour(path: Path) -> str:
    near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], n=1)
    return f"; did you mean {path.with_name(near[0])}?" if near else ""


def make_config(kind: type[C], values: dict[str, Any], where: str) -> C:
    """A `kind` of `values`, each checked against the field's type.

    Raises:
        ValueError: as `read_config`; `where` stands in front.
    """
    checked = _checked(kind, values, where)
    missing = [f.name for f in dataclasses.fields(kind) if _required(f) and f.name not in checked]  # type: ignore[arg-type]
    if missing:
        raise ValueError(f"{where}: key {missing[0]!r} is missing")
    return kind(**checked)


def _checked(kind: type[C], values: dict[str, Any], where: str) -> dict[str, Any]:
    """The values as the fields' types ask for them."""
    hints = typing.get_type_hints(kind)
    checked = {}
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1, cutoff=0.5)
            where_to_look = f"{kind.__module__.replace('.', '/')}.py explains all"
            hint = f"did you mean {near[0]!r}?" if near else where_to_look
            raise ValueError(f"{where}: unknown key {key!r}; {hint}")
        try:
            checked[key] = _fit(hints[key], value)
        except TypeError as error:
            raise ValueError(f"{where}: {key} is {value!r}, but {error}") from None
    return checked


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _fit(hint: Any, value: Any) -> Any:
    """`value` as the type asks, lists as tuples and whole numbers as floats; TypeError says what is wanted."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _fit(next(a for a in arguments if a is not type(None)), value)
    if origin is typing.Literal:
        if value not in arguments:
            raise TypeError(f"it must be one of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise TypeError("it must be a list, as [3, 4]")
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise TypeError(f"it must have {len(arguments)} entries")
        return tuple(_fit(arguments[0], entry) for entry in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # YAML 1.1 reads 1e-4, without a point, as text.
    if hint is float and isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise TypeError("it must be a number") from None
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise TypeError("it must be a finite number")
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise TypeError(f"it must be {names.get(hint, hint.__name__)}")
    return value
