"""Light curves of frames that no catalog places: their errors, and what commands make of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest
from unplaced_rows import (
    AMPLITUDE_MAG,
    FRAMES_PER_NIGHT,
    N_NIGHTS,
    PERIOD_D,
    SCINTILLATION_MAG,
    VARIABLE,
    Unplaced,
)

import skylake
from skylake.core.flags import SourceFlag
from skylake.flow.curves.detrend_field import DetrendChoice
from skylake.flow.curves.detrend_lake import detrend_lake
from skylake.flow.curves.field_blocks import CurveSource
from skylake.flow.curves.find_periods import PeriodSearch, find_periods
from skylake.flow.execution.cluster import Inline
from skylake.lake import Lake
from skylake.lake.access.curve_rows import points_of
from skylake.lake.access.relative_curves import relative_cameras, relative_curves
from skylake.sky.sky_region import SkyRegion

pytestmark = pytest.mark.full
N_FRAMES = N_NIGHTS * FRAMES_PER_NIGHT
SOURCE, WHOLE_SKY = CurveSource("relative"), SkyRegion.whole()


@pytest.fixture(scope="module")
def own(unplaced: Unplaced, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A copy of the lake that tests of this file write to."""
    root = tmp_path_factory.mktemp("relative") / "lake"
    return Lake(Path(shutil.copytree(unplaced.lake.root, root, symlinks=True)))


def test_errors_have_a_floor_so_that_constant_stars_scatter_by_their_errors_at_all_magnitudes(
    unplaced: Unplaced,
) -> None:
    query = "SELECT * FROM relative_lightcurve_points WHERE flags = 512 AND mag IS NOT NULL"
    points = skylake.open(unplaced.lake.root).sql(query).pandas()
    of_star = points.groupby(["base_frame_id", "star_no"]).mag
    n, off = of_star.transform("count"), points.mag - of_star.transform("median")
    photons = np.hypot(1.0857362 * points.flux_err / points.flux, points.zp_err)
    kept = n > 0.8 * N_FRAMES
    kept &= of_star.transform("std") < 0.5 * AMPLITUDE_MAG / np.sqrt(2.0)
    off = (off / np.sqrt(1.0 - 1.0 / n))[kept]
    without_floor, pulls = [], []
    for _, mine in off.groupby(pd.qcut(photons[kept], 4, labels=False)):
        assert len(mine) > 600
        for found, error in ((pulls, points.mag_err), (without_floor, photons)):
            found.append(1.4826 * float((mine / error[mine.index]).abs().median()))
    assert all(0.85 < pull < 1.15 for pull in pulls), pulls
    assert without_floor[0] > 2.0, "at the bright end photons explain less than half"
    floor = np.sqrt((points.mag_err**2 - photons**2).median())
    assert floor == pytest.approx(SCINTILLATION_MAG, rel=0.15)


def test_each_star_of_a_field_has_a_relative_curve(unplaced: Unplaced) -> None:
    snapshot = unplaced.lake.snapshot()
    rows, again = relative_curves(snapshot), relative_curves(snapshot)
    assert rows is again, "the view is not asked twice"
    assert rows.num_rows == len(pc.unique(rows["object_id"])) and rows.num_rows >= 0.9 * len(unplaced.x)
    assert set(rows["catalog"].to_pylist()) == {"sources"} and set(rows["band"].to_pylist()) == {"V"}
    points = points_of(rows)
    flags = points["flags"].to_numpy()
    assert not (flags & int(SourceFlag.FRAME_REJECTED)).any() and (flags == 0).mean() > 0.8
    delay = points["bjd_tdb"].to_numpy() - 2_400_000.5 - points["mjd_mid"].to_numpy()
    assert 0.0 < np.abs(delay).max() < 600.0 / 86400.0
    assert relative_cameras(snapshot) == ["narrow"]


@pytest.mark.parametrize("detrended", [None, "detrended"])
def test_periods_are_found_in_relative_curves_detrended_or_not(own: Lake, detrended: str | None) -> None:
    if detrended:
        choice = DetrendChoice(n_templates=0, n_effects=0)
        made = detrend_lake(own, detrended, SOURCE, WHOLE_SKY, choice, Inline())
        assert made.n_rows > 80
        (measured,) = set(own.snapshot().read(detrended, ["measured"])["measured"].to_pylist())
        assert measured == "relative"
    source = CurveSource("relative", detrended=detrended)
    name = f"periods_{detrended}"
    report = find_periods(own, name, source, WHOLE_SKY, PeriodSearch(longest_days=2.0), Inline())
    assert report.made and report.n_rows > 80
    rows = own.snapshot().read(name).to_pandas().sort_values("false_alarm")
    best = rows.iloc[0]
    assert best.period_d == pytest.approx(PERIOD_D, rel=0.01)
    assert best.depth == pytest.approx(AMPLITUDE_MAG, rel=0.1)
    assert rows.iloc[1].false_alarm > 1e6 * best.false_alarm
    # The same request again changes nothing.
    assert not find_periods(own, name, source, WHOLE_SKY, PeriodSearch(longest_days=2.0), Inline()).made


def test_the_variable_star_is_at_its_place(unplaced: Unplaced) -> None:
    query = """SELECT r.star_no, stddev(r.mag) AS scatter, any_value(b.x_px) AS x, any_value(b.y_px) AS y
        FROM relative_lightcurve_points r JOIN sources b ON b.frame_id = r.base_frame_id AND b.source_no = r.star_no
        WHERE r.mag_err < 0.02 GROUP BY ALL HAVING count(*) > 30 ORDER BY scatter DESC LIMIT 1"""
    (row,) = skylake.open(unplaced.lake.root).sql(query).pandas().to_dict("records")
    assert np.hypot(row["x"] - unplaced.x[VARIABLE], row["y"] - unplaced.y[VARIABLE]) < 5.0
