"""One star is detrended when its light curve is read, with its signal fitted beside the trends."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Table
from click.testing import CliRunner
from season_rows import BAND, CAMERA, FIRST_NIGHT, STARS, WHITE_MAG, Season

import skylake
from skylake.cli.lightcurves.lightcurve_command import lc
from skylake.core.sphere import healpix_index
from skylake.errors import LakeError, UsageError
from skylake.flow.curves.detrend_field import METHODS, DetrendChoice
from skylake.flow.curves.detrend_lake import detrend_lake
from skylake.flow.curves.detrend_star import detrended_curve
from skylake.flow.curves.field_blocks import CurveSource
from skylake.flow.execution.cluster import Inline
from skylake.lake import Lake
from skylake.reading.reader import LakeReader
from skylake.report.curves import curve_of_object
from skylake.schema import arrow_schema, load
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


@pytest.mark.slow
@pytest.mark.parametrize("period", [0.9973, 10.0])
def test_a_wave_of_which_the_nights_show_too_little_is_not_fitted(
    lake: LakeReader, season: Season, period: float
) -> None:
    curve = lake.lightcurve(2, detrend="joint", start=20240904, period_d=period, epoch_bjd=TRANSIT_EPOCH)
    (band,) = curve.detrended
    assert band["detrended"] == "ensemble" and "signal" not in band
    assert band["reason"].endswith("name a transit by --epoch and --duration")
    plain = lake.lightcurve(2, detrend="ensemble", start=20240904)
    np.testing.assert_array_equal(curve.pandas().mag, plain.pandas().mag)
    # The advice, of the transit that the star has.
    known: dict[str, Any] = {"period_d": season.box_period, "epoch_bjd": TRANSIT_EPOCH}
    curve = lake.lightcurve(2, detrend="joint", start=20240904, duration_d=season.box_duration, **known)
    (band,) = curve.detrended
    assert band["signal"] == "box" and abs(band["amplitude"] - season.box_depth) < 4 * band["amplitude_err"]


def test_a_known_signal_is_advised_only_where_it_can_be_fitted(lake: LakeReader) -> None:
    for night, advice in ((20240905, ""), (20240904, "; name a known signal by --period, a transit by")):
        (band,) = lake.lightcurve(2, detrend="joint", start=night).detrended
        n_nights = 20240907 - night
        expected = f"and the star has {n_nights} and {40 * n_nights}{advice}"
        assert expected in band["reason"] and ("--period" in band["reason"]) == bool(advice)


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
        (
            {"detrend": "epd", "start": 20240906},
            LakeError,
            "40 detections by sim in V, 40 of them good, and epd needs 100; `--detrend ensemble` works with them",
        ),
        (
            {"detrend": "tfa", "start": 20240906},
            LakeError,
            "40 frames with 110 stars show no trends for tfa, which needs 60; `--detrend ensemble` works",
        ),
    ],
)
def test_what_cannot_be_detrended(lake: LakeReader, options: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        lake.lightcurve(3, **options)


def test_the_advice_for_few_measurements_helps(lake: LakeReader) -> None:
    curve = lake.lightcurve(3, detrend="ensemble", start=20240906)
    assert len(curve) == 40 and curve.pandas().mag.std() < curve.pandas().mag_raw.std()


def test_a_star_whose_detections_are_spoiled_is_told_by_what(lake: LakeReader) -> None:
    curve = curve_of_object(lake._snapshot, 3)
    points = [point | {"flags": 8 if place % 2 else 520} for place, point in enumerate(curve["points"][:5])]
    with pytest.raises(LakeError) as said:
        detrended_curve(lake._snapshot, curve | {"points": points}, "ensemble")
    assert str(said.value) == (
        "the star 3 has 5 detections by sim in V, none of them good (5 with the flag EDGE, 3 with the flag "
        "FRAME_REJECTED), and ensemble needs 2; leave out --detrend"
    )


#: A new source, and how noisy its magnitudes are; the star of the season whose curve it has.
NEW, NEW_MAG_ERR = 60, 0.3


def with_targets(
    season: Season,
    lake: LakeReader,
    make: tuple[Callable[..., Any], Callable[..., Any]],
    root: Path,
    count: int,
) -> LakeReader:
    """A copy of the season whose list has new sources alone: one as good as a star of the season, the others noisy."""
    own, (make_rows, put) = Lake(shutil.copytree(season.lake.root, root, symlinks=True)), make
    random, kind = np.random.default_rng(8), arrow_schema(load("forced_lightcurves"))
    star = curve_of_object(lake._snapshot, NEW)
    names = {
        column: [field.name for field in kind.field(column).type]
        for column in ("lightcurve", "lightcurve_errors")
    }
    rows = []
    for number in range(count):
        noise = 0.0 if number == 0 else NEW_MAG_ERR
        points = [
            point
            | {"mag": point["mag"] + noise * random.standard_normal()}
            | {name: max(noise, point[name]) for name in ("mag_err", "mag_random_err")}
            for point in star["points"]
        ]
        nested = {
            column: {name: [point.get(name, 0) for point in points] for name in inner}
            for column, inner in names.items()
        }
        place = {"ra_deg": 0.02 * number, "dec_deg": 0.01}
        index = int(healpix_index([place["ra_deg"]], [place["dec_deg"]])[0])
        rows.append({"ra_deg": 0.02 * number, "dec_deg": 0.01} | nested)
    columns = {name: pa.array([row[name] for row in rows], kind.field(name).type) for name in rows[0]}
    index = healpix_index(*(columns[name].to_numpy() for name in ("ra_deg", "dec_deg")))
    columns |= {"_healpix_29": index, "star_id": index}
    columns |= {
        name: pa.nulls(count) for name in ("ref_id", "ref_colour", "ref_colour_err", "lightcurve_noise")
    }
    same = {"camera": CAMERA, "band": BAND, "night": FIRST_NIGHT, "origin": "detections", "catalog": "simcat"}
    columns |= {name: [value] * count for name, value in same.items()}
    made = make_rows("forced_lightcurves", count, n_points=[len(star["points"])] * count, **columns)
    put(own, ("forced_lightcurves", f"{CAMERA}-{FIRST_NIGHT}", made), camera=CAMERA, night=FIRST_NIGHT)
    return skylake.open(own.root)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("method", ["ensemble", "joint"])
def test_a_new_target_among_few_or_faint_ones_is_detrended_by_detections_around(
    count: int, method: Any, season: Season, lake: LakeReader, make_rows: Any, put: Any, tmp_path: Path
) -> None:
    listed = with_targets(season, lake, (make_rows, put), tmp_path / "lake", count)
    curve = listed.lightcurve(0.0, 0.01, detrend=method)
    assert (curve.measured, curve.catalog) == ("forced", "detections")
    (band,) = curve.detrended
    # The new source has the magnitudes of a star of the season, which is one of those around.
    assert band["around"] == "detected" and band["n_stars"] == STARS + 1 and band["detrended"] == method
    points, alone = curve.pandas(), lake.lightcurve(NEW, detrend=method).pandas()
    assert points.mag_raw.std() > 4 * WHITE_MAG
    # Another place on the detector has slightly other offsets.
    assert np.std(points.mag - alone.mag) < 0.6 * WHITE_MAG and points.mag.std() < 0.6 * points.mag_raw.std()
    # A target as noisy as the others has enough of them, if there are a dozen.
    if count > 12 and method == "ensemble":
        (band,) = listed.lightcurve(0.02, 0.01, detrend=method).detrended
        assert "around" not in band and band["n_stars"] == count


def test_what_detrended_a_new_target_is_printed_and_in_the_header(
    season: Season, lake: LakeReader, make_rows: Any, put: Any, tmp_path: Path
) -> None:
    root, out = (
        with_targets(season, lake, (make_rows, put), tmp_path / "lake", 1).root,
        tmp_path / "star.ecsv",
    )
    answer = CliRunner().invoke(lc, [str(root), "0.0", "0.01", "--detrend", "ensemble", "-o", str(out)])
    words = f"sim V: ensemble magnitudes, with the detections of {STARS} stars around"
    assert answer.exit_code == 0 and words in answer.stderr
    assert Table.read(out).meta["detrended"] == words
    answer = CliRunner().invoke(lc, [str(season.lake.root), "60", "--detrend", "ensemble", "-o", str(out)])
    assert Table.read(out).meta["detrended"] == f"sim V: ensemble magnitudes, with {STARS - 1} stars around"
