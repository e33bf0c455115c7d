"""Targets of a lake that has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]


def test_a_backfill_needs_targets(new_lake: Path, lake: Path, well: Run, skylake_command: Run) -> None:
    assert well("backfill", new_lake, "--cluster", "inline").out == "backfill: no camera has targets\n"
    answer = skylake_command("backfill", lake, "--camera", "small", "--cluster", "inline")
    assert answer.status == 3
    assert answer.sentence == f"{lake}: small has no list of targets; `skylake targets` makes one"
