"""Frozen dataclasses from declarations: TOML tables in, values out, with one sentence for what is wrong."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from skylake.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Value = TypeVar("Value")


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a file of declarations says.

    Raises
    ------
    ConfigurationError
        If it is no TOML.
    OSError
        If it cannot be read.
    """
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from error
    except RecursionError:
        raise ConfigurationError(
            f"{path}: its lists or tables are nested too deeply to be read; write them as the documentation shows"
        ) from None


def adapter(kind: type[Value]) -> TypeAdapter[Value]:
    """Return what reads and writes a dataclass, made once: that takes longer than to read any value with it."""
    wanted: Any = kind
    made: TypeAdapter[Value] = _adapter(wanted)
    return made


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def build(kind: type[Value], data: Mapping[str, Any], place: str) -> Value:
    """Return a dataclass made from nested tables.

    Parameters
    ----------
    kind : type
        The dataclass.
    data : mapping
        Its fields; missing ones take their defaults.
    place : str
        Where the declaration stands, for messages.

    Raises
    ------
    ConfigurationError
        For a key that no field has, with the nearest that one has, or a value of the wrong type.
    """
    from pydantic import ValidationError

    _refuse_unknown(data, kind, place, "")
    try:
        return adapter(kind).validate_python(dict(data))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{place}: {key}: {first['msg'].lower()}") from error


def _refuse_unknown(data: Mapping[str, Any], kind: Any, place: str, prefix: str) -> None:
    """Raise for keys that no field has, down through nested tables."""
    hints = _hints(kind)
    for key, value in data.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, 1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"the keys here are {', '.join(hints)}"
            raise ConfigurationError(f"{place}: {prefix}{key}: there is no such key; {hint}")
        inner = _dataclass_of(hints[key])
        if inner is None:
            continue
        for name, table in _tables(hints[key], key, value):
            _refuse_unknown(table, inner, place, f"{prefix}{name}.")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    """Return the types of the fields of a dataclass."""
    return typing.get_type_hints(kind)


def _dataclass_of(hint: Any) -> Any:
    """Return the dataclass inside a hint such as X, X | None, tuple[X, ...] or dict[str, X]."""
    if dataclasses.is_dataclass(hint):
        return hint
    for argument in typing.get_args(hint):
        if argument is not types.NoneType and (found := _dataclass_of(argument)) is not None:
            return found
    return None


def _tables(hint: Any, key: str, value: Any) -> list[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, list):
        return [(f"{key}[{i}]", item) for i, item in enumerate(value) if isinstance(item, dict)]
    if not isinstance(value, dict):
        return []
    if typing.get_origin(hint) is dict:
        return [(f"{key}.{name}", item) for name, item in value.items() if isinstance(item, dict)]
    return [(key, value)]
