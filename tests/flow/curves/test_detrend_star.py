"""One star is detrended when its light curve is read, with its signal fitted beside the trends."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
from season_rows import STARS, WHITE_MAG, Season

import skylake
from skylake.errors import LakeError, UsageError
from skylake.flow.curves.detrend_field import METHODS, DetrendChoice
from skylake.flow.curves.detrend_lake import detrend_lake
from skylake.flow.curves.field_blocks import CurveSource
from skylake.flow.execution.cluster import Inline
from skylake.lake import Lake
from skylake.reading.reader import LakeReader
from skylake.sky.sky_region import SkyRegion

TRANSIT_EPOCH = 2460554.7


@pytest.fixture(scope="module")
def lake(season: Season) -> LakeReader:
    return skylake.open(season.lake.root)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_takes_trends_off(lake: LakeReader, method: str) -> None:
    curve = lake.lightcurve(60, detrend=method)
    points = curve.pandas()
    assert points.mag_raw.std() > 4 * WHITE_MAG
    assert 0.85 < points.mag.std() / WHITE_MAG < (3.0 if method == "ensemble" else 1.3)
    (band,) = curve.detrended
    assert band["detrended"] == method and band["n_stars"] == STARS
    assert curve.pandas().attrs.get("units", {}).get("mag_raw", "mag") == "mag"


def test_a_wave_is_found_or_given_and_stays_whole(lake: LakeReader, season: Season) -> None:
    (found,) = lake.lightcurve(1, detrend="joint").detrended
    (given,) = lake.lightcurve(1, detrend="joint", period_d=season.wave_period).detrended
    assert found["period_d"] == pytest.approx(season.wave_period, rel=0.01)
    for band in (found, given):
        assert abs(band["amplitude"] - 2 * season.wave_amplitude) < 4 * band["amplitude_err"]
        # White noise of the frames allows for 0.73 mmag, and the terms beside it take some.
        assert band["amplitude_err"] < 3 * WHITE_MAG * np.sqrt(8 / 240)


def test_a_transit_keeps_its_depth(lake: LakeReader, season: Season) -> None:
    known: dict[str, Any] = {"period_d": season.box_period, "epoch_bjd": TRANSIT_EPOCH}
    curve = lake.lightcurve(2, detrend="joint", duration_d=season.box_duration, **known)
    (band,) = curve.detrended
    assert abs(band["amplitude"] - season.box_depth) < 4 * band["amplitude_err"] < 0.2 * season.box_depth
    points = curve.pandas()
    inside = np.minimum(points.phase, 1 - points.phase) * season.box_period < 0.4 * season.box_duration
    depth = points.mag[inside].mean() - points.mag[~inside].mean()
    assert depth == pytest.approx(season.box_depth, rel=0.15)


def test_a_transit_that_nobody_knows_is_found_and_keeps_its_depth(lake: LakeReader, season: Season) -> None:
    curve = lake.lightcurve(2, detrend="joint", period_d=None)
    (band,) = curve.detrended
    assert band["signal"] == "box" and band["period_d"] == pytest.approx(3 * season.box_period, rel=0.01)
    assert abs(band["amplitude"] - season.box_depth) < 4 * band["amplitude_err"] < 0.3 * season.box_depth
    points = curve.pandas()
    away = (
        points.bjd_tdb - TRANSIT_EPOCH + 0.5 * season.box_period
    ) % season.box_period - 0.5 * season.box_period
    inside = np.abs(away) < 0.4 * season.box_duration
    depth = points.mag[inside].mean() - points.mag[~inside].mean()
    assert depth == pytest.approx(season.box_depth, rel=0.15)


def test_one_night_has_ensemble_magnitudes_and_says_so(lake: LakeReader, season: Season) -> None:
    curve = lake.lightcurve(2, detrend="joint", start=20240903)
    (band,) = curve.detrended
    assert (
        band["detrended"] == "ensemble"
        and "joint needs 5 nights" in band["reason"]
        and "has 4 and 160" in band["reason"]
    )
    plain = lake.lightcurve(2, detrend="ensemble", start=20240903)
    np.testing.assert_array_equal(curve.pandas().mag, plain.pandas().mag)
    # The advice: a known signal is fitted whatever the number of nights.
    known: dict[str, Any] = {"period_d": season.box_period, "epoch_bjd": TRANSIT_EPOCH}
    advised = lake.lightcurve(2, detrend="joint", start=20240903, duration_d=season.box_duration, **known)
    assert advised.detrended[0]["detrended"] == "joint" and "reason" not in advised.detrended[0]


def test_the_table_is_read_where_it_has_the_star(season: Season, lake: LakeReader, tmp_path: Any) -> None:
    own = Lake(shutil.copytree(season.lake.root, tmp_path / "lake", symlinks=True))
    cone = SkyRegion.of_cone(season.ra[0], season.dec[0], 0.1)
    detrend_lake(own, "detrended", CurveSource("detected"), cone, DetrendChoice(n_templates=0), Inline())
    stored = skylake.open(own.root)
    here, there = stored.lightcurve(1, detrend="joint"), lake.lightcurve(1, detrend="joint")
    assert here.detrended[0]["table"] == "detrended" and "table" not in there.detrended[0]
    assert "table" not in stored.lightcurve(100, detrend="joint").detrended[0]
    assert "table" not in stored.lightcurve(1, detrend="joint", period_d=0.7311).detrended[0]
    # Trend filtering was not asked for, so the table does not have it.
    assert "table" not in stored.lightcurve(1, detrend="tfa").detrended[0]
    np.testing.assert_allclose(here.pandas().mag, there.pandas().mag, atol=0.5 * WHITE_MAG)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"detrend": "spline"}, UsageError, "detrend is one of ensemble"),
        ({"duration_d": 0.1}, UsageError, "detrend='joint'"),
        ({"detrend": "joint", "duration_d": 0.1}, UsageError, "add period_d"),
        ({"detrend": "joint", "duration_d": 0.1, "period_d": 1.0}, UsageError, "add --epoch"),
        ({"detrend": "epd", "start": 20240906}, LakeError, "has 40 good measurements by sim in V"),
    ],
)
def test_what_cannot_be_detrended(lake: LakeReader, options: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        lake.lightcurve(3, **options)


def test_the_advice_for_few_measurements_helps(lake: LakeReader) -> None:
    curve = lake.lightcurve(3, detrend="ensemble", start=20240906)
    assert len(curve) == 40 and curve.pandas().mag.std() < curve.pandas().mag_raw.std()
