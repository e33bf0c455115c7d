from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from skylake.errors import UsageError
from skylake.flow.aggregates import aggregate, outdated
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.zeropoints.calibrate_nights import Choice, calibrate
from skylake.flow.zeropoints.drop_version import drop_version
from skylake.lake import Lake

pytestmark = pytest.mark.xdist_group("lsdb")

FIRST, SECOND = 20241001, 20241002


def in_force(lake: Lake) -> dict[int, int]:
    with lake.snapshot().duckdb() as connection:
        return dict(connection.execute("SELECT DISTINCT night, version FROM zeropoints_in_force").fetchall())


def test_a_dropped_trial_leaves_the_lake_as_it_was_before(
    calibrated: Lake, checksums: Callable[..., Any]
) -> None:
    aggregate(calibrated, ["nights"], Inline())
    before = checksums(calibrated, "matches", "zeropoints")
    calibrate(calibrated, Inline(), choice=Choice(version=2, first_night=SECOND))
    compact(calibrated, Inline(), everything=True)
    assert outdated(calibrated)["nights"].nights == {SECOND}
    (night,) = drop_version(calibrated, Choice(), 2)
    assert (night.night, night.in_force, night.n_frames) == (SECOND, 1, 6)
    assert checksums(calibrated, "matches", "zeropoints") == before
    assert not outdated(calibrated)["nights"].nights


def test_the_largest_of_the_other_versions_is_in_force(calibrated: Lake) -> None:
    for version in (2, 3):
        calibrate(calibrated, Inline(), version=version)
    drop_version(calibrated, Choice(last_night=FIRST), 3)
    assert in_force(calibrated) == {FIRST: 2, SECOND: 3}
    drop_version(calibrated, Choice(first_night=SECOND), 1)
    assert in_force(calibrated) == {FIRST: 2, SECOND: 3}


def test_no_night_is_left_without_zeropoints(calibrated: Lake) -> None:
    calibrate(calibrated, Inline(), choice=Choice(version=2, first_night=SECOND))
    number = calibrated.snapshot().number
    with pytest.raises(UsageError, match=f"version 1 is the only one of 1 night from {FIRST} on"):
        drop_version(calibrated, Choice(), 1)
    with pytest.raises(UsageError, match="version 2 has no zeropoints of the nights that are chosen"):
        drop_version(calibrated, Choice(last_night=FIRST), 2)
    assert calibrated.snapshot().number == number
    drop_version(calibrated, Choice(first_night=SECOND), 1)
    assert in_force(calibrated) == {FIRST: 1, SECOND: 2}
