"""Injected signals are found in a lake, with the errors that the table states."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from season_rows import Season

import skylake
from skylake.errors import LakeError, UsageError
from skylake.flow.curves.curve_tables import CurveTableReport
from skylake.flow.curves.detrend_field import DetrendChoice
from skylake.flow.curves.detrend_lake import detrend_lake
from skylake.flow.curves.field_blocks import CurveSource
from skylake.flow.curves.find_periods import PeriodSearch, find_periods
from skylake.flow.execution.cluster import Inline
from skylake.lake import Lake
from skylake.sky.sky_region import SkyRegion

DETECTED = CurveSource("detected")
DETRENDED = replace(DETECTED, detrended="detrended")
TRANSIT_BJD = 2460554.7


@pytest.fixture(scope="module")
def own(season: Season, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A copy of the lake that tests of this file write to, with detrended light curves of the signals and others."""
    lake = Lake(shutil.copytree(season.lake.root, tmp_path_factory.mktemp("periods") / "lake", symlinks=True))
    near = SkyRegion.of_cone(0.0, 0.0, 1.2)
    detrend_lake(lake, "detrended", DETECTED, near, DetrendChoice(n_templates=0, n_effects=0), Inline())
    return lake


def find(lake: Lake, name: str, region: SkyRegion | None, **options: object) -> CurveTableReport:
    source = options.pop("source", DETRENDED)
    return find_periods(lake, name, source, region, PeriodSearch(**options), Inline())  # type: ignore[arg-type]


def rows_of(lake: Lake, name: str) -> pd.DataFrame:
    return skylake.open(lake.root)[name].pandas().set_index("object_id").sort_index()


def test_the_wave_is_found_among_detrended_curves(own: Lake, season: Season) -> None:
    made = find(own, "periods", SkyRegion.whole())
    rows = rows_of(own, "periods")
    assert made.n_rows == len(rows) == len(rows_of(own, "detrended")) > 40
    wave = rows.loc[1]
    assert wave.false_alarm < 1e-20
    assert abs(wave.period_d - season.wave_period) < 4 * wave.period_err_d < 0.01
    assert abs(wave.depth - 2 * season.wave_amplitude) < 4 * wave.depth_err
    # The sine rises from MJD 0 on: brightest three quarters of a period later, in magnitudes; BJD is minutes off.
    site_to_sun_d = rows_of(own, "detrended").loc[1].lightcurve["bjd_tdb"][0] - 2400000.5 - season.mjd[0]
    turns = (wave.epoch_bjd - site_to_sun_d - 2400000.5) / season.wave_period - 0.75
    assert abs(turns - np.round(turns)) * season.wave_period < 4 * wave.epoch_err_d
    quiet = rows.drop(index=[1, 2], errors="ignore")
    assert (quiet.false_alarm > 1e-4).mean() > 0.9
    assert rows.duration_d.isna().all() and set(rows.method) == {"ls"}


def test_the_transit_is_found_by_boxes(own: Lake, season: Season) -> None:
    cone = SkyRegion.of_cone(season.ra[1], season.dec[1], 0.01)
    detrend_lake(own, "one", DETECTED, cone, DetrendChoice(n_templates=0, n_effects=0), Inline())
    source = replace(DETECTED, detrended="one")
    options = {"method": "bls", "shortest_days": 0.8, "longest_days": 3.0, "durations_days": (0.1, 0.15)}
    find(own, "boxes", cone, source=source, **options)
    box = rows_of(own, "boxes").loc[2]
    assert box.method == "bls" and box.power > 8 and box.false_alarm < 1e-8
    assert box.period_d == pytest.approx(season.box_period, rel=0.01)
    assert box.depth == pytest.approx(season.box_depth, rel=0.25)
    turns = (box.epoch_bjd - TRANSIT_BJD) / season.box_period
    assert abs(turns - np.round(turns)) * season.box_period < 0.03
    assert box.duration_d == pytest.approx(season.box_duration, rel=0.4)


def test_light_curves_as_calibrated_are_searched_too(own: Lake, season: Season) -> None:
    cone = SkyRegion.of_cone(season.ra[0], season.dec[0], 0.3)
    find(own, "raw", cone, source=DETECTED)
    rows = rows_of(own, "raw")
    assert set(rows.index) == set(np.flatnonzero(cone.holds(season.ra, season.dec)) + 1)
    # Trends are noise to it that detrended light curves lack.
    near = find(own, "near", cone)
    assert near.n_rows == len(rows) and rows.loc[1].depth_err > 2 * rows_of(own, "near").loc[1].depth_err


def test_a_table_is_made_again_only_where_it_would_differ(own: Lake) -> None:
    cone = SkyRegion.of_cone(0.0, 0.0, 0.5)
    assert find(own, "again", cone).made and not find(own, "again", cone).made
    with pytest.raises(UsageError, match="--replace"):
        find(own, "again", cone, longest_days=10.0)
    with pytest.raises(UsageError, match="that `skylake periods` has not made"):
        find(own, "detrended", cone)


def test_what_cannot_be_searched(own: Lake) -> None:
    with pytest.raises(LakeError, match="no star varies beyond noise"):
        find(own, "x", None)
    with pytest.raises(UsageError, match="no table 'curves' of detrended light curves"):
        find(own, "x", SkyRegion.whole(), source=replace(DETECTED, detrended="curves"))
    with pytest.raises(UsageError, match="are no range"):
        PeriodSearch(shortest_days=3.0, longest_days=2.0)
    with pytest.raises(UsageError, match="is not shorter than a period"):
        PeriodSearch("bls", 0.1, 2.0)
