"""Coarse pixels: zeropoints and magnitudes of a crowded simulated field, by their pulls and against magnitude."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skylake import cameras
from skylake.calibration.calibrated_matches import FRAME_COLUMNS, ZEROPOINT_COLUMNS, calibrate_matches
from skylake.calibration.match_selection import Band, gather
from skylake.core.sphere import separation_deg
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.flow.zeropoints.neighbour_light import _alike, _groups, light_column, with_neighbour_light
from skylake.lake import Lake
from skylake.settings import Settings
from skylake.simulate import Scenario, ScheduleParams, SpecialParams, StarParams, simulate
from skylake.simulate.scenario import CatalogParams
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.lake_catalogs import ReferenceCatalog

PROFILE = """
name = "coarse"
like = "sim"
[detector]
width_px = 320
height_px = 320
[optics]
pixel_scale_arcsec = 20.0
diameter_m = 0.05
[calibration]
match_radius_arcsec = 30.0
max_crowding = 0.2
min_stars = 10
[gates.n_sources]
min = 5
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Any, list[dict[str, Any]]]:
    """Two frames of one field with 10,000 catalog stars per square degree, calibrated; the camera; what is true."""
    root = tmp_path_factory.mktemp("coarse")
    (root / "coarse.toml").write_text(PROFILE, encoding="utf-8")
    scenario = Scenario(
        camera=str(root / "coarse.toml"), nights=1, frames_per_night=2, seed=21, streak_fraction=0.0,
        stars=StarParams(density_per_deg2=10000.0, density_mag=16.0, depth_mag=2.5, variable_fraction=0.0),
        specials=SpecialParams(variables=False, transient=False), schedule=ScheduleParams(cadence_s=60.0),
        catalog=CatalogParams(limit_mag=16.0),
    )  # fmt: skip
    archive = simulate(scenario, root / "archive", 1)
    columns = CatalogColumns(
        ra="ra", dec="dec", id="id", pm_ra="pmra", pm_dec="pmdec", magnitudes={"V": "V"},
        magnitude_errors={"V": "V_err"}, colours={"B-V": "B-V"},
    )  # fmt: skip
    lake = Lake.create(root / "lake", Settings(cluster="inline"))
    import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    ingest(lake, cameras.load(str(root / "coarse.toml")), [root / "archive" / "frames"], Inline())
    calibrate(lake, Inline())
    return lake, cameras.load(str(root / "coarse.toml")).base, pq.read_table(archive.truth_frames).to_pylist()


def test_zeropoints_are_right_by_their_errors(made: tuple[Lake, Any, Any]) -> None:
    """A third of the light in typical apertures is that of neighbours, and as much is lost to the sky."""
    lake, _, truth = made
    rows = lake.snapshot().read("zeropoints").sort_by("mjd_mid").to_pylist()
    shares = lake.snapshot().read("matches")
    assert np.nanmedian(shares["ref_crowding"].to_numpy()) > 0.2
    assert np.nanmedian(shares["ref_sky_light"].to_numpy()) > 0.2
    assert np.nanmedian(shares["ref_neighbours"].to_numpy()) > 3
    for row, true in zip(rows, truth, strict=True):
        assert row["zp_fit_err"] < 0.008 and row["zp_err"] < 0.015
        assert abs(row["zp"] - true["zp"]) < 2.5 * row["zp_err"]
        assert abs(row["sky_light_scale"] - 1.0) < 2.5 * row["sky_light_scale_err"] < 0.25
        assert row["n_used"] > 50


def test_residuals_do_not_depend_on_the_magnitude(made: tuple[Lake, Any, Any]) -> None:
    """Nor on what neighbours bring; without the correction they do by a tenth of a magnitude."""
    lake, camera, _ = made
    snapshot = lake.snapshot()
    matches = snapshot.read("matches")
    found = calibrate_matches(
        matches, snapshot.read("frames", FRAME_COLUMNS), snapshot.read("zeropoints", ZEROPOINT_COLUMNS)
    )
    rows = snapshot.read("frames").to_pylist()
    correction = {row["frame_id"]: (row["apcor_aper2"], row["apcor_aper2_err"]) for row in rows}
    data = gather(matches, correction, Band(camera.filters["V"], "aper2", camera.calibration))
    used = np.flatnonzero(data.usable)
    names = ("ref_mag", "ref_mag_err", "ref_crowding", "ref_sky_light")
    mag, ref_err, crowding, sky = (matches[name].to_numpy().astype(float)[used] for name in names)
    residual, error = found.residual[used], np.hypot(found.mag_err[used], ref_err)
    pull = residual / np.hypot(error, 0.01)
    assert 0.8 < 1.4826 * np.median(np.abs(pull - np.median(pull))) < 1.25
    for order in (np.argsort(mag), np.argsort(crowding), np.argsort(crowding - sky)):
        for part in np.array_split(order, 4):
            mean, spread = np.median(residual[part]), 1.25 * np.std(residual[part]) / np.sqrt(len(part))
            assert abs(mean) < max(0.01, 3.0 * spread)
    net = crowding - sky
    slope = np.polyfit(net, residual + 1.0857 * np.log1p(net), 1, w=1.0 / error)[0]
    assert 0.6 < slope < 1.4


def test_views_have_the_magnitudes_of_python(made: tuple[Lake, Any, Any]) -> None:
    snapshot = made[0].snapshot()
    matches = snapshot.read("matches")
    found = calibrate_matches(
        matches, snapshot.read("frames", FRAME_COLUMNS), snapshot.read("zeropoints", ZEROPOINT_COLUMNS)
    )
    given = matches.select(["frame_id", "source_no"])
    for name in ("flux", "mag", "mag_err", "zp_systematic_err"):
        given = given.append_column(f"python_{name}", pa.array(getattr(found, name), from_pandas=True))
    with snapshot.duckdb() as connection:
        connection.register("given", given)
        off, n = connection.execute(
            """SELECT max(greatest(abs(m.mag - python_mag), abs(m.mag_err - python_mag_err),
                                   abs(s.total_flux / python_flux - 1),
                                   abs(m.mag_systematic_err - python_zp_systematic_err))), count(*)
               FROM calibrated_matches AS m JOIN given USING (frame_id, source_no)
               JOIN calibrated_sources AS s USING (frame_id, source_no) WHERE python_mag_err < 0.3"""
        ).fetchone()
        # The parts of an error are a difference of squares of single precision.
        assert n > 300 and off < 3e-4
        rest = "FROM calibrated_sources ANTI JOIN matches USING (frame_id, source_no)"
        assert connection.execute(f"SELECT coalesce(max(abs(neighbour_flux)), 0) {rest}").fetchone() == (0.0,)
        counts = connection.execute(
            "SELECT (FROM calibrated_sources SELECT count(*)), (FROM sources SELECT count(*))"
        )
        assert len(set(counts.fetchone())) == 1


def test_neighbours_are_counted_as_by_hand(made: tuple[Lake, Any, Any]) -> None:
    """By distances on the sky, which this camera shows with little distortion."""
    lake, camera, _ = made
    matches = lake.snapshot().read("matches")
    reference = ReferenceCatalog.open(lake.root / "catalogs" / "simcat")
    frame = lake.snapshot().read("frames").to_pylist()[0]
    stars = reference.cone(frame["ra_deg"], frame["dec_deg"], 1.2, ["ra_deg", "dec_deg", "ref_id"])
    ra, dec, ref_id = (stars[name].to_numpy() for name in ("ra_deg", "dec_deg", "ref_id"))
    counted = []
    for number in np.linspace(0, matches.num_rows - 1, 60).astype(int):
        row = matches.slice(number, 1).to_pylist()[0]
        away = 3600.0 * separation_deg(row["ra_deg"], row["dec_deg"], ra, dec)
        near = (away < 20.0 * camera.apertures.calibrated_radius_px) & (ref_id != row["ref_id"])
        counted.append(row["ref_neighbours"] - np.count_nonzero(near))
    assert abs(np.mean(counted)) < 0.5 and np.abs(counted).max() <= 3


def test_frames_of_one_field_share_their_numbers(made: tuple[Lake, Any, Any], tmp_path: Path) -> None:
    lake, camera, _ = made
    frames, matches = lake.snapshot().read("frames"), lake.snapshot().read("matches")
    assert [len(rows) for rows in _groups(frames, camera)] == [2]
    one = frames.to_pylist()[0]
    for change in (
        {"band": "R"}, {"dec_deg": one["dec_deg"] + 0.3}, {"fwhm_px": 1.3 * one["fwhm_px"]}, {"n_detected": 10},
        {"aper2_radius_px": 4.0}, {"ra_deg": (one["ra_deg"] + 180.0) % 360.0, "dec_deg": one["dec_deg"]},
    ):  # fmt: skip
        assert not _alike(one, one | change), change
    assert _alike(one, one | {"dec_deg": one["dec_deg"] + 0.01})
    # Without a scale nothing is known; without a known band neither.
    reference = ReferenceCatalog.open(lake.root / "catalogs" / "simcat")
    place = frames.schema.get_field_index("sky_rms_adu")
    empty = frames.set_column(place, frames.schema.field(place), pa.nulls(frames.num_rows, pa.float32()))
    assert with_neighbour_light(matches, empty, [], camera, reference)["ref_crowding"].null_count == len(
        matches
    )
    place = frames.schema.get_field_index("band")
    other = frames.set_column(place, frames.schema.field(place), pa.array(["clear"] * frames.num_rows))
    slices = lake.snapshot().slices("sources", lambda part: True)
    found = with_neighbour_light(matches, other, slices, camera, reference)
    assert found["ref_sky_light"].null_count == len(matches) and found.schema.equals(matches.schema)
    again = with_neighbour_light(matches, frames, slices, camera, reference)
    assert again.equals(matches)


@pytest.mark.parametrize(
    ("band", "columns", "survey", "expected"),
    [
        ("V", ("mag_B", "mag_V"), "", "mag_V"),
        ("SDSS_r", ("mag_g", "mag_r"), "sdss", "mag_r"),
        ("V", ("mag_Gaia_G", "mag_Gaia_BP", "mag_Gaia_RP"), "gaia", "mag_Gaia_BP"),
        ("R", ("mag_g", "mag_r", "mag_i"), "ps1", "mag_r"),
        ("clear", ("mag_V",), "", None),
        (None, ("mag_V",), "", None),
    ],
)
def test_light_is_judged_in_the_band_or_the_nearest(
    band: str | None, columns: tuple[str, ...], survey: str, expected: str | None
) -> None:
    catalog = ReferenceCatalog(Path(), "c", 2000.0, 300.0, 1, "", columns, survey=survey)
    assert light_column(band, catalog) == expected
