"""Values that a frame needs in the profile of its camera: as data for reports, and as advice in words."""

from __future__ import annotations

from collections.abc import Mapping

from skylake.errors import Corrections


def corrections_of(values: Mapping[str, float | bool]) -> Corrections:
    """Return keys of a profile with the values that they should have: numbers with the digits that the advice has."""
    return {
        key: value if isinstance(value, (bool, int)) else float(f"{value:.4g}")
        for key, value in values.items()
    }


def correction(values: Corrections) -> str:
    """Return the advice to give keys of a profile other values."""
    return f"set {' and '.join(f'{key} = {_literal(value)}' for key, value in values.items())} in the profile"


def _literal(value: float | bool) -> str:
    """Return a value as it stands in a profile; numbers with the four digits that stars give at once."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value) if isinstance(value, int) else f"{value:.4g}"
    return text if isinstance(value, int) or set(text) & set(".e") else f"{text}.0"
