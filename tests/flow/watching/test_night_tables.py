"""The past that a night is compared with has a bounded number of nights, however many the lake has."""

from __future__ import annotations

from watching_sky import Sky

from skylake.core.sphere import healpix_index
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.watching.night_tables import DETECTED, past_nights, ranges_of


def test_the_past_is_the_last_nights_and_does_not_grow_with_the_lake(sky: Sky) -> None:
    ranges = ranges_of(healpix_index(sky.ra, sky.dec))
    ranges = ranges[ranges[:, 0].argsort()]

    def past(night: int, most: int) -> tuple[int, set[int]]:
        rows = past_nights(sky.lake.snapshot(), DETECTED, ranges, "lab", night, most=most)
        return rows.num_rows, set(rows["night"].to_pylist())

    few, nights = past(20240406, 2)
    assert nights == {20240404, 20240405}
    assert few == 2 * len(sky.ra)
    assert past(20240404, 2) == (few, {20240402, 20240403})
    sky.night(20240406)
    sky.night(20240407)
    sky.aggregate("lightcurves", "star_statistics")
    assert past(20240408, 2) == (few, {20240406, 20240407})
    # Files that hold these nights now hold the others too.
    compact(sky.lake, Inline())
    assert past(20240408, 2) == (few, {20240406, 20240407})
    assert past(20240408, 100)[0] == 7 * len(sky.ra)
