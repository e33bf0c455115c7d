"""A season of one field as tables of a lake: trends of a camera, a variable star, a transit, and nothing of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from skylake import cameras
from skylake.calibration.calibrated_matches import calibrate_matches
from skylake.core.camera import Site
from skylake.core.sphere import healpix_index
from skylake.lake import Lake
from skylake.settings import Settings
from skylake.table.lightcurves import lightcurves_table

Floats = npt.NDArray[np.float64]
#: The field lies across RA 0 and the border of pixels.
FIELD = (0.0, 0.0)
FIRST_NIGHT, NIGHTS, PER_NIGHT, STARS = 20240901, 6, 40, 110
CAMERA, BAND, WHITE_MAG = "sim", "V", 0.004


@dataclass(frozen=True, slots=True)
class Season:
    """A lake with light curves, and what is true of its stars; arrays of shape (n_stars,) or (n_frames,)."""

    lake: Lake
    ra: Floats
    dec: Floats
    mag: Floats
    mjd: Floats
    #: Star 0 is a wave, star 1 has transits.
    wave_period: float = 0.7311
    wave_amplitude: float = 0.03
    box_period: float = 1.3
    box_duration: float = 0.14
    box_depth: float = 0.025


@pytest.fixture(scope="session")
def season(
    tmp_path_factory: pytest.TempPathFactory,
    match_rows: Callable[..., pa.Table],
    frame_rows: Callable[..., pa.Table],
    make_rows: Callable[..., pa.Table],
    put: Callable[..., Any],
) -> Season:
    """A lake of six nights of forty frames with a hundred stars. Tests do not change it."""
    random = np.random.default_rng(5)
    lake = Lake.create(tmp_path_factory.mktemp("season") / "lake", Settings(cluster="inline", pixel_order=3))
    lake.keep_profile(cameras.load(CAMERA))
    ra, dec = (random.uniform(-1.5, 1.5, STARS) % 360.0), random.uniform(-1.5, 1.5, STARS)
    mag = np.append([9.0, 9.2], random.uniform(9.0, 10.5, STARS - 2))
    mjd = (60554.0 + np.arange(NIGHTS)[:, None] + np.linspace(0.05, 0.35, PER_NIGHT)).ravel()
    made = Season(lake, ra, dec, mag, mjd)
    true, trend = _magnitudes(made, random)
    for night in range(NIGHTS):
        frames = np.arange(night * PER_NIGHT, (night + 1) * PER_NIGHT)
        _put_night(made, night, frames, true, trend, (match_rows, frame_rows, make_rows, put), random)
    return made


def _magnitudes(season: Season, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Return magnitudes of stars on frames, and the width of images that their trends follow."""
    n = len(season.mjd)
    width = 2.5 + 0.2 * np.sin(2 * np.pi * season.mjd / 0.41) + 0.1 * random.standard_normal(n)
    true = np.repeat(season.mag[:, None], n, axis=1)
    true += random.normal(0, 0.02, n) + np.outer(random.normal(0, 0.05, STARS), width - 2.5)
    true[0] += season.wave_amplitude * np.sin(2 * np.pi * season.mjd / season.wave_period)
    away = np.abs(
        (season.mjd - 60554.2 + 0.5 * season.box_period) % season.box_period - 0.5 * season.box_period
    )
    true[1] += season.box_depth * (away < 0.5 * season.box_duration)
    return true + WHITE_MAG * random.standard_normal(true.shape), width


def _put_night(
    season: Season, night: int, frames: Any, true: Floats, width: Floats, make: Any, random: Any
) -> None:
    match_rows, frame_rows, make_rows, put = make
    star, frame = (one.ravel() for one in np.meshgrid(np.arange(STARS), frames))
    count = len(star)
    own = {"camera": [CAMERA] * count, "night": [FIRST_NIGHT + night] * count}
    flux = 10.0 ** (-0.4 * (true[star, frame] - 20.0))
    error = flux * WHITE_MAG / 1.0857
    ra, dec = season.ra[star], season.dec[star]
    place = {"ra_deg": ra, "dec_deg": dec}
    spot = {
        "x_px": 500.0 + 100.0 * ((ra + 180.0) % 360.0 - 180.0) + 0.7 * np.sin(frame),
        "y_px": 500.0 + 100.0 * dec + 0.4 * np.cos(0.7 * frame),
    }
    shared = {"frame_id": frame + 1, "source_no": star, "mjd_mid": season.mjd[frame]} | spot | own
    matches = match_rows(
        count, ref_id=star + 1, flux_aper2=flux, flux_aper2_err=error, flux_aper1=0.8 * flux,
        flux_aper1_err=0.8 * error, band=BAND, ref_colour=0.5 + 0.01 * star, **place, **shared,
    )  # fmt: skip
    sources = make_rows(
        "sources", count, night, _healpix_29=healpix_index(ra, dec), fwhm_px=width[frame], shape_d=0.01 * width[frame],
        shape_k=np.zeros(count), sky_adu=np.full(count, 100.0), sky_rms_adu=np.full(count, 5.0), flux_aper2=flux,
        flux_aper2_err=error, flags=np.zeros(count, np.int32), **place, **shared,
    )  # fmt: skip
    n = len(frames)
    one = {"camera": CAMERA, "night": FIRST_NIGHT + night, "filter": BAND, "band": BAND}
    exposures = frame_rows(
        n,
        frame_id=(frames + 1).tolist(),
        mjd_mid=season.mjd[frames].tolist(),
        fwhm_px=width[frames].tolist(),
        airmass=1.2,
        **one,
    )
    zeros = make_rows(
        "zeropoints", n, night, frame_id=frames + 1, camera=[CAMERA] * n, night=[FIRST_NIGHT + night] * n,
        band=[BAND] * n, catalog=["simcat"] * n, version=[1] * n, flux=["aper2"] * n, zp=np.full(n, 20.0),
        zp_err=np.full(n, 1e-4), zp_fit_err=np.full(n, 1e-4), zp_random_err=np.zeros(n), colour_term=np.zeros(n),
        colour_term_err=np.zeros(n), pivot_colour=np.full(n, 0.7), sky_light_scale=np.zeros(n),
        sky_light_scale_err=np.zeros(n), position_err=np.zeros(n), position_random_err=np.zeros(n),
        floor_mag=np.zeros(n), photon_scale=np.ones(n), mean_colour=np.full(n, 0.7), colour_spread=np.full(n, 0.3),
        n_used=np.full(n, 100, np.int32),
        **{one: pa.nulls(n) for one in ("position_terms", "shares", "extinction", "extinction_err", "mean_airmass")},
    )  # fmt: skip
    name, batch = f"{CAMERA}-{FIRST_NIGHT + night}", {"camera": CAMERA, "night": FIRST_NIGHT + night}
    parts = [("frames", name, exposures), ("sources", name, sources)]
    parts += [("matches", f"{name}-simcat", matches), ("zeropoints", f"{name}-simcat", zeros)]
    site: dict[str, Site] = {CAMERA: cameras.load(CAMERA).base.site}
    curves = lightcurves_table(matches, calibrate_matches(matches, exposures, zeros), site)
    block = {
        "night": pa.array([FIRST_NIGHT + night] * STARS, pa.int32()),
        "camera": pa.array([CAMERA] * STARS),
    }
    for column, values in block.items():
        curves = curves.set_column(curves.schema.get_field_index(column), column, values)
    put(season.lake, *parts, ("lightcurves", name, curves), **batch)
