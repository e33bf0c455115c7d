from __future__ import annotations

from pathlib import Path

from skylake.cli.outdated_tables import out_of_date


def test_tables_with_the_same_nights_are_named_together() -> None:
    stale = {"nights": [20241001], "maps": [20241001], "photometric_nights": [20241001, 20241003]}
    assert out_of_date(stale, Path("my lake")) == (
        "out of date now: nights, maps of night 20241001; photometric_nights of 2 nights from 20241001 to 20241003; "
        "`skylake aggregate 'my lake'` makes them anew"
    )
