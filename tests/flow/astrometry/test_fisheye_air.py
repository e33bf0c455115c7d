"""The air of the site and the band of the filter lift the stars of a camera that sees the whole sky."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from skylake import cameras
from skylake.cameras import Profile
from skylake.core.horizon import Horizon, horizontal_vectors
from skylake.core.refraction import Air
from skylake.core.sphere import unit_vectors
from skylake.flow.astrometry.all_sky_frames import measure_sky_frame
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.lake import Lake
from skylake.lake.cameras.stored_geometries import read_geometries
from skylake.settings import Settings
from skylake.simulate.fisheye_nights import FisheyeNights, FisheyeResult, simulate_fisheye
from skylake.sky.catalog_columns import CatalogColumns

#: A quarter of the air that stands over such a peak.
THIN = """
like = "sim-fisheye"
name = "thin"
site.pressure_hpa = 200.0
site.temperature_c = 60.0
"""


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    path = tmp_path_factory.mktemp("profiles") / "thin.toml"
    path.write_text(THIN)
    return cameras.load(path)


@pytest.fixture(scope="module")
def archive(profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> FisheyeResult:
    wanted = FisheyeNights(str(profile.source), nights=1, frames_per_night=1)
    return simulate_fisheye(wanted, tmp_path_factory.mktemp("fisheye"))


@pytest.fixture(scope="module")
def columns() -> CatalogColumns:
    return CatalogColumns(
        ra="ra", dec="dec", id="id", pm_ra="pmra", pm_dec="pmdec", magnitudes={"V": "V"},
        magnitude_errors={"V": "V_err"}, colours={"B-V": "B-V"},
    )  # fmt: skip


def test_stars_near_the_horizon_are_lifted_by_the_site_air(profile: Profile, archive: FisheyeResult):
    frame = measure_sky_frame(archive.frames[0], profile)
    assert frame.band == "V"
    truth, lens = pq.read_table(archive.catalog).to_pandas().query("V < 5"), FisheyeNights().lens(0)

    def outward(horizon: Horizon) -> float:
        """Return how far detections below 15 degrees are from where stars should be, away from the zenith."""
        shown = horizon.to_horizon(unit_vectors(truth.ra, truth.dec))
        places = lens.to_pixels(shown[(shown[:, 2] > 0.07) & (shown[:, 2] < 0.26)])
        off = frame.detected.places[:, None] - places[None]
        detected, star = np.nonzero(np.hypot(*np.moveaxis(off, -1, 0)) < 1.5)
        away = places[star] - np.array(lens.centre)
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        assert len(star) > 60
        return float(np.mean(np.sum(off[detected, star] * away, axis=1)))

    site = profile.base.site
    assert abs(outward(frame.horizon)) < 0.06
    assert outward(Horizon.of(frame.mjd_mid, site, Air.standard(site.height_m))) > 0.12


def test_the_geometry_of_a_night_excludes_the_air(
    profile: Profile, archive: FisheyeResult, columns: CatalogColumns, tmp_path: Path
):
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline", pixel_order=0))
    import_catalog(lake, "simcat", "table", [archive.catalog], columns, margin_arcsec=4000.0)
    assert ingest(lake, profile, archive.frames, Inline()).counts == {"ok": 1}
    (geometry,) = read_geometries(lake.layout, "thin")
    low = horizontal_vectors(*(axis.ravel() for axis in np.meshgrid([6.0, 8.0, 10.0], np.arange(0, 360, 15))))
    truth = FisheyeNights().lens(0).to_pixels(low)
    off = np.stack(geometry.lens.to_pixels(low), axis=1) - truth
    away = (truth - truth.mean(axis=0)) / np.linalg.norm(truth - truth.mean(axis=0), axis=1, keepdims=True)
    learned = float(np.mean(np.sum(off * away, axis=1)))
    assert abs(learned) < 0.05


@pytest.mark.slow
def test_refraction_left_to_the_lens_is_not_taken_off(
    profile: Profile, archive: FisheyeResult, columns: CatalogColumns, tmp_path: Path
):
    """With a quarter of the air the lens follows it; what it does to stars is then that of no air."""
    way = replace(profile.base.astrometry, refraction=False)
    left = replace(profile, base=replace(profile.base, astrometry=way))
    frame = measure_sky_frame(archive.frames[0], left)
    low = horizontal_vectors(10.0, 70.0)
    assert frame.horizon.to_icrs(low) == pytest.approx(
        Horizon.of(frame.mjd_mid, profile.base.site, Air(0.0, 0.0)).to_icrs(low), abs=1e-12
    )
    told = []
    for one in (profile, left):
        lake = Lake.create(tmp_path / str(len(told)), Settings(cluster="inline", pixel_order=0))
        import_catalog(lake, "simcat", "table", [archive.catalog], columns, margin_arcsec=4000.0)
        assert ingest(lake, one, archive.frames, Inline()).counts == {"ok": 1}
        (row,) = lake.snapshot().read("frames").to_pylist()
        (geometry,) = read_geometries(lake.layout, "thin")
        lift = json.loads(row["wcs_lens"])["horizon"]["refraction"]
        told.append((row["astrom_refraction"], any(lift), geometry.lens.to_pixels(low)))
    (refracted, air, here), (ignored, none, there) = told
    assert (refracted, air, ignored, none) == ("applied", True, "off", False)
    # The learned lens has what the air does to low stars, which are 1.2 arcminutes higher.
    assert float(np.hypot(*np.subtract(here, there))) > 0.02
