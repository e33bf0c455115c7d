"""``skylake calibrate --drop``: a version of the zeropoints goes, and the next one is in force."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from skylake.cli import show
from skylake.cli.outdated_tables import out_of_date, stale_aggregates
from skylake.core.counted import counted

if TYPE_CHECKING:
    from skylake.flow.zeropoints.calibrate_nights import Choice
    from skylake.lake import Lake

_NAMES = ("camera", "night", "catalog", "version", "in_force", "n_frames")


def show_dropped(lake: Lake, folder: Path, choice: Choice, version: int, is_dry: bool, as_json: bool) -> None:
    """Drop a version of the zeropoints of the chosen nights, or with `is_dry` show what would go."""
    from skylake.flow.zeropoints.drop_version import drop_version, plan_drop

    nights = plan_drop(lake, choice, version) if is_dry else drop_version(lake, choice, version)
    rows = [night.as_dict() for night in nights]
    stale = {} if is_dry else stale_aggregates(lake)

    def text() -> None:
        show.table([[row[name] for name in _NAMES] for row in rows], _NAMES)
        done = "would be dropped" if is_dry else "is dropped"
        click.echo(
            f"calibrate: version {version} of {counted(len(rows), 'night')} {done}; the version in_force follows it"
        )
        if stale:
            click.echo(f"calibrate: {out_of_date(stale, folder)}")

    show.result({"dropped": rows, "outdated": stale}, as_json, text)
