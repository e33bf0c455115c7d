"""Camera profiles as TOML: all that is in force, as a file that gives the same camera."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import tomlkit

from skylake.cameras.clock_times import iso_of_mjd
from skylake.cameras.profile import Profile
from skylake.cameras.unused_keys import keys_without_effect
from skylake.core.camera import Camera

#: The order of gates matters, so a period repeats all of them.
_WHOLE = ("gates",)


def to_toml(profile: Profile) -> str:
    """Return a resolved profile, with all its dated blocks, as TOML that loads as the same camera.

    Keys that have their default, and those that no step of the reduction uses, are comments.
    """
    cameras = [profile.base, *(period.camera for period in profile.periods)]
    unused = keys_without_effect(cameras)
    lines = list(_table("", profile.base, unused))
    for period in profile.periods:
        lines += ["", "[[period]]"]
        lines += [f"from = {_date(period.start)}"] if period.start > -1e9 else []
        lines += [f"until = {_date(period.end)}"] if period.end < 1e9 else []
        lines += _changes("", profile.base, period.camera)
    return "\n".join(lines) + "\n"


def camera_to_toml(camera: Camera) -> str:
    """Return a camera as it is in one period of its life as TOML, as :func:`to_toml` does for all."""
    return "\n".join(_table("", camera, keys_without_effect([camera]))) + "\n"


def _table(path: str, table: Any, unused: frozenset[str]) -> Iterator[str]:
    """Return the lines of a table, and of those below it."""
    below: list[tuple[str, Any]] = []
    for field in dataclasses.fields(table):
        value, name = getattr(table, field.name), _joined(path, field.name)
        if _is_table(value):
            below.append((name, value))
        elif value is not None:
            line = f"{field.name} = {text_of(value)}"
            yield f"# {line}" if value == field.default or value == _made(field) or name in unused else line
    for name, value in below:
        named = value.items() if isinstance(value, dict) else [("", value)]
        for key, inner in named if not isinstance(value, tuple) else ():
            place = _joined(name, key)
            yield from ("", f"[{place}]", *_table(place, inner, unused))
        for inner in value if isinstance(value, tuple) else ():
            yield from ("", f"[[{name}]]", *_table(name, inner, unused))


def _changes(path: str, base: Any, changed: Any) -> Iterator[str]:
    """Return lines, with dotted keys, for what is another in a dated block than outside."""
    if not dataclasses.is_dataclass(base) and not isinstance(base, dict):
        if base != changed:
            yield f"{path} = {text_of(changed)}"
        return
    for key, value in _values(changed).items():
        before, name = _values(base).get(key), _joined(path, key)
        if value == before or value is None:
            continue
        if before is None or name in _WHOLE:
            yield f"{name} = {text_of(value)}"
        else:
            yield from _changes(name, before, value)


def _values(table: Any) -> dict[str, Any]:
    if isinstance(table, dict):
        return table
    return {field.name: getattr(table, field.name) for field in dataclasses.fields(table)}


def _is_table(value: Any) -> bool:
    """Return whether a value has lines of its own: a dataclass, or several of them."""
    inside = list(value.values()) if isinstance(value, dict) else value
    some = inside[0] if isinstance(inside, list | tuple) and inside else inside
    return dataclasses.is_dataclass(some)


def _made(field: dataclasses.Field[Any]) -> Any:
    return None if field.default_factory is dataclasses.MISSING else field.default_factory()


def _joined(path: str, key: str) -> str:
    own = tomlkit.key(key).as_string() if key else ""
    return ".".join(filter(None, (path, own)))


def _date(mjd: float) -> str:
    return iso_of_mjd(mjd)[:10] if mjd == int(mjd) else f'"{iso_of_mjd(mjd)}"'


def text_of(value: Any) -> str:
    """Return a value as TOML writes it; tables stand on one line."""
    if dataclasses.is_dataclass(value):
        value = {key: inner for key, inner in _values(value).items() if inner is not None}
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_joined('', key)} = {text_of(inner)}" for key, inner in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(text_of, value))}]"
    return str(tomlkit.item(value).as_string())
