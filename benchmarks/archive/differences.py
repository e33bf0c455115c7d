"""What tells two simulations of tables apart, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skylake.errors import LakeError
from skylake.lake import Lake, Part
from skylake.lake.commits.ledger import read_configuration


def differences(lake: Lake, part: Part | None, wanted: Mapping[str, Any]) -> str:
    """Return what differs from the simulation that a part was made with, as the end of a sentence.

    Parameters
    ----------
    lake : Lake
        Its ledger keeps the configuration of every simulation.
    part : Part or None
        Of ``frames``; without one, or where the ledger has lost its configuration, nothing is told.
    wanted : mapping
        The configuration that is asked for.
    """
    sha256 = "" if part is None else part.inputs.get("simulation", "")
    try:
        held = _flat(read_configuration(lake.layout, sha256)) if sha256 else {}
    except LakeError:
        return ""
    asked = _flat(wanted)
    told = [
        f"{name} is {asked.get(name)} and was {held.get(name)}"
        for name in sorted(held.keys() | asked.keys())
        if held and _plain(held.get(name)) != _plain(asked.get(name))
    ]
    return f" ({', '.join(told)})" if told else ""


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return values of inner tables under dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[before + name] = value
    return found


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back: without tuples."""
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
