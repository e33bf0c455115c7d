from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.calibration.calibrated_matches import calibrate_matches
from skylake.calibration.match_selection import Band
from skylake.calibration.zeropoints import zeropoints_table
from skylake.core.camera import FLUXES, Calibration, FilterBand
from skylake.schema import load
from skylake.schema.arrow import conform


def zeropoints(rows: list[dict[str, Any]]) -> pa.Table:
    full = [
        {"camera": "lab", "night": 20240407, "mjd_mid": 60408.1, "catalog": "simcat", "version": 1, "flux": "aper2",
         "n_matched": 9, "n_used": 9, **row}
        for row in rows
    ]  # fmt: skip
    names = {name for row in full for name in row}
    schema = load("zeropoints")
    return conform(pa.table({name: [row.get(name) for row in full] for name in sorted(names)}), schema)


floats = st.floats(-2.0, 2.0)
zero_rows = st.fixed_dictionaries(
    {
        "zp": st.none() | st.floats(15.0, 25.0),
        "zp_err": st.floats(0.05, 0.1),
        "zp_fit_err": st.none() | st.floats(0.001, 0.01),
        "zp_random_err": st.none() | st.floats(0.0, 0.001),
        "colour_term_err": st.none() | st.floats(0.0, 0.03),
        "mean_colour": st.none() | floats,
        "colour_spread": st.floats(0.0, 0.5),
        "n_used": st.integers(3, 300),
        "flux": st.sampled_from(FLUXES),
        "colour_term": st.none() | floats,
        "pivot_colour": st.none() | floats,
        "version": st.integers(1, 5),
    }
)
match_values = st.tuples(
    st.integers(1, 5),
    st.floats(-50.0, 1e4, width=32),
    st.floats(0.5, 50.0, width=32),
    st.one_of(st.just(float("nan")), st.floats(-0.5, 2.0, width=32)),
    st.floats(8.0, 14.0, width=32),
)


def zp_error_at(zero: dict[str, Any], colour: float | None) -> float:
    """The error of zp + c (colour - pivot), which is known best at the mean colour of the stars of the fit."""
    told = None not in (zero["colour_term_err"], zero["mean_colour"], zero["pivot_colour"])
    offset = zero["mean_colour"] - zero["pivot_colour"] if told else 0.0
    term_err = zero["colour_term_err"] if told else 0.0
    fit = zero["zp_fit_err"]
    if fit is None:
        fit = np.sqrt(max(zero["zp_err"] ** 2 - (term_err * offset) ** 2, 0.0))
    if not told:
        return float(fit)
    if colour is None:
        # Fields as they usually are count as four stars of 0.45 mag about the pivot.
        squares = [0.45**2] * 4 + [zero["colour_spread"] ** 2 + offset**2] * zero["n_used"]
        off = (zero["colour_term"] or 0.0) * np.sqrt(np.mean(squares))
        return float(np.sqrt(fit**2 + (term_err * offset) ** 2 + off**2))
    return float(np.hypot(fit, term_err * (colour - zero["mean_colour"])))


@given(
    st.lists(zero_rows, min_size=1, max_size=4), st.lists(match_values, min_size=1, max_size=12), st.randoms()
)
def test_photometry_is_that_of_a_loop(
    match_rows: Callable[..., Any],
    frame_rows: Callable[..., Any],
    zeros: list[dict[str, Any]],
    values: list[tuple[Any, ...]],
    random: Any,
) -> None:
    frame, flux, error, colour, mag = (list(column) for column in zip(*values, strict=True))
    columns = {f"flux_{name}": np.array(flux) * (i + 1) for i, name in enumerate(FLUXES)}
    columns |= {f"flux_{name}_err": error for name in FLUXES}
    columns |= {
        f"apcor_rel_{name}": [np.nan if i % 3 == 0 else 1.0 + 0.01 * i for i in range(len(values))]
        for name in FLUXES
    }
    colour_err = [np.nan if i % 2 else 0.01 * i for i in range(len(values))]
    columns |= {"ref_colour": colour, "ref_colour_err": colour_err}
    matches = match_rows(len(values), frame_id=frame, ref_mag=mag, **columns)
    frames = frame_rows(3, **{f"apcor_{name}": [1.0 + 0.1 * i, 1.2, None] for i, name in enumerate(FLUXES)})
    # Frames and zeropoints come in any order, and not for the same frames.
    rows = [row | {"frame_id": i + 1} for i, row in enumerate(zeros)]
    random.shuffle(rows)
    found = calibrate_matches(matches, frames.take([2, 0, 1]), zeropoints(rows))
    known = {row["frame_id"]: row for row in rows}
    for i, match in enumerate(matches.to_pylist()):
        zero = known.get(match["frame_id"])
        apcor = None
        if zero is not None and match["frame_id"] <= 3:
            apcor = frames[f"apcor_{zero['flux']}"].to_pylist()[match["frame_id"] - 1]
        if apcor is not None:
            apcor *= match[f"apcor_rel_{zero['flux']}"] or 1.0
        if zero is None or zero["zp"] is None or apcor is None:
            assert np.isnan([found.flux[i], found.mag[i], found.mag_err[i], found.residual[i]]).all()
            continue
        total = match[f"flux_{zero['flux']}"] * apcor
        total_err = match[f"flux_{zero['flux']}_err"] * apcor
        assert found.flux[i] == pytest.approx(total) and found.flux_err[i] == pytest.approx(total_err)
        assert found.version[i] == zero["version"]
        if total <= 0:
            assert np.isnan([found.mag[i], found.mag_err[i], found.residual[i]]).all()
            continue
        pivot, term = zero["pivot_colour"] or 0.0, zero["colour_term"] or 0.0
        star = match["ref_colour"]
        shift = term * ((pivot if star is None else star) - pivot)
        expected = -2.5 * np.log10(total) + zero["zp"] + shift
        assert found.mag[i] == pytest.approx(expected, abs=1e-5)
        relative = 2.5 / np.log(10.0) * total_err / total
        zp_err = zp_error_at(zero, star)
        if star is not None:
            zp_err = np.hypot(zp_err, term * (match["ref_colour_err"] or 0.0))
        assert found.mag_err[i] == pytest.approx(np.hypot(relative, zp_err), rel=1e-5)
        own = min(zero["zp_random_err"] or 0.0, zp_err)
        assert found.zp_random_err[i] == pytest.approx(own, abs=1e-12)
        assert found.zp_systematic_err[i] ** 2 + own**2 == pytest.approx(zp_err**2)
        assert found.residual[i] == pytest.approx(match["ref_mag"] - expected, abs=1e-5)


@pytest.mark.parametrize("empty", ["matches", "frames", "zeropoints", "all"])
def test_empty_tables_give_nothing(
    match_rows: Callable[..., Any], frame_rows: Callable[..., Any], empty: str
) -> None:
    matches, frames, zeros = (
        match_rows(3),
        frame_rows(1),
        zeropoints([{"frame_id": 1, "zp": 20.0, "zp_err": 0.01}]),
    )
    cut = {"matches": (0, 1, 1), "frames": (3, 0, 1), "zeropoints": (3, 1, 0), "all": (0, 0, 0)}[empty]
    found = calibrate_matches(
        *(table.slice(0, n) for table, n in zip((matches, frames, zeros), cut, strict=True))
    )
    assert len(found.mag) == len(found.version) == cut[0]
    assert np.isnan(found.mag).all() and np.isnan(found.flux).all()


def test_a_star_without_colour_has_the_pivot_colour(
    match_rows: Callable[..., Any], frame_rows: Callable[..., Any]
) -> None:
    matches = match_rows(3, ref_colour=[float("nan"), 0.7, 1.7])
    zero = zeropoints([{"frame_id": 1, "zp": 20.0, "zp_err": 0.01, "colour_term": 0.2, "pivot_colour": 0.7}])
    mag = calibrate_matches(matches, frame_rows(1), zero).mag
    np.testing.assert_allclose(mag, [15.0, 15.0, 15.2], atol=1e-6)


def draw_nights(
    make_night: Callable[..., Any], n_nights: int, n_known: int, **errors: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deviations from the truth in units of the stated error, colours, and whether they are told: those of half."""
    band = Band(FilterBand("V", "B-V", 0.7), "aper2", Calibration(min_stars=3, colour_range=(-0.5, 2.5)))
    pulls, colours, told = [], [], []
    for seed in range(n_nights):
        night = make_night(seed, n_frames=1, n_stars=2 * n_known, apcor_error=0.0, **errors)
        colour = night.matches["ref_colour"].to_numpy()
        seen = np.arange(len(colour)) % 2 == 0
        given = pa.array(np.where(seen, colour, np.nan), pa.float32(), from_pandas=True)
        matches = with_column(night.matches, "ref_colour", given)
        zeros = zeropoints_table(night.frames, matches, {"V": band}, "simcat", 1)
        # The catalog's magnitudes have errors; true ones follow from the flux, which here has none.
        flux = 10.0 ** (-0.4 * (12.0 - night.zp[0] - 0.12 * (colour - 0.7))) / 1.15
        matches = with_column(matches, "flux_aper2", pa.array(flux, pa.float32()))
        matches = with_column(matches, "flux_aper2_err", pa.array(1e-6 * flux, pa.float32()))
        found = calibrate_matches(matches, night.frames, zeros)
        pulls.append((found.mag - 12.0) / found.mag_err)
        colours.append(colour)
        told.append(seen)
    return np.concatenate(pulls), np.concatenate(colours), np.concatenate(told)


def with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), values)


@pytest.fixture(scope="module")
def drawn_nights(make_night: Callable[..., Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """300 nights of sixteen stars."""
    return draw_nights(make_night, 300, 16, catalog_error=0.03)


@pytest.mark.full
@pytest.mark.parametrize(("blue", "red"), [(0.1, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1.2), (1.2, 1.5)])
def test_magnitude_errors_are_honest_at_every_colour(
    drawn_nights: tuple[np.ndarray, ...], blue: float, red: float
) -> None:
    pulls, colour, told = drawn_nights
    mine = pulls[told & (colour >= blue) & (colour < red)]
    assert len(mine) > 300
    assert 0.8 < mine.std() < 1.25
    assert abs(mine.mean()) < 0.3


@pytest.mark.full
def test_stars_of_unknown_colour_are_as_uncertain_as_they_say(drawn_nights: tuple[np.ndarray, ...]) -> None:
    pulls, _, told = drawn_nights
    assert 0.8 < pulls[~told].std() < 1.25


@pytest.mark.slow
@pytest.mark.full
def test_errors_of_unknown_colours_are_honest_for_few_stars(make_night: Callable[..., Any]) -> None:
    pulls, _, told = draw_nights(make_night, 400, 4, catalog_error=0.005, intrinsic=0.0)
    # Colours are even over 1.4 mag, about 0.1 mag from the pivot.
    assert 0.9 < np.sqrt(np.mean(pulls[~told] ** 2)) < 1.1


@pytest.mark.full
def test_magnitude_errors_are_honest_at_all_altitudes(make_night: Callable[..., Any]) -> None:
    pulls, low = [], []
    band = Band(FilterBand("V", "B-V", 0.7), "aper2", Calibration(min_stars=5, colour_range=(-0.5, 2.5)))
    for seed in range(30):
        night = make_night(
            seed, n_frames=2, n_stars=60, extinction=0.3, catalog_error=0.0, intrinsic=0.0, apcor_error=0.0
        )
        zeros = zeropoints_table(night.frames, night.matches, {"V": band}, "simcat", 1)
        found = calibrate_matches(night.matches, night.frames, zeros)
        pulls.append(found.residual / found.mag_err)
        low.append(night.matches["altitude_deg"].to_numpy() < 15.0)
    every, few = np.concatenate(pulls), np.concatenate(pulls)[np.concatenate(low)]
    for some in (every, few):
        assert abs(np.nanmean(some)) < 0.15 and 0.85 < np.nanstd(some) < 1.15


def test_below_the_horizon_no_magnitude_is_known(make_night: Callable[..., Any]) -> None:
    night = make_night(2, extinction=0.3)
    band = Band(FilterBand("V", "B-V", 0.7), "aper2", Calibration(min_stars=5, colour_range=(-0.5, 2.5)))
    zeros = zeropoints_table(night.frames, night.matches, {"V": band}, "simcat", 1)
    place = night.matches.column_names.index("altitude_deg")
    low = pa.array(np.full(night.matches.num_rows, -0.2, np.float32))
    found = calibrate_matches(
        night.matches.set_column(place, night.matches.schema.field(place), low), night.frames, zeros
    )
    assert np.isnan(found.mag).all() and np.isfinite(found.flux).all()
