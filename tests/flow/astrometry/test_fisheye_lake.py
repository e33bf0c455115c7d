"""A camera that sees the whole sky: its geometry is found, kept, used for later frames and followed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from skylists import SkyListParams, draw_list

from skylake import cameras
from skylake.calibration.calibrated_matches import FRAME_COLUMNS, ZEROPOINT_COLUMNS, calibrate_matches
from skylake.core.camera import Site
from skylake.core.horizon import Horizon, altitude_azimuth, horizontal_vectors
from skylake.core.sphere import separation_deg, unit_vectors
from skylake.flow.astrometry.frame_stars import distortion_frames
from skylake.flow.astrometry.learn_distortion import learn
from skylake.flow.astrometry.learn_geometry import _GeometryNight, _has_news
from skylake.flow.astrometry.solve_all_sky_frames import AllSkySolver
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest, ingest_frames
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.maintenance.forget_frames import find, forget
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.image.allsky.allsky_pointing import SkyScene
from skylake.image.allsky.geometry_epochs import Geometry
from skylake.image.allsky.night_geometries import geometries_of_night
from skylake.image.allsky.refine_geometry import DetectedPlaces
from skylake.image.wcs.header_wcs import CatalogStars
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_text import view_of_text
from skylake.image.wcs.residual_field import ResidualField
from skylake.image.wcs.sky_view import SkyView
from skylake.lake import Lake
from skylake.lake.access.duckdb_tables import connect
from skylake.lake.cameras.stored_geometries import geometries_file, read_geometries
from skylake.settings import Settings
from skylake.simulate.fisheye_nights import (
    EXTINCTION,
    ZEROPOINT,
    FisheyeNights,
    FisheyeResult,
    simulate_fisheye,
)
from skylake.simulate.whole_sky import Twilight
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.lake_catalogs import ReferenceCatalog, StarField

PROFILE = cameras.load("sim-fisheye")
WANTED = FisheyeNights(nights=2, frames_per_night=4, moved_after=1, clouds_every=4)
#: Pixel scale at the centre, arcsec.
SCALE = 1052.0


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> FisheyeResult:
    """Two nights of four frames, of which the second is cloudy; the camera is moved between them."""
    return simulate_fisheye(WANTED, tmp_path_factory.mktemp("fisheye"))


@pytest.fixture(scope="module")
def first(archive: FisheyeResult, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with the first night. Tests do not change it."""
    lake = Lake.create(tmp_path_factory.mktemp("lake") / "lake", Settings(cluster="inline", pixel_order=0))
    columns = CatalogColumns(
        ra="ra", dec="dec", id="id", pm_ra="pmra", pm_dec="pmdec", magnitudes={"V": "V"},
        magnitude_errors={"V": "V_err"}, colours={"B-V": "B-V"},
    )  # fmt: skip
    import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    ingest(lake, PROFILE, archive.frames[:4], Inline())
    return lake


@pytest.fixture
def lake(first: Lake, tmp_path: Path) -> Lake:
    return Lake(shutil.copytree(first.root, tmp_path / "lake", symlinks=True))


def rows(lake: Lake, table: str) -> list[dict[str, Any]]:
    return sorted(lake.snapshot().read(table).to_pylist(), key=lambda row: row.get("mjd_mid") or 0.0)


def view_of(row: dict[str, Any]) -> SkyView:
    return view_of_text(row["wcs_lens"], (row["height_px"], row["width_px"]))


def off_px(lens: Lens, night: int) -> float:
    """Return how far a lens is from the truth above 15 degrees, root mean square."""
    grid = horizontal_vectors(*np.meshgrid(np.arange(15.0, 90.0, 5.0), np.arange(0.0, 360.0, 15.0)))
    grid = grid.reshape(-1, 3)
    off = np.stack(lens.to_pixels(grid), axis=1) - WANTED.lens(night).to_pixels(grid)
    return float(np.sqrt(np.mean(np.sum(off**2, axis=1))))


@pytest.mark.slow
def test_a_twilight_frame_has_the_geometry_of_later_frames(tmp_path: Path):
    dusk = Twilight(250.0, (-0.6, -0.5, 0.62), 3.0, 5.0, 100, 100, 2, 2.2)
    made = simulate_fisheye(
        FisheyeNights(nights=1, frames_per_night=3, dusk=dusk, dusk_frames=1), tmp_path / "dusk"
    )
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline", pixel_order=0))
    columns = CatalogColumns(ra="ra", dec="dec", magnitudes={"V": "V"}, magnitude_errors={"V": "V_err"})
    import_catalog(lake, "simcat", "table", [made.catalog], columns, margin_arcsec=4000.0)
    alone = ingest(lake, PROFILE, made.frames[:1], Inline())
    assert [one["reason"] for one in alone.problems] == ["no_wcs"]
    report = ingest_frames(lake, [PROFILE], made.frames, Inline(), IngestOptions(redo=True))
    assert report.counts == {"ok": 3} and report.problems == []
    dim = rows(lake, "frames")[0]
    assert dim["wcs_source"] == "refined" and dim["wcs_geometry"].startswith("1.") and dim["astrom_n"] > 15
    assert off_px(view_of(dim).lens, 0) < 0.3
    # With the geometry lost, and the frames that showed it, it has no place of its own; it keeps the one that it had.
    others = [row["frame_id"] for row in rows(lake, "frames")[1:]]
    forget(lake, find(lake.snapshot(), others, []), Inline())
    before = lake.snapshot().parts("frames")
    geometries_file(lake.layout, "sim-fisheye").unlink()
    report = ingest(lake, PROFILE, made.frames[:1], Inline(), IngestOptions(redo=True))
    assert report.counts == {} and not report.all_well and lake.snapshot().parts("frames") == before
    assert "with a geometry of sim-fisheye that the lake has lost" in report.kept[0]


@pytest.mark.slow
def test_frames_get_their_place_from_site_and_time_alone(first: Lake, archive: FisheyeResult):
    frames = rows(first, "frames")
    assert [row["status"] for row in frames] == ["ok", "rejected", "ok", "ok"]
    for row in (frames[0], frames[2], frames[3]):
        assert (row["wcs_source"], row["wcs_geometry"]) == ("solved", None)
        assert row["astrom_n"] > 400 and row["astrom_rms_px"] < 0.3 and row["wcs_matched"] > 90
        assert row["altitude_deg"] > 85.0 and row["pixel_scale_arcsec"] == pytest.approx(SCALE, rel=0.01)
    sources = first.snapshot().read("sources").to_pandas()
    truth = pq.read_table(archive.catalog).to_pandas()
    truth = truth[truth.V < 4.0]
    mine = sources[sources.frame_id == frames[0]["frame_id"]]
    site = PROFILE.base.site
    up = Horizon.of(frames[0]["mjd_mid"], site).to_horizon(unit_vectors(truth.ra, truth.dec))[:, 2] > 0.3
    near = [
        float(separation_deg(ra, dec, mine.ra_deg.to_numpy(), mine.dec_deg.to_numpy()).min() * 3600.0)
        for ra, dec in zip(truth.ra[up], truth.dec[up], strict=True)
    ]
    assert len(near) > 100
    assert np.median(near) < 0.2 * SCALE
    assert np.mean(np.array(near) < SCALE) > 0.9


def test_a_frame_solved_alone_points_where_its_row_does(first: Lake, archive: FisheyeResult):
    """The optical axis is some pixels from the middle of the image, which both show."""
    snapshot = first.snapshot()
    told = AllSkySolver(snapshot, "simcat", PROFILE)(archive.frames[0]).row
    (row,) = [row for row in rows(first, "frames") if row["file"].endswith(archive.frames[0].name)]
    middle = (0.5 * (row["width_px"] - 1), 0.5 * (row["height_px"] - 1))
    assert np.hypot(told["x0"] - middle[0], told["y0"] - middle[1]) > 2.0
    where = told["ra_deg"], told["dec_deg"], row["ra_deg"], row["dec_deg"]
    assert 3600.0 * float(separation_deg(*where)) < 0.2 * SCALE


def test_the_row_of_a_frame_holds_its_whole_geometry(first: Lake, archive: FisheyeResult):
    solution = AllSkySolver(first.snapshot(), "simcat", PROFILE)(archive.frames[0]).all_sky
    (row,) = [row for row in rows(first, "frames") if row["file"].endswith(archive.frames[0].name)]
    assert solution is not None
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(40.0, 640.0, 40.0), np.arange(40.0, 640.0, 40.0)))
    altitude, azimuth = solution.view.pixels_to_alt_az(x, y)
    shown = altitude > 5.0
    assert shown.sum() > 100
    places = view_of(row).alt_az_to_pixels(altitude[shown], azimuth[shown])
    assert np.hypot(places[0] - x[shown], places[1] - y[shown]).max() < 0.01
    assert off_px(view_of(row).lens, 0) < 0.2


def test_whole_sky_frames_teach_no_distortion_of_other_optics(first: Lake):
    """A camera may have got a lens of another kind."""
    assert distortion_frames(first.snapshot(), "sim-fisheye") == []


def test_sources_are_where_the_geometry_of_their_frame_has_them(lake: Lake, tmp_path: Path):
    """Of frames that were solved, and of those that the geometry of the lake was turned to."""
    later = simulate_fisheye(
        FisheyeNights(nights=1, frames_per_night=1, first_night=20240303), tmp_path / "later"
    )
    ingest(lake, PROFILE, later.frames, Inline())
    good = [row for row in rows(lake, "frames") if row["status"] == "ok"]
    assert {row["wcs_source"] for row in good} == {"solved", "refined"}
    sources = lake.snapshot().read("sources").to_pandas()
    for row in good:
        mine = sources[sources.frame_id == row["frame_id"]]
        x, y = view_of(row).icrs_to_pixels(mine.ra_deg.to_numpy(), mine.dec_deg.to_numpy())
        assert np.hypot(x - mine.x_px.to_numpy(), y - mine.y_px.to_numpy()).max() < 0.01


def test_the_geometry_of_a_night_is_kept_and_is_the_true_one(first: Lake):
    (geometry,) = read_geometries(first.layout, "sim-fisheye")
    assert (geometry.n_frames, geometry.shape) == (3, (640, 640))
    assert geometry.n_stars > 1500
    assert off_px(geometry.lens, 0) < 0.05


def test_learning_again_changes_nothing(lake: Lake):
    before = geometries_file(lake.layout, "sim-fisheye").stat()
    report = learn(lake, "sim-fisheye", Inline())
    assert (report.n_frames, report.made, report.changes) == (0, [], [])
    anew = learn(lake, "sim-fisheye", Inline(), anew=True)
    assert anew.n_frames == 3
    after = geometries_file(lake.layout, "sim-fisheye").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


@pytest.mark.slow
def test_what_a_killed_run_did_not_learn_is_learned_next(lake: Lake, archive: FisheyeResult):
    """A run ends between its commit and the geometry: the same command again gives the lake of a run that was not."""
    path = geometries_file(lake.layout, "sim-fisheye")
    known = read_geometries(lake.layout, "sim-fisheye")
    path.unlink()
    assert ingest(lake, PROFILE, archive.frames[:4], Inline()).counts == {}
    assert read_geometries(lake.layout, "sim-fisheye") == known
    path.unlink()
    report = ingest(lake, PROFILE, archive.frames, Inline())
    assert report.counts == {"ok": 3, "rejected": 1}
    assert read_geometries(lake.layout, "sim-fisheye")[0] == known[0]


def test_the_next_frames_start_from_the_geometry_of_the_lake(lake: Lake, tmp_path: Path):
    (known,) = read_geometries(lake.layout, "sim-fisheye")
    later = simulate_fisheye(
        FisheyeNights(nights=1, frames_per_night=2, first_night=20240303), tmp_path / "later"
    )
    report = ingest(lake, PROFILE, later.frames, Inline())
    assert report.counts == {"ok": 2}
    for row in rows(lake, "frames")[-2:]:
        assert (row["wcs_source"], row["wcs_geometry"]) == ("refined", known.name)
        assert (row["astrom_parameters"], row["astrom_rms_px"] < 0.3) == (3, True)
    (geometry,) = read_geometries(lake.layout, "sim-fisheye")
    assert geometry.first_mjd == known.first_mjd and geometry.last_mjd > known.last_mjd + 1.5


@pytest.mark.slow
def test_a_camera_that_was_moved_gets_another_geometry(lake: Lake, archive: FisheyeResult):
    report = ingest(lake, PROFILE, archive.frames[4:], Inline())
    assert report.counts == {"ok": 3, "rejected": 1}
    epochs = read_geometries(lake.layout, "sim-fisheye")
    assert len(epochs) == 2
    assert off_px(epochs[0].lens, 0) < 0.05 and off_px(epochs[1].lens, 1) < 0.05
    assert epochs[0].distance_px(epochs[1].lens) > 1.0
    (change,) = learn(lake, "sim-fisheye", Inline(), anew=True).changes
    assert change.startswith("sim-fisheye: the camera was moved by 2024-03-0")


@pytest.fixture(scope="module")
def calibrated(first: Lake, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The lake with matches and zeropoints. Tests do not change it."""
    root = tmp_path_factory.mktemp("calibrated") / "lake"
    lake = Lake(shutil.copytree(first.root, root, symlinks=True))
    calibrate(lake, Inline())
    return lake


def test_zeropoints_and_extinction_are_those_of_the_simulation(calibrated: Lake):
    zeropoints = [row for row in rows(calibrated, "zeropoints") if row["zp"] is not None]
    assert len(zeropoints) == 3
    for row in zeropoints:
        # At the zenith the air takes what it takes per airmass.
        assert row["zp"] == pytest.approx(ZEROPOINT - EXTINCTION, abs=5.0 * row["zp_err"] + 0.01)
        assert row["extinction"] == pytest.approx(EXTINCTION, abs=5.0 * row["extinction_err"])
        # Most of the error of a zeropoint is that of the aperture correction.
        assert row["extinction_err"] < 0.01 and row["zp_fit_err"] < 0.01 and row["zp_err"] < 0.05
        assert row["n_used"] > 100 and row["mean_airmass"] > 1.3


def test_magnitudes_are_right_at_all_altitudes(calibrated: Lake):
    snapshot = calibrated.snapshot()
    with connect(snapshot) as connection:
        found = connection.sql(
            "SELECT c.*, m.altitude_deg FROM calibrated_matches AS c JOIN matches AS m USING (frame_id, source_no) "
            "WHERE c.flags = 0 AND c.crowding < 0.02 AND c.ref_mag BETWEEN 1 AND 4.5"
        ).df()
        altitudes = connection.sql(
            "SELECT min(altitude_deg), max(altitude_deg), max(azimuth_deg) FROM sources"
        )
        assert altitudes.fetchall()[0] == pytest.approx((5.0, 88.0, 360.0), abs=6.0)
    low, high = found[found.altitude_deg < 25.0], found[found.altitude_deg > 50.0]
    assert len(low) > 30 and len(high) > 30
    # Without the term they would differ by a quarter of a magnitude.
    assert abs(low.residual.median() - high.residual.median()) < 0.05
    matches = snapshot.read("matches")
    told = calibrate_matches(
        matches, snapshot.read("frames", FRAME_COLUMNS), snapshot.read("zeropoints", ZEROPOINT_COLUMNS)
    )
    both = matches.select(["frame_id", "source_no"]).to_pandas().assign(mag=told.mag, mag_err=told.mag_err)
    both = found.merge(both, on=["frame_id", "source_no"])
    assert both.mag_x.to_numpy() == pytest.approx(both.mag_y.to_numpy(), abs=1e-6)
    assert both.mag_err_x.to_numpy() == pytest.approx(both.mag_err_y.to_numpy(), rel=1e-6)


def test_sources_have_altitudes_and_residuals_by_place(first: Lake):
    frames = {row["frame_id"]: row for row in rows(first, "frames") if row["status"] == "ok"}
    for row in frames.values():
        field = ResidualField.of_text(row["astrom_field"])
        assert field.number.shape == (8, 8) and field.number.sum() == row["astrom_n"]
        assert np.nanmax(np.hypot(field.dx, field.dy)[field.number > 20]) < 0.2
        assert 0.05 < row["astrom_rms_ring1_px"] < 0.4 and row["astrom_completeness"] > 0.8
        assert abs(row["astrom_radial_ring2_px"]) < 0.05 and row["astrom_refraction"] == "applied"
    sources = first.snapshot().read("sources").to_pandas()
    mine = sources[sources.frame_id == next(iter(frames))]
    horizon = Horizon.of(mine.mjd_mid.iloc[0], PROFILE.base.site)
    seen = horizon.to_horizon(unit_vectors(mine.ra_deg, mine.dec_deg))
    altitude, azimuth = altitude_azimuth(seen)
    lift = altitude - mine.altitude_deg.to_numpy()
    # The horizon shows where stars appear, the column where they are.
    # A place that aberration moves by 20 arcsec stays within 0.006 degrees of it; refraction is 1' at 45 degrees.
    assert np.abs(lift[altitude > 60.0]).max() < 0.02 and lift[altitude < 10.0].min() > 0.05
    turn = (azimuth - mine.azimuth_deg.to_numpy() + 180.0) % 360.0 - 180.0
    assert np.abs(turn[altitude < 80.0]).max() < 0.05


def test_a_frame_without_stars_is_refused_whatever_is_known(first: Lake):
    (row,) = [row for row in rows(first, "frames") if row["status"] == "rejected"]
    assert row["reason"] in ("no_wcs", "no_sources", "cloudy")


def test_a_profile_without_site_says_so(tmp_path: Path, archive: FisheyeResult, lake: Lake):
    (tmp_path / "lost.toml").write_text('like = "generic"\nname = "lost"\n[astrometry]\nall_sky = true\n')
    report = ingest(lake, cameras.load(tmp_path / "lost.toml"), archive.frames[:1], Inline())
    (problem,) = report.problems
    assert (problem["reason"], "under [site]" in problem["message"]) == ("no_wcs", True)


def test_the_truth_is_reported(archive: FisheyeResult):
    told = json.loads((archive.out / "truth" / "lens.json").read_text())
    assert [one["night"] for one in told] == [20240301, 20240302]
    assert told[1]["turn_deg"] - told[0]["turn_deg"] == pytest.approx(0.5)
    assert Site("", -70.4, -24.6, 2635.0).known


def test_an_old_night_with_an_epoch_is_not_looked_at_again():
    night = _GeometryNight(20240301, (640, 640), ({"mjd_mid": 100.1}, {"mjd_mid": 100.4}))
    lens = Lens.aimed([0, 0, 1], [0, 1, 0], 196.0, (320.0, 320.0), "equidistant")
    within = Geometry(lens, (640, 640), 100.2, 100.3, 2, 900, 0.2, 0.2)
    assert _has_news(night, (), newest=False) and _has_news(night, (within,), newest=True)
    assert not _has_news(night, (within,), newest=False)
    assert _has_news(night, (replace(within, shape=(10, 10)),), newest=False)


def drawn_night(first: Lake, late_s: tuple[float, ...]) -> list[SkyScene]:
    """Frames of one night of the camera of the archive whose clocks are late by some seconds."""
    catalog = ReferenceCatalog.open(first.layout.catalog("simcat"))
    stars = StarField(catalog, "V").at(0.0, 90.0, 180.0, 60370.0, 6.5)
    above = CatalogStars(*stars)
    scenes = []
    for number, late in enumerate(late_s):
        mjd, site = 60370.2 + 0.01 * number, PROFILE.base.site
        random = np.random.default_rng(number)
        shown = Horizon.of(mjd + late / 86400.0, site).to_horizon(unit_vectors(above.ra_deg, above.dec_deg))
        places, flux = draw_list(
            random, WANTED.lens(0), (640, 640), shown, above.mag, SkyListParams(5.5, cloud_mag=0.0)
        )
        detected = DetectedPlaces(places, np.full(len(flux), 0.25), flux)
        scenes.append(SkyScene(detected, 2.2, (640, 640), mjd, Horizon.of(mjd, site), above))
    return scenes


def test_a_single_frame_with_a_wrong_time_begins_no_geometry(first: Lake):
    scenes = drawn_night(first, (0.0, 0.0, 240.0, 0.0, 0.0))
    (geometry,) = geometries_of_night(scenes, None)
    assert (geometry.n_frames, geometry.first_mjd, geometry.last_mjd) == (4, scenes[0].mjd, scenes[-1].mjd)
    assert off_px(geometry.lens, 0) < 0.1


def test_of_two_frames_one_with_a_wrong_time_begins_no_geometry(first: Lake):
    (before,) = geometries_of_night(drawn_night(first, (0.0, 0.0)), None)
    for late_s in ((0.0, 240.0), (240.0, 0.0)):
        scenes = drawn_night(first, late_s)
        (geometry,) = geometries_of_night(scenes, before.lens)
        assert (geometry.n_frames, geometry.first_mjd) == (1, scenes[late_s.index(0.0)].mjd)
        assert off_px(geometry.lens, 0) < 0.1
