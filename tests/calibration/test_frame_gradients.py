"""Offsets over single frames: none invented, those that are there recovered, with honest errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.calibration.calibrated_matches import FRAME_COLUMNS, ZEROPOINT_COLUMNS, calibrate_matches
from skylake.calibration.frame_gradients import FrameGradients, fit_gradients
from skylake.calibration.match_selection import Band
from skylake.calibration.zeropoints import zeropoints_table
from skylake.core.camera import Calibration, FilterBand
from skylake.core.group_means import group_means
from skylake.core.position_terms import field_coordinates, position_offset, term_mean_squares

Floats = npt.NDArray[np.float64]
ZP, SPREAD = 20.0, 0.05
SIZE = 1000


def fitted(seed: int, terms: Floats, n_frames: int, n_stars: int, outliers: float = 0.0) -> FrameGradients:
    """Fit frames of stars of their own, whose zeropoint has an offset, and some of which are off to one side."""
    random = np.random.default_rng(seed)
    u, v = random.uniform(-1.0, 1.0, (2, n_frames * n_stars))
    values = ZP + position_offset(terms, u, v) + SPREAD * random.standard_normal(u.size)
    values -= np.where(random.random(u.size) < outliers, random.exponential(0.5, u.size), 0.0)
    starts = np.arange(n_frames + 1) * n_stars
    errors = np.full(u.size, SPREAD)
    return fit_gradients(values, errors, (u, v), starts, group_means(values, errors, starts).means)


@pytest.mark.parametrize(("n_stars", "outliers"), [(25, 0.0), (80, 0.0), (80, 0.08), (300, 0.0)])
def test_none_is_invented(n_stars: int, outliers: float) -> None:
    found = fitted(n_stars, np.zeros(0), 400, n_stars, outliers)
    assert np.count_nonzero(found.degree) <= 0.04 * 400


@pytest.mark.parametrize("outliers", [0.0, 0.08])
@pytest.mark.parametrize(
    "terms", [[0.06, -0.05], [0.05, 0.06, 0.06, -0.05, 0.05]], ids=["gradient", "curved"]
)
def test_what_is_there_is_recovered_with_honest_errors(terms: list[float], outliers: float) -> None:
    found = fitted(1, np.array(terms), 200, 120, outliers)
    degree = 1 if len(terms) == 2 else 2
    assert np.mean(found.degree == degree) > 0.9 and (found.degree > 0).all()
    some = found.degree == degree
    pulls = (found.zp - ZP)[some] / found.zp_err[some]
    # Outliers are all on one side, which moves a mean and takes no account of errors.
    assert abs(pulls.mean()) < 0.15 + 4.0 * outliers and 0.88 < pulls.std() < 1.15
    off = found.terms[some][:, : len(terms)] - terms
    rms = np.sqrt(np.mean(off**2 @ term_mean_squares(degree)))
    assert 0.88 < rms / np.sqrt(np.mean(found.error[some] ** 2)) < 1.15


@given(st.integers(0, 2**32), st.lists(st.floats(0.05, 0.1), min_size=5, max_size=5))
def test_terms_are_those_of_the_views(seed: int, terms: list[float]) -> None:
    """Without noise the fit is what :func:`position_offset` drew, up to the prior."""
    random = np.random.default_rng(seed)
    u, v = random.uniform(-1.0, 1.0, (2, 120))
    values, starts = ZP + position_offset(terms, u, v), np.array([0, 120])
    found = fit_gradients(values, np.full(120, 0.02), (u, v), starts, np.array([np.median(values)]))
    assert found.degree.tolist() == [2] and found.zp[0] == pytest.approx(ZP, abs=1e-3)
    places = random.uniform(-1.0, 1.0, (2, 30))
    got = found.offset(np.zeros(30, int), *places)
    np.testing.assert_allclose(got, position_offset(terms, *places), atol=1e-3)


def test_the_pull_of_the_stars_is_the_derivative_of_the_zeropoint() -> None:
    random = np.random.default_rng(3)
    u, v = random.uniform(-1.0, 1.0, (2, 80))
    errors, starts = np.full(80, SPREAD), np.array([0, 80])
    values = ZP + 0.1 * u + SPREAD * random.standard_normal(80)
    found = fit_gradients(values, errors, (u, v), starts, np.array([ZP]))
    assert found.degree[0] == 1 and found.pull.sum() == pytest.approx(1.0)
    # A colour term that is off changes each star by its colour, too little to change its weight.
    moved = fit_gradients(values + 1e-5 * v, errors, (u, v), starts, np.array([ZP]))
    assert moved.zp[0] - found.zp[0] == pytest.approx(1e-5 * found.pull @ v, abs=3e-6 * 1e-1)


def test_few_stars_and_unknown_places_have_none() -> None:
    random = np.random.default_rng(4)
    u, v = random.uniform(-1.0, 1.0, (2, 40))
    values, starts = ZP + 0.3 * u, np.array([0, 40])
    errors, means = np.full(40, 0.02), np.array([ZP])
    assert fit_gradients(values, errors, (u, v), starts, means).degree.tolist() == [1]
    unknown = np.where(np.arange(40) == 7, np.nan, u)
    assert fit_gradients(values, errors, (unknown, v), starts, means).degree.tolist() == [0]
    few = np.array([0, 14])
    assert fit_gradients(values[:14], errors[:14], (u[:14], v[:14]), few, means).degree.tolist() == [0]
    assert fit_gradients(values, errors, (u, v), starts, means, most_degree=0).degree.tolist() == [0]


def test_magnitudes_are_right_all_over_frames_behind_uneven_clouds(make_night: Callable[..., Any]) -> None:
    n_frames, n_stars = 6, 150
    night = make_night(2, n_frames=n_frames, n_stars=n_stars, apcor_error=0.0)
    random = np.random.default_rng(5)
    x, y = random.uniform(0, SIZE, (2, n_stars))[:, night.star]
    place = field_coordinates(x, y, SIZE, SIZE)
    # Two frames have a cloud on one side.
    terms = np.where(np.isin(night.frame, [1, 4])[:, None], [0.10, -0.06], 0.0)
    flux = night.matches["flux_aper2"].to_numpy() * 10.0 ** (0.4 * position_offset(terms, *place))
    matches = _changed(night.matches, x_px=x, y_px=y, flux_aper2=flux)
    frames = _changed(night.frames, width_px=np.full(n_frames, SIZE), height_px=np.full(n_frames, SIZE))
    band = Band(FilterBand("V", "B-V", 0.7), "aper2", Calibration(colour_range=(-0.5, 2.5)))
    rows = zeropoints_table(frames, matches, {"V": band}, "simcat", 1)
    table = rows.sort_by("frame_id").to_pandas()
    assert table["position_terms"].notna().tolist() == [False, True, False, False, True, False]
    assert table["position_err"].notna().tolist() == table["position_terms"].notna().tolist()
    assert (np.abs(table["zp"] - night.zp) < 4.0 * table["zp_err"]).all()
    # The scatter of the night is not that of the gradients.
    assert table["rms"].max() < 1.4 * table["rms"].min() and table["intrinsic_mag"].max() < 0.016
    found = calibrate_matches(matches, frames.select(FRAME_COLUMNS), rows.select(ZEROPOINT_COLUMNS))
    off = (found.mag - matches["ref_mag"].to_numpy())[matches["flags"].to_numpy() == 0]
    left = [abs(np.polyfit(place[0], off, 1)[0]), abs(np.polyfit(place[1], off, 1)[0])]
    assert max(left) < 0.006


def _changed(table: pa.Table, **columns: Any) -> pa.Table:
    for name, values in columns.items():
        place = table.column_names.index(name)
        kind = table.schema.field(name)
        table = table.set_column(place, kind, pa.array(values, kind.type))
    return table
