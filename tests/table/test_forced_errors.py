"""Errors of forced light curves against drawn nights: what is a frame's own scatters, what frames share does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake.calibration.calibrated_forced import calibrate_forced
from skylake.calibration.match_selection import Band
from skylake.calibration.zeropoints import zeropoints_table
from skylake.core.camera import Calibration, FilterBand, Site
from skylake.core.robust import sigma_mad
from skylake.core.sphere import healpix_index
from skylake.schema import arrow_schema, conform, load
from skylake.table.forced_lightcurves import TargetFacts, forced_lightcurves_table

TERM, PIVOT, APCOR = 0.12, 0.7, 1.15
BAND = Band(FilterBand("V", "B-V", PIVOT), "aper2", Calibration(min_stars=5, colour_range=(-0.5, 2.5)))
N_FRAMES, N_TARGETS, NIGHTS = 12, 60, 80


def forced_rows(random: np.random.Generator, night: Any, mag: np.ndarray, colour: np.ndarray) -> pa.Table:
    """Constant stars on all frames of a night: aperture corrections are wrong on each frame as for its detections."""
    frame, star = (one.ravel() for one in np.mgrid[: len(night.zp), : len(mag)])
    instrumental = mag[star] - night.zp[frame] - TERM * (colour[star] - PIVOT)
    flux = 10.0 ** (-0.4 * instrumental)
    error = 0.002 * flux + 0.4
    ra, dec = 120.0 + 0.01 * star, np.full(len(star), -25.0)
    plain = {"int64": 1, "int32": 1, "double": 1.0, "float": 1.0, "string": "lab"}
    columns: dict[str, Any] = {
        item.name: pa.nulls(len(star), item.type)
        if item.nullable
        else pa.array([plain[str(item.type)]] * len(star), item.type)
        for item in arrow_schema(load("forced_sources"))
    }
    columns |= {
        "frame_id": frame + 1, "star_id": star, "mjd_mid": 60408.1 + 0.001 * frame, "ra_deg": ra, "dec_deg": dec,
        "_healpix_29": healpix_index(ra, dec), "flags": np.zeros(len(star), np.int32),
        "flux_hybrid2": ((flux + random.normal(0.0, error)) / APCOR).astype(np.float32),
        "flux_hybrid2_err": (error / APCOR).astype(np.float32),
        "sky_rms_adu": np.full(len(star), 4.0, np.float32),
    }  # fmt: skip
    return conform(pa.table(columns), load("forced_sources"))


@pytest.fixture(scope="module")
def drawn(make_night: Callable[..., Any]) -> dict[str, np.ndarray]:
    """Light curves of constant stars of many nights with what is true of them; half of their colours are told."""
    found: dict[str, list[Any]] = {}
    for seed in range(NIGHTS):
        night = make_night(seed, n_frames=N_FRAMES, n_stars=50, apcor_error=0.004)
        random = np.random.default_rng(10_000 + seed)
        mag, colour = random.uniform(9.5, 16.5, N_TARGETS), random.uniform(0.1, 1.5, N_TARGETS)
        rows = forced_rows(random, night, mag, colour)
        told = np.arange(N_TARGETS) % 2 == 0
        star = rows["star_id"].to_numpy()
        zeros = zeropoints_table(night.frames, night.matches, {"V": BAND}, "simcat", 1)
        photometry = calibrate_forced(rows, np.where(told, colour, np.nan)[star], night.frames, zeros)
        names, nothing = np.array(["V"] * len(star), object), np.full(len(star), np.nan)
        facts = TargetFacts(names, star, nothing, nothing, nothing, names, names)
        curves = forced_lightcurves_table(rows, photometry, facts, {"lab": Site()}).to_pandas()
        which = curves.star_id.to_numpy()
        values = {
            name: curves[name].to_numpy() for name in curves if name.startswith(("mag_mean", "chi2", "snr"))
        }
        for name, value in (values | {"true": mag[which], "told": told[which]}).items():
            found.setdefault(name, []).append(value)
    return {name: np.concatenate(each).astype(float) for name, each in found.items()}


@pytest.mark.full
@pytest.mark.parametrize("told", [True, False], ids=["known colours", "unknown colours"])
@pytest.mark.parametrize(("bright", "faint"), [(9.5, 11.5), (11.5, 14.0), (14.0, 16.5)])
def test_chi_square_of_constant_stars_is_one(
    drawn: dict[str, np.ndarray], bright: float, faint: float, told: bool
) -> None:
    mine = (drawn["told"] == told) & (drawn["true"] >= bright) & (drawn["true"] < faint)
    chi2 = drawn["chi2"][mine]
    # Its spread tells it from a number that is one by construction; stars of a frame share what its zeropoint is off.
    assert chi2.mean() == pytest.approx(1.0, abs=0.1)
    assert chi2.std() == pytest.approx(np.sqrt(2.0 / (N_FRAMES - 1)), rel=0.2)


@pytest.mark.parametrize("told", [True, False], ids=["known colours", "unknown colours"])
@pytest.mark.parametrize(("bright", "faint"), [(9.5, 11.5), (11.5, 14.0), (14.0, 16.5)])
def test_means_have_honest_errors_with_what_frames_share(
    drawn: dict[str, np.ndarray], bright: float, faint: float, told: bool
) -> None:
    mine = (drawn["told"] == told) & (drawn["true"] >= bright) & (drawn["true"] < faint)
    pull = ((drawn["mag_mean"] - drawn["true"]) / drawn["mag_mean_err"])[mine]
    # Of a star of unknown colour the error holds the mean and the spread of the colours, which here are no Gaussian.
    assert 0.85 < np.sqrt(np.mean(pull**2)) < 1.15
    if told:
        assert abs(pull.mean()) < 0.25, "stars of a night share most of it, so nights count and not stars"
        assert 0.85 < sigma_mad(pull) < 1.15
    if faint < 12.0:
        alone = ((drawn["mag_mean"] - drawn["true"]) / drawn["mag_mean_random_err"])[mine]
        assert sigma_mad(alone) > 2.0, "their own errors alone would be too small"
