"""Corrections of a camera profile that messages of frames ask for."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from skylake.core.camera import Camera

_PAIR = r"[a-z_]+(?:\.[a-z_]+)+ = [-\w.+]+"
_CORRECTION = re.compile(rf"\bset ({_PAIR}(?: and {_PAIR})*) in the profile\b")
#: A camera of which nothing is known has the keys of all.
_ANY = Camera("any")


def correction(values: Mapping[str, float | bool]) -> str:
    """Return the advice to give keys of a profile other values."""
    return f"set {' and '.join(f'{key} = {_literal(value)}' for key, value in values.items())} in the profile"


def corrections_in(message: str | None) -> dict[str, Any]:
    """Return the keys and values of the advice that a message has; none if it has none.

    A message may quote a header, so what is no key of a profile, or no value that one can have, is no advice.
    """
    match = _CORRECTION.search(message or "")
    if match is None:
        return {}
    corrections = {
        key: _value(text)
        for key, _, text in (entry.partition(" = ") for entry in match.group(1).split(" and "))
    }
    return (
        corrections if all(_is_key(key) and value is not None for key, value in corrections.items()) else {}
    )


def _value(text: str) -> int | float | bool | str | None:
    """Return a value of a profile; None if it cannot be one."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        return None
    if not isinstance(value, (int, float, str)) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value


def _is_key(key: str) -> bool:
    """Return whether a profile has a key."""
    part: Any = _ANY
    for name in key.split("."):
        if not is_dataclass(part) or name not in {field.name for field in fields(part)}:
            return False
        part = getattr(part, name)
    return not is_dataclass(part)


def _literal(value: float | bool) -> str:
    """Return a value as it stands in a profile; numbers with the four digits that stars give at once."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value) if isinstance(value, int) else f"{value:.4g}"
    return text if isinstance(value, int) or set(text) & set(".e") else f"{text}.0"
