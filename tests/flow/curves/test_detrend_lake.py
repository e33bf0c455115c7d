"""A lake with the trends of a camera: they are taken off, and what is of the stars stays."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from season_rows import CAMERA, NIGHTS, PER_NIGHT, STARS, WHITE_MAG, Season

import skylake
from skylake.core.camera import Site
from skylake.core.sphere import healpix_centre, healpix_index, separation_deg
from skylake.errors import LakeError, UsageError
from skylake.flow.curves import field_blocks as blocks
from skylake.flow.curves.curve_tables import CurveTableReport
from skylake.flow.curves.detrend_field import DetrendChoice, detrend_field, magnitudes
from skylake.flow.curves.detrend_lake import detrend_lake
from skylake.flow.curves.field_blocks import CurveSource, field_blocks
from skylake.flow.curves.frame_conditions import with_conditions
from skylake.flow.execution.cluster import Inline
from skylake.lake import Lake
from skylake.sky.pixels import grown_ranges
from skylake.sky.sky_region import SkyRegion

DETECTED = CurveSource("detected")
CHOICE = DetrendChoice(n_templates=12)
ALL = SkyRegion.whole()
TRANSIT_BJD = 2460554.7


@pytest.fixture(scope="module")
def own(season: Season, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A copy of the lake that tests of this file write to, with a table of all of its stars."""
    root = tmp_path_factory.mktemp("detrended") / "lake"
    shutil.copytree(season.lake.root, root, symlinks=True)
    lake = Lake(root)
    run(lake, "detrended")
    return lake


def run(
    lake: Lake,
    name: str,
    source: CurveSource = DETECTED,
    region: SkyRegion = ALL,
    choice: DetrendChoice = CHOICE,
) -> CurveTableReport:
    return detrend_lake(lake, name, source, region, choice, Inline())


def rows_of(lake: Lake, name: str) -> pd.DataFrame:
    return skylake.open(lake.root)[name].pandas().set_index("object_id").sort_index()


def points_of(rows: pd.DataFrame, star: int, column: str) -> np.ndarray:
    """Return an inner column of the light curve of a star."""
    return np.asarray(rows.loc[star].lightcurve[column])


def test_trends_are_taken_off_and_the_wave_stays(own: Lake, season: Season) -> None:
    rows = rows_of(own, "detrended")
    assert len(rows) == STARS and (rows.n_points == NIGHTS * PER_NIGHT).all()
    quiet = rows.iloc[2:]
    assert quiet.scatter_raw.median() > 5 * WHITE_MAG
    # Fits of 18 and 12 degrees of freedom to 240 points take 4 and 3 % of white noise.
    for name, most in {"ensemble": 2.2, "epd": 1.05, "joint": 1.05, "tfa": 1.25, "sysrem": 1.25}.items():
        assert 0.9 < quiet[f"scatter_{name}"].median() / WHITE_MAG < most, name
    wave = rows.loc[1]
    assert wave.period_d == pytest.approx(season.wave_period, rel=0.01)
    assert (rows.method_joint == "joint").all() and (rows.n_nights == NIGHTS).all() and wave.signal == "wave"
    assert abs(wave.amplitude - 2 * season.wave_amplitude) < 4 * wave.amplitude_err < 0.1 * wave.amplitude
    box = rows.loc[2]
    # Only every third transit falls into a night.
    assert box.signal == "box" and box.period_d == pytest.approx(3 * season.box_period, rel=0.01)
    assert abs(box.amplitude - season.box_depth) < 4 * box.amplitude_err < 0.3 * box.amplitude
    assert box.duration_d == pytest.approx(season.box_duration, rel=0.3)
    turns = (box.epoch_bjd - TRANSIT_BJD) / box.period_d
    assert abs(turns - np.round(turns)) * box.period_d < 0.02
    assert quiet.signal.isna().mean() > 0.95
    assert (rows.n_lost_joint > 15).all() and (rows.n_templates >= 11).all()
    assert not {1, 2} & {star for one in rows.templates for star in one["object_id"]}


def test_raw_magnitudes_are_those_of_the_light_curves(own: Lake) -> None:
    made, curves = rows_of(own, "detrended"), rows_of(own, "lightcurves")
    for star in (1, 50, STARS):
        for name, before in {"frame_id": "frame_id", "bjd_tdb": "bjd_tdb", "mag_raw": "mag"}.items():
            # A magnitude of 10 has a step of a millionth as a float of 4 bytes.
            np.testing.assert_allclose(
                points_of(made, star, name), points_of(curves, star, before), atol=1e-6, rtol=0
            )


def test_a_table_is_made_again_only_where_it_would_differ(own: Lake) -> None:
    before = own.snapshot().number
    again = run(own, "detrended")
    assert (again.made, again.n_rows, again.snapshot) == (False, STARS, before)
    with pytest.raises(UsageError, match="give another name or --replace"):
        run(own, "detrended", choice=replace(CHOICE, n_effects=1))
    with pytest.raises(UsageError, match="'lightcurves' is taken"):
        run(own, "lightcurves")
    assert own.snapshot().number == before


def test_a_part_of_the_sky_some_nights_and_another_flux(own: Lake, season: Season) -> None:
    cone = SkyRegion.of_cone(season.ra[0], season.dec[0], 0.5)
    source = replace(
        DETECTED, flux="aper1", band="V", camera=CAMERA, first_night=20240902, last_night=20240904
    )
    run(own, "some", source, cone, replace(CHOICE, n_templates=0, n_effects=0))
    some, whole = rows_of(own, "some"), rows_of(own, "detrended")
    inside = cone.holds(season.ra, season.dec)
    assert set(some.index) == set(np.flatnonzero(inside) + 1) and 2 < len(some) < 30
    assert (some.n_points == 3 * PER_NIGHT).all() and (some.n_stars == STARS).all()
    # Three nights tell no signal from trends.
    assert (some.method_joint == "ensemble").all() and (some.n_nights == 3).all() and some.signal.isna().all()
    np.testing.assert_array_equal(points_of(some, 1, "mag_joint"), points_of(some, 1, "mag_ensemble"))
    assert some.scatter_tfa.isna().all() and some.n_templates.isna().all() and some.n_effects.isna().all()
    # The first aperture of these stars has four fifths of the flux.
    first = dict(zip(points_of(whole, 1, "frame_id"), points_of(whole, 1, "mag_raw"), strict=True))
    off = points_of(some, 1, "mag_raw") - np.array([first[one] for one in points_of(some, 1, "frame_id")])
    np.testing.assert_allclose(off, -2.5 * np.log10(0.8), atol=1e-5)


def test_what_is_not_there(own: Lake) -> None:
    with pytest.raises(LakeError, match="no star of that part of the sky"):
        run(own, "x", region=SkyRegion.of_cone(180.0, 60.0, 0.1))
    with pytest.raises(LakeError, match="forced_lightcurves is empty"):
        run(own, "x", CurveSource("forced"))
    with pytest.raises(LakeError, match="no frame has the flux kron9"):
        run(own, "x", replace(DETECTED, flux="kron9"))


def test_blocks_of_few_stars_do_as_well(season: Season, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory is short a field is divided; each part has the stars that it needs."""
    monkeypatch.setattr(blocks, "MOST_PLACES", STARS * NIGHTS * PER_NIGHT // 2)
    monkeypatch.setattr(blocks, "WANTED_STARS", 30)
    snapshot = season.lake.snapshot()
    stars = 0
    for pixel in season.lake.snapshot().version("lightcurves").leaves:
        for field in field_blocks(snapshot, DETECTED, pixel, ALL, 80):
            stars += int(field.is_wanted.sum())
            whole = with_conditions(snapshot, field)
            mag = magnitudes(detrend_field(whole, replace(CHOICE, n_templates=0, n_effects=0)))["epd"]
            quiet = field.is_wanted & (field.rows["object_id"].to_numpy() > 2)
            assert 30 <= len(quiet) <= 60
            if quiet.any():
                assert np.median(np.nanstd(mag[quiet], axis=1)) < 1.15 * WHITE_MAG
    assert stars == STARS
    monkeypatch.setattr(blocks, "_TOO_MANY_PLACES", 100)
    with pytest.raises(LakeError, match="name fewer nights by --from and --to"):
        list(field_blocks(snapshot, DETECTED, pixel, ALL, 30))


def test_of_a_dense_field_beside_a_piece_the_nearest_stars_are_read(
    season: Season, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = season.lake.snapshot()
    pixel = next(iter(snapshot.version("lightcurves").leaves))
    monkeypatch.setattr(blocks, "_CANDIDATES", 1)
    (field,) = field_blocks(snapshot, DETECTED, pixel, ALL, 60)
    ra, dec = (field.rows[name].to_numpy() for name in ("ra_deg", "dec_deg"))
    own = healpix_index(ra, dec, pixel[0]) == pixel[1]
    np.testing.assert_array_equal(field.is_wanted, own)
    assert 10 < own.sum() < 60 == len(own)
    middle = [float(one[0]) for one in healpix_centre([pixel[1]], pixel[0])]
    others = np.delete(np.arange(STARS), field.rows["object_id"].to_numpy() - 1)
    far = separation_deg(*middle, season.ra[others], season.dec[others])
    assert separation_deg(*middle, ra[~own], dec[~own]).max() <= far.min()


def test_what_curves_depend_on_is_that_of_the_sky_and_the_frames(season: Season) -> None:
    from astropy import units as u
    from astropy.coordinates import AltAz, EarthLocation, SkyCoord
    from astropy.time import Time

    snapshot = season.lake.snapshot()
    pixel = next(iter(snapshot.version("lightcurves").leaves))
    around = grown_ranges(pixel, 4 * 3600.0)
    (field,) = field_blocks(snapshot, DETECTED, pixel, SkyRegion(around))
    given = with_conditions(snapshot, field).block.parameters
    site: Site = season.lake.profile(CAMERA).base.site
    place = EarthLocation(site.longitude_deg * u.deg, site.latitude_deg * u.deg, site.height_m * u.m)
    some = [0, 7, 100]
    stars = SkyCoord(*(field.rows[name].to_numpy()[some] * u.deg for name in ("ra_deg", "dec_deg")))
    for number, star in enumerate(some):
        seen = stars[number].transform_to(AltAz(obstime=Time(field.mjd, format="mjd"), location=place))
        high = seen.alt.deg > 20
        assert high.any()
        np.testing.assert_allclose(given.airmass[star, high], seen.secz[high], rtol=0.02)
        hour = (
            Time(field.mjd, format="mjd").sidereal_time("apparent", place.lon) - stars[number].ra
        ).wrap_at("180d")
        # Right ascensions are of J2000: a third of a degree in 25 years.
        np.testing.assert_allclose(given.hour_angle[star], hour.deg, atol=0.5)
    assert np.std(given.fwhm_px) > 0.1
    np.testing.assert_allclose(given.elongation_d, 0.01 * given.fwhm_px, rtol=1e-5)
    np.testing.assert_allclose(given.background, 100.0)
    assert given.temperature is None and given.x_px.shape == field.bjd.shape


def test_tables_are_read_by_sql_and_lsdb(own: Lake) -> None:
    opened = skylake.open(own.root)
    query = "SELECT count(*) AS n, sum(len(lightcurve.mag_joint)) AS points FROM detrended"
    (row,) = opened.sql(query).pandas().itertuples()
    assert (row.n, row.points) == (STARS, STARS * NIGHTS * PER_NIGHT)
    assert opened["detrended"].units["scatter_joint"] == "mag"
    assert Path(own.root / "detrended").exists()
    assert len(opened["detrended"].lsdb().compute()) == STARS
