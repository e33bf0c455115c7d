"""Which tables a command has left out of date, in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skylake.core.counted import counted

if TYPE_CHECKING:
    from skylake.lake import Lake


def stale_aggregates(lake: Lake) -> dict[str, list[int]]:
    """Return the nights of each aggregate that are to be made anew."""
    from skylake.flow.aggregates.stale_parts import outdated

    states = outdated(lake)
    return {name: sorted(state.nights) for name, state in states.items() if state.nights}


def out_of_date(stale: Mapping[str, Sequence[int]], lake: Path) -> str:
    """Return which tables are out of date in which nights, and the command that makes them anew."""
    tables: dict[tuple[int, ...], list[str]] = {}
    for name, nights in stale.items():
        tables.setdefault(tuple(nights), []).append(name)
    groups = "; ".join(f"{', '.join(names)} of {_span(nights)}" for nights, names in tables.items())
    return f"out of date now: {groups}; `skylake aggregate {shlex.quote(str(lake))}` makes them anew"


def _span(nights: Sequence[int]) -> str:
    """Return some nights in words."""
    first, last = nights[0], nights[-1]
    return f"night {first}" if first == last else f"{counted(len(nights), 'night')} from {first} to {last}"
