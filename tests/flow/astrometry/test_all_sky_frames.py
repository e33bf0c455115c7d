import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from skylake import cameras
from skylake.core.sphere import unit_vectors
from skylake.errors import ConfigurationError, FrameFailed, FrameRejected
from skylake.flow.astrometry.all_sky_frames import measure_sky_frame, solve_all_sky_file
from skylake.image.allsky.star_fit import pair
from skylake.image.wcs.header_wcs import CatalogStars

DATA = os.environ.get("SKYLAKE_REAL_DATA")
PROFILE = cameras.load("allsky-magic")
SMALL = """
name = "small"
like = "generic"
default_filter = "V"
[site]
longitude_deg = -17.9
latitude_deg = 28.8
[extraction]
background_mesh_px = 32
"""


@pytest.fixture
def small(tmp_path):
    (tmp_path / "small.toml").write_text(SMALL)
    return cameras.load(tmp_path / "small.toml")


def no_stars(ra_deg, dec_deg, radius_deg, mjd):
    return CatalogStars(np.zeros(0), np.zeros(0), np.zeros(0))


def write_frame(path, **cards):
    pixels = np.random.default_rng(0).normal(1000.0, 10.0, (200, 260))
    x, y = np.meshgrid(np.arange(260), np.arange(200))
    for column, row in ((60, 50), (130, 120), (200, 90)):
        pixels += 4000.0 * np.exp(-0.5 * ((x - column) ** 2 + (y - row) ** 2))
    fits.PrimaryHDU(pixels.astype(np.float32), fits.Header(cards)).writeto(path)
    return path


@pytest.mark.skipif(DATA is None, reason="SKYLAKE_REAL_DATA names no folder of real frames")
def test_a_real_fisheye_is_found_from_site_and_time():
    table = pq.read_table(Path(DATA) / "catalogs" / "bigsky_v11.parquet", columns=["ra", "dec", "V"])
    ra, dec, mag = (table[name].to_numpy() for name in table.column_names)
    asked = []

    def find_stars(*question):
        asked.append(question)
        return CatalogStars(ra[mag < 8.5], dec[mag < 8.5], mag[mag < 8.5])

    path = Path(DATA) / "allsky_magic" / "20180817_0055.fits.gz"
    solution = solve_all_sky_file(path, PROFILE, find_stars)
    # The stars of the whole sky at the middle of the exposure, which begins at 00:52:21 and takes a minute.
    assert asked == [(0.0, 90.0, 180.0, pytest.approx(58347.0 + (52 * 60 + 51) / 86400.0, abs=1e-5))]
    assert solution.log_odds > 200.0
    assert solution.held_out_px < 0.4
    assert solution.n_found > 0.8 * solution.n_expected
    seen = solution.view.horizon.to_horizon(unit_vectors(ra[mag < 5.5], dec[mag < 5.5]))
    seen = seen[seen[:, 2] > np.sin(np.radians(15.0))]
    detected = measure_sky_frame(path, PROFILE).detected
    found = pair(solution.view.lens, seen, detected.places, 2.0)
    assert len(found.star) > 800
    assert np.sqrt(np.mean(found.distance**2)) < 0.32


def test_a_frame_without_a_sky_is_refused(tmp_path, small):
    path = write_frame(tmp_path / "a.fits", **{"DATE-OBS": "2018-08-17T01:00:00", "EXPTIME": 60.0})
    frame = measure_sky_frame(path, small)
    assert np.allclose(sorted(frame.detected.places.tolist()), [[60, 50], [130, 120], [200, 90]], atol=0.1)
    assert 1.8 < frame.fwhm_px < 2.6
    with pytest.raises(FrameRejected, match="3 detections and 0 stars are too few"):
        solve_all_sky_file(path, small, no_stars)


def test_a_frame_without_time_fails(tmp_path, small):
    path = write_frame(tmp_path / "a.fits", EXPTIME=60.0)
    with pytest.raises(FrameFailed) as failed:
        measure_sky_frame(path, small)
    assert failed.value.reason == "no_time"


def test_a_profile_without_site_is_reported(tmp_path):
    path = write_frame(tmp_path / "a.fits", **{"DATE-OBS": "2018-08-17T01:00:00", "EXPTIME": 60.0})
    with pytest.raises(ConfigurationError, match="longitude_deg"):
        solve_all_sky_file(path, cameras.load("generic"), no_stars)
