"""Five apertures of which the fourth is calibrated, beside a night with three: every reader and the whole way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake import cameras
from skylake.cameras import Profile
from skylake.core.robust import sigma_mad
from skylake.flow.aggregates import aggregate
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.make_targets import TargetOptions, make_targets
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.maintenance.verify_lake import VerifyOptions, open_facts, verify
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.lake import Lake
from skylake.schema.aperture_columns import MORE, aperture_floats
from skylake.settings import Settings
from skylake.simulate import OpticsParams, Scenario, ScheduleParams, SimulationResult, StarParams, simulate

pytestmark = pytest.mark.xdist_group("many_apertures")

RADII = (3.0, 4.0, 5.0, 6.5, 8.0)
PROFILE = """
like = "sim"
name = "rings"
detector.width_px = 480
detector.height_px = 480
"""
MANY = f'apertures.radii_px = {list(RADII)}\napertures.flux = "aper4"\n'


@dataclass(frozen=True)
class Made:
    """A lake whose first night has three apertures and whose second has five, and what is true of it."""

    lake: Lake
    profile: Profile
    truth: SimulationResult


@pytest.fixture(scope="module")
def made(columns: Any, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("rings")
    path = folder / "rings.toml"
    path.write_text(PROFILE)
    three = cameras.load(path)
    scenario = Scenario(
        camera=three.source, first_night=20241001, frames_per_night=3, streak_fraction=0.0,
        stars=StarParams(per_frame=250.0), schedule=ScheduleParams(target=(0.0, -24.6)),
        optics=OpticsParams(fwhm_edge=0.0),
    )  # fmt: skip
    truth = simulate(scenario, folder / "truth")
    lake = Lake.create(folder / "lake", Settings(cluster="inline", pixel_order=5))
    import_catalog(lake, "simcat", "table", [truth.catalog], columns)
    frames = [truth.out / "frames"]
    ingest(lake, three, frames, Inline(), IngestOptions(last_night=20241001))
    make_targets(lake, "rings", TargetOptions("simcat", faint=15.0), Inline())
    path.write_text(PROFILE + MANY)
    many = cameras.load(path)
    ingest(lake, many, frames, Inline(), IngestOptions(first_night=20241002))
    calibrate(lake, Inline())
    aggregate(lake, [], Inline())
    return Made(lake, many, truth)


@pytest.mark.slow
def test_each_night_has_the_apertures_of_its_profile(made: Made) -> None:
    frames = made.lake.snapshot().read("frames").sort_by("mjd_mid")
    later = frames["night"].to_numpy() == 20241002
    for number, radius in enumerate(RADII, start=1):
        found = aperture_floats(frames, f"aper{number}_radius_px")[later]
        assert (found == np.float32(radius)).all()
    assert np.isnan(aperture_floats(frames, "aper4_radius_px")[~later]).all()
    corrections = np.array([aperture_floats(frames, f"apcor_aper{n}")[later] for n in range(1, 6)])
    assert (np.diff(corrections, axis=0) < 0).all() and (corrections > 1.0).all(), "larger circles hold more"


@pytest.mark.parametrize(("table", "kind"), [("sources", "aper"), ("forced_sources", "hybrid")])
def test_total_flux_is_the_same_in_each_aperture(made: Made, table: str, kind: str) -> None:
    snapshot = made.lake.snapshot()
    frames = snapshot.read("frames")
    rows = snapshot.read(table)
    rows = rows.filter(pa.array((rows["night"].to_numpy() == 20241002) & (rows["flags"].to_numpy() == 0)))
    frame = frames["frame_id"].to_numpy()
    order = np.argsort(frame)
    place = order[np.searchsorted(frame, rows["frame_id"].to_numpy(), sorter=order)]
    total = {}
    for number in range(1, 6):
        flux, error = (aperture_floats(rows, f"flux_{kind}{number}{end}") for end in ("", "_err"))
        relative = aperture_floats(rows, f"apcor_rel_aper{number}")
        factor = aperture_floats(frames, f"apcor_aper{number}")[place] * np.where(
            np.isnan(relative), 1.0, relative
        )
        total[number] = flux * factor, error * factor
    bright = total[2][0] > 50.0 * total[2][1]
    assert bright.sum() > 30
    for number in (4, 5):
        ratio = (total[number][0] / total[2][0])[bright]
        assert np.median(ratio) == pytest.approx(1.0, abs=0.01)
        assert (total[number][1] > 0.0).all()


def test_the_fourth_aperture_is_calibrated_or_says_why_not(made: Made) -> None:
    with made.lake.snapshot().duckdb() as connection:
        zeros = connection.sql("SELECT night, flux, zp, reason FROM zeropoints ORDER BY mjd_mid").df()
        rows = connection.sql(
            f"""SELECT c.mag, c.mag_err, c.mag_random_err, t.mag - 2.5 * log10(t.scintillation) AS truth,
                       c.total_flux, p.flux AS curve, p.flux_err, p.zp, p.mag AS at_colour,
                       p.mag_err AS at_colour_err, c.flags
                FROM calibrated_forced AS c JOIN frames AS f USING (frame_id)
                JOIN forced_lightcurve_points AS p USING (frame_id, star_id)
                JOIN '{made.truth.out}/truth/detections/*.parquet' AS t
                  ON t.star_id = p.ref_id AND parse_filename(t.file) = parse_filename(f.file)
                WHERE NOT t.saturated AND p.origin = 'simcat'"""
        ).df()
        detected = connection.sql("SELECT mag, mag_err FROM calibrated_matches WHERE night = 20241002").df()
    assert set(zeros.flux) == {"aper4"}
    assert set(zeros.reason[zeros.night == 20241001]) == {"no_aperture_correction"}
    assert zeros.zp[zeros.night == 20241002].notna().all()
    assert len(rows) > 300
    assert rows.total_flux.to_numpy() == pytest.approx(rows.curve.to_numpy(), rel=1e-5)
    # Stars that are not brighter are limited by noise, not by what model and flat field are wrong by.
    snr = 10.0 ** (-0.4 * (rows.truth - rows.zp)) / rows.flux_err
    good = (rows["flags"] == 0) & (snr > 5.0) & (snr < 100.0)
    pull = ((rows.at_colour - rows.truth) / rows.at_colour_err)[good]
    assert good.sum() > 60
    assert abs(pull.median()) < 0.6, "the stars of a field share the errors of the catalog"
    assert 0.7 < sigma_mad(pull.to_numpy()) < 1.3
    assert len(detected) > 60 and (detected.mag_err.dropna() > 0.0).all()


def test_all_readers_open_both_nights(made: Made) -> None:
    snapshot = made.lake.snapshot()
    for table in ("sources", "forced_sources", "matches"):
        opened = made.lake.open(table)
        expected = np.sort(aperture_floats(opened.arrow(), "flux_aper5"))
        # The first night had no list of targets.
        assert np.isfinite(expected).sum() > 30 and np.isnan(expected).any() == (table != "forced_sources")
        with snapshot.duckdb() as connection:
            told = connection.sql(f"SELECT {MORE}.flux_aper[2] AS flux FROM {table}").df().flux
        np.testing.assert_array_equal(np.sort(told.to_numpy(float)), expected)
        frame = opened.lsdb(columns=["frame_id", MORE]).compute()
        assert len(frame) == len(expected)
        fluxes = frame[frame[MORE].notna()][f"{MORE}.flux_aper"].to_numpy(float)
        assert np.isfinite(fluxes).sum() >= 2 * np.isfinite(expected).sum()


def test_a_lake_with_both_is_whole(made: Made) -> None:
    options = VerifyOptions(deep=True)
    report = verify(open_facts(made.lake.root, options), Inline(), options)
    assert report.all_well, report.failed
