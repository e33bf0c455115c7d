"""Values that a frame wants in the profile of its camera, in words that a person can follow and a report can count."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

_PAIR = r"[a-z_]+(?:\.[a-z_]+)+ = [-\w.+]+"
_TOLD = re.compile(rf"\bset ({_PAIR}(?: and {_PAIR})*) in the profile\b")


def correction(values: Mapping[str, float | bool]) -> str:
    """Return the advice to give keys of a profile other values."""
    return f"set {' and '.join(f'{key} = {_literal(value)}' for key, value in values.items())} in the profile"


def corrections_in(message: str | None) -> dict[str, Any]:
    """Return the keys and values of the advice that a message has; none if it has none."""
    told = _TOLD.search(message or "")
    if told is None:
        return {}
    found = (pair.partition(" = ") for pair in told.group(1).split(" and "))
    return {key: tomllib.loads(f"value = {value}")["value"] for key, _, value in found}


def _literal(value: float | bool) -> str:
    """Return a value as it stands in a profile; numbers with the four digits that stars tell at once."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value) if isinstance(value, int) else f"{value:.4g}"
    return text if isinstance(value, int) or set(text) & set(".e") else f"{text}.0"
