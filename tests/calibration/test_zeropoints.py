from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skylake.calibration.match_selection import Band, gather
from skylake.calibration.night_terms import fit_colour_term
from skylake.calibration.zeropoints import zeropoints_table
from skylake.core.camera import Calibration, FilterBand
from skylake.core.flags import SPOILED, SourceFlag

V = Band(FilterBand("V", "B-V", 0.7), "aper2", Calibration(min_stars=5, colour_range=(-0.5, 2.5)))


def solve(night: Any, band: Band = V) -> Any:
    """The zeropoints of a night as a data frame in the order of its frames."""
    table = zeropoints_table(night.frames, night.matches, {"V": band}, "simcat", 3)
    return table.to_pandas().sort_values("frame_id").reset_index(drop=True)


def changed(table: pa.Table, **columns: Any) -> pa.Table:
    for name, values in columns.items():
        place = table.column_names.index(name)
        kind = table.schema.field(name)
        table = table.set_column(place, kind, pa.array(values, kind.type, from_pandas=True))
    return table


#: What is wrong with a night, and how many nights tell whether its calibration is honest.
OUTLIERS: dict[str, tuple[dict[str, float], int]] = {
    "a clear night": ({}, 40),
    "clouds over a quarter of a frame": ({"cloudy": 0.25}, 40),
    "variables": ({"variable": 0.08}, 40),
    "blends": ({"blended": 0.08}, 40),
    "all of it": ({"cloudy": 0.1, "variable": 0.05, "blended": 0.05, "saturated": 0.1}, 200),
}


@pytest.mark.full
@pytest.mark.parametrize(("outliers", "nights"), OUTLIERS.values(), ids=OUTLIERS.keys())
def test_zeropoint_and_colour_term_have_honest_errors(
    make_night: Callable[..., Any], outliers: dict[str, float], nights: int
) -> None:
    zp_pulls, term_pulls = [], []
    for seed in range(nights):
        night = make_night(seed, n_frames=2, n_stars=50, **outliers)
        first = solve(night).iloc[0]
        zp_pulls.append((first.zp - night.zp[0]) / first.zp_err)
        term_pulls.append((first.colour_term - 0.12) / first.colour_term_err)
    for pulls in (np.array(zp_pulls), np.array(term_pulls)):
        # Chance adds 1 / sqrt(nights) to the mean, and 0.7 of that to the width.
        few = 1.5 / np.sqrt(nights) if nights < 200 else 0.0
        assert abs(pulls.mean()) < 0.2 + few
        assert 0.8 - few < pulls.std() < 1.25 + few
        assert np.abs(pulls).max() < 5.0


@pytest.mark.full
def test_extinction_is_unbiased_and_as_uncertain_as_it_says(make_night: Callable[..., Any]) -> None:
    pulls = []
    for seed in range(50):
        night = make_night(seed, n_frames=3, n_stars=80, extinction=0.2, variable=0.05, blended=0.03)
        row = solve(night).iloc[1]
        pulls.append(
            (
                (row.zp - night.zp[1]) / row.zp_err,
                (row.extinction - 0.2) / row.extinction_err,
                (row.colour_term - 0.12) / row.colour_term_err,
            )
        )
        assert 1.5 < row.mean_airmass < 3.0 and row.extinction_err < 0.01
    assert np.abs(np.mean(pulls, axis=0)).max() < 0.35
    assert np.std(pulls, axis=0).min() > 0.75 and np.std(pulls, axis=0).max() < 1.3
    assert np.abs(pulls).max() < 5.0


@pytest.mark.full
def test_extinction_of_few_stars_is_what_is_known_of_the_air(make_night: Callable[..., Any]) -> None:
    band = replace(V, calibration=replace(V.calibration, colour_term_prior=0.12, colour_term_prior_err=0.02))
    pulls = []
    for seed in range(40):
        night = make_night(seed, n_frames=1, n_stars=7, extinction=0.25, apcor_error=0.0)
        row = solve(night, band).iloc[0]
        pulls.append(((row.zp - night.zp[0]) / row.zp_err, (row.extinction - 0.25) / row.extinction_err))
    assert np.abs(np.mean(pulls, axis=0)).max() < 0.4 and np.std(pulls, axis=0).max() < 1.3


def test_frames_that_see_degrees_have_no_extinction(make_night: Callable[..., Any]) -> None:
    row = solve(make_night(1)).iloc[0]
    assert pd.isna(row.extinction) and pd.isna(row.extinction_err) and pd.isna(row.mean_airmass)


def test_a_band_without_colour_has_an_extinction(make_night: Callable[..., Any]) -> None:
    night = make_night(3, n_stars=200, extinction=0.3, colour_term=0.0)
    row = solve(night, replace(V, band=FilterBand("V", None, 0.0))).iloc[0]
    assert abs(row.extinction - 0.3) < 5.0 * row.extinction_err < 0.05 and pd.isna(row.colour_term)


@pytest.mark.full
def test_few_stars_are_as_honest_as_many(make_night: Callable[..., Any]) -> None:
    pulls = []
    for seed in range(100):
        night = make_night(seed, n_frames=1, n_stars=7, apcor_error=0.0)
        band = replace(
            V, calibration=replace(V.calibration, colour_term_prior=0.12, colour_term_prior_err=0.02)
        )
        first = solve(night, band).iloc[0]
        pulls.append((first.zp - night.zp[0]) / first.zp_err)
    assert abs(np.mean(pulls)) < 0.3 and 0.75 < np.std(pulls) < 1.3


def test_a_night_does_not_know_colour_better_than_its_stars(
    make_night: Callable[..., Any],
) -> None:
    few = solve(make_night(1, n_frames=2, n_stars=40)).colour_term_err[0]
    many = solve(make_night(1, n_frames=40, n_stars=40)).colour_term_err[0]
    assert many > 0.6 * few
    # The floor: errors of the catalog and intrinsic scatter of forty stars over their range of colours.
    assert many > 0.7 * np.hypot(0.02, 0.01) / (np.sqrt(40.0) * 1.4 / np.sqrt(12.0))


def test_the_intrinsic_scatter_of_the_stars_is_found(make_night: Callable[..., Any]) -> None:
    found = [
        solve(make_night(seed, n_frames=3, n_stars=80, intrinsic=0.05)).intrinsic_mag[0] for seed in range(10)
    ]
    assert np.mean(found) == pytest.approx(0.05, abs=0.007)


def test_numbers_of_a_fit_are_those_of_its_stars(make_night: Callable[..., Any]) -> None:
    night = make_night(4, n_stars=80, cloudy=0.2, saturated=0.1)
    rows = solve(night)
    assert (rows.n_matched == 80).all()
    saturated = len(set(night.star[night.matches["flags"].to_numpy() == 1].tolist()))
    faint = 80 - saturated
    # Nearly all but the hidden ones on the first frame, and those that are spoiled anywhere.
    assert rows.n_used[0] <= faint - 0.15 * 80 and (rows.n_used[1:] <= faint).all()
    assert (rows.n_used[1:] >= 0.9 * faint).all()
    assert (rows.rms < 0.06).all() and rows.chi2.between(0.4, 1.6).all()
    assert (rows.zp_fit_err <= rows.zp_err).all() and rows.mean_colour.between(0.6, 1.0).all()
    assert rows.pivot_colour.eq(0.7).all() and rows.colour.eq("B-V").all() and rows.version.eq(3).all()
    assert rows.reason.isna().all() and rows.flux.eq("aper2").all() and rows.catalog.eq("simcat").all()


def test_the_zeropoint_is_quoted_at_the_pivot(make_night: Callable[..., Any]) -> None:
    night = make_night(5)
    first = solve(night)
    moved = solve(night, replace(V, band=replace(V.band, pivot_colour=1.2)))
    np.testing.assert_allclose(moved.colour_term, first.colour_term, atol=1e-5)
    np.testing.assert_allclose(moved.zp, first.zp + first.colour_term * 0.5, atol=1e-4)


@given(st.floats(-3.0, 3.0), st.floats(0.2, 5.0))
@settings(max_examples=15)
def test_scaling_flux_and_correction_shifts_the_zeropoint_alone(
    make_night: Callable[..., Any], shift: float, factor: float
) -> None:
    night = make_night(6)
    before = solve(night)
    flux, error = (night.matches[f"flux_aper2{end}"].to_numpy() for end in ("", "_err"))
    scale = 10.0 ** (-0.4 * shift) / factor
    other = replace(
        night,
        matches=changed(night.matches, flux_aper2=flux * scale, flux_aper2_err=error * scale),
        frames=changed(
            night.frames,
            apcor_aper2=night.frames["apcor_aper2"].to_numpy() * factor,
            apcor_aper2_err=night.frames["apcor_aper2_err"].to_numpy() * factor,
        ),
    )
    after = solve(other)
    # Less flux from the same star is a smaller zeropoint.
    np.testing.assert_allclose(after.zp, before.zp - shift, atol=1e-4)
    np.testing.assert_allclose(after.zp_err, before.zp_err, rtol=1e-3)
    np.testing.assert_array_equal(after.n_used, before.n_used)


@given(st.randoms(use_true_random=False))
@settings(max_examples=10)
def test_the_order_of_rows_does_not_matter(make_night: Callable[..., Any], random: Any) -> None:
    night = make_night(7, variable=0.05)
    rows = list(range(night.matches.num_rows))
    random.shuffle(rows)
    frames = list(range(night.frames.num_rows))
    random.shuffle(frames)
    mixed = replace(night, matches=night.matches.take(rows), frames=night.frames.take(frames))
    first, second = solve(night), solve(mixed)
    for name in ("zp", "zp_err", "colour_term", "rms"):
        np.testing.assert_allclose(second[name], first[name], rtol=1e-6)


def test_stars_that_are_no_use_change_nothing(
    make_night: Callable[..., Any], match_rows: Callable[..., Any]
) -> None:
    night = make_night(8)
    n, nothing = 12, np.full(12, np.nan)
    bad = {
        "spoiled": {"flags": [int(flag) for flag in SourceFlag if flag & SPOILED] * 2},
        "crowded": {"crowding": 0.2},
        "crowded in the catalog": {"ref_crowding": 0.2},
        "without magnitude": {"ref_mag": nothing},
        "without colour": {"ref_colour": nothing},
        "red": {"ref_colour": 3.0},
        "without flux": {"flux_aper2": -3.0},
        "too bright": {"ref_mag": -7.0},
        "variable": {"is_variable": True, "ref_mag": 8.0},
    }
    expected = solve(night)
    for columns in bad.values():
        n = len(columns.get("flags", nothing)) if "flags" in columns else 12
        extra = match_rows(n, frame_id=1, ref_id=10_000 + np.arange(n), ref_mag_err=0.001, **columns)
        found = solve(replace(night, matches=pa.concat_tables([night.matches, extra])))
        np.testing.assert_allclose(found.zp, expected.zp, atol=1e-9)
        np.testing.assert_array_equal(found.n_used, expected.n_used)
        assert found.n_matched[0] == expected.n_matched[0] + n


def test_light_of_known_neighbours_is_taken_off(make_night: Callable[..., Any]) -> None:
    night = make_night(9)
    flux = night.matches["flux_aper2"].to_numpy()
    crowded = replace(
        night, matches=changed(night.matches, flux_aper2=flux * 1.03, ref_crowding=np.full(len(flux), 0.03))
    )
    np.testing.assert_allclose(solve(crowded).zp, solve(night).zp, atol=1e-5)


def test_faintness_is_decided_by_catalog_magnitude(
    make_night: Callable[..., Any],
) -> None:
    for seed in range(10):
        night = make_night(seed, n_stars=300, n_frames=1)
        # Errors reach the limit of 0.05 mag in the middle of the range of magnitudes.
        flux = night.matches["flux_aper2"].to_numpy() / 2000.0
        noisy = flux + np.random.default_rng(seed).normal(0.0, 0.05, len(flux))
        error = np.full(len(flux), 0.05)
        faint = changed(night.matches, flux_aper2=noisy, flux_aper2_err=error)
        data = gather(faint, {1: (1.15, 0.0)}, V)
        mag = night.matches["ref_mag"].to_numpy()
        assert 50 < np.count_nonzero(data.usable) < 250
        assert mag[data.usable].max() < mag[~data.usable & np.isfinite(data.difference)].min()
        # The limit is where the error of a star of usual luck is the largest that is allowed.
        usual = 2.5 / np.log(10.0) * 0.05 / flux[np.argmax(np.where(data.usable, mag, 0.0))]
        assert usual == pytest.approx(0.05, rel=0.12)


def with_false_matches(night: Any, shifts: dict[int, float]) -> Any:
    """The night with the flux of some stars that of others, so many magnitudes fainter."""
    flux, error = (night.matches[f"flux_aper2{end}"].to_numpy().copy() for end in ("", "_err"))
    for star, shift in shifts.items():
        mine = night.star == star
        flux[mine] *= 10.0 ** (-0.4 * shift)
        error[mine] = np.sqrt(8.0 + 1.15 * flux[mine] / 40.0) / 1.15
    return replace(night, matches=changed(night.matches, flux_aper2=flux, flux_aper2_err=error))


def star_of_magnitude(night: Any, mag: float) -> int:
    nearest = np.argmin(np.abs(night.matches["ref_mag"].to_numpy() - mag))
    return int(night.star[nearest])


def test_one_false_match_does_not_end_a_calibration(make_night: Callable[..., Any]) -> None:
    night = make_night(1, n_frames=1, n_stars=33)
    spoiled = with_false_matches(night, {star_of_magnitude(night, 10.9): 4.6})
    before, after = solve(night).iloc[0], solve(spoiled).iloc[0]
    # A fourth of such frames loses a star of its own by chance, one of thousands four.
    assert before.n_used >= 29 and before.n_used - 3 <= after.n_used <= 32
    assert abs(after.zp - before.zp) < 0.5 * before.zp_err and after.zp_err < 1.3 * before.zp_err


#: Stars of a frame, and by how much the fluxes of false matches are too faint.
FALSE_MATCHES: dict[str, tuple[int, list[float]]] = {
    "one of few, too faint": (10, [4.6]),
    "one of few, too bright": (10, [-3.0]),
    "too faint": (60, [2.0, 3.0, 4.0, 4.5, 5.0, 6.0]),
    "too bright": (60, [-1.5, -2.0, -3.0, -3.5, -4.0, -6.0]),
    "both": (60, [2.5, 4.0, 5.0, -2.0, -3.0, -4.5]),
}


@pytest.mark.slow
@pytest.mark.parametrize(("n_stars", "shifts"), FALSE_MATCHES.values(), ids=FALSE_MATCHES.keys())
def test_false_matches_change_nothing_but_their_number(
    make_night: Callable[..., Any], n_stars: int, shifts: list[float]
) -> None:
    band = replace(V, calibration=replace(V.calibration, colour_term_prior=0.12, colour_term_prior_err=0.02))
    off, wider, lost = [], [], []
    for seed in range(25):
        night = make_night(seed, n_frames=1, n_stars=n_stars, apcor_error=0.0)
        chosen = np.random.default_rng(seed).permutation(n_stars)[: len(shifts)]
        spoiled = with_false_matches(night, dict(zip(chosen.tolist(), shifts, strict=True)))
        row, clean = solve(spoiled, band).iloc[0], solve(night, band).iloc[0]
        off.append((row.zp - clean.zp) / clean.zp_err)
        wider.append(row.zp_err / clean.zp_err)
        lost.append(clean.n_used - row.n_used)
    # A tenth of the stars less is a third of an error off.
    assert abs(np.mean(off)) < 0.2 and np.abs(off).max() < 1.2
    assert 0.9 < np.mean(wider) < 1.2 and np.mean(lost) < len(shifts) + 0.02 * n_stars


def test_false_matches_leave_the_limit_of_a_frame_where_it_is(make_night: Callable[..., Any]) -> None:
    """The frame is so short that errors reach the limit in the middle of the range of magnitudes."""

    def limit(n_stars: int, shifts: list[float], seed: int) -> tuple[float, float]:
        night = make_night(seed, n_stars=n_stars, n_frames=1)
        flux = night.matches["flux_aper2"].to_numpy() / 2000.0
        mag = night.matches["ref_mag"].to_numpy()
        found = []
        for some in ([], shifts):
            off = np.zeros(n_stars)
            off[np.random.default_rng(seed).permutation(n_stars)[: len(some)]] = some
            measured = flux * 10.0 ** (-0.4 * off)
            faint = changed(night.matches, flux_aper2=measured, flux_aper2_err=np.full(n_stars, 0.05))
            data = gather(faint, {1: (1.15, 0.0)}, V)
            found.append(float(mag[data.usable].max()))
        return found[0], found[1]

    for seed in range(10):
        for n_stars, shifts in FALSE_MATCHES.values():
            clean, spoiled = limit(n_stars, shifts, seed)
            # Between two stars the limit may be anywhere.
            assert abs(spoiled - clean) < 0.1 + 6.0 / n_stars


@pytest.mark.slow
def test_fewer_stars_than_the_least_may_be_far_off(
    make_night: Callable[..., Any],
) -> None:
    """One match of ten is a star that varies or is blended; enough stars have the pulls of many."""

    def pulls(n_stars: int, seeds: int) -> Any:
        calibration = Calibration(min_stars=n_stars, colour_range=(-0.5, 2.5))
        found = []
        for seed in range(seeds):
            night = make_night(
                seed, n_frames=1, n_stars=n_stars, apcor_error=0.0, variable=0.05, blended=0.05
            )
            row = solve(night, replace(V, calibration=replace(calibration, min_stars=1))).iloc[0]
            found.append((row.zp - night.zp[0]) / row.zp_err)
        return np.array(found)

    least = Calibration().min_stars
    enough = pulls(least, 150)
    assert np.abs(enough).max() < 5.0 and 0.8 < enough.std() < 1.25
    assert np.abs(pulls(3, 150)).max() > 7.0


def test_a_frame_of_too_few_stars_says_what_took_them(
    make_night: Callable[..., Any],
) -> None:
    night = make_night(2, n_frames=1, n_stars=187)
    bright = np.where(night.star < 184, 12.0, 9.0)
    flux, error = 10.0 ** (-0.4 * (bright - 20.0)) / 1.15, np.where(night.star < 184, 0.2, 0.01)
    frames = changed(night.frames, aper2_radius_px=[5.0], fwhm_px=[1.1])
    few = replace(
        night,
        frames=frames,
        matches=changed(night.matches, ref_mag=bright, flux_aper2=flux, flux_aper2_err=flux * error),
    )
    row = solve(few).iloc[0]
    assert row.reason == "too_few_stars" and pd.isna(row.zp) and row.n_used == 0 and row.n_matched == 187
    assert row.message.startswith("3 of 187 matches can be used, min_stars is 5; ")
    assert "S/N < 22 in an aperture of 5 px at FWHM 1.1 px: 184 of 187" in row.message
    assert "zeropoint of these: 20.0" in row.message
    flagged = replace(few, matches=changed(few.matches, flags=np.where(night.star < 100, 1, 0)))
    said = solve(flagged).message[0]
    assert "bad pixels: 100 of 187" in said and "px: 84 of 187" in said
    assert pd.isna(solve(night).message[0])


REASONS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "too_few_stars": (lambda n: replace(n, matches=n.matches.filter(pa.array(n.star < 4))), "too_few_stars"),
    "spoiled": (
        lambda n: replace(n, matches=changed(n.matches, flags=np.ones(n.matches.num_rows, int))),
        "too_few_stars",
    ),
    "no colours": (
        lambda n: replace(n, matches=changed(n.matches, ref_colour=np.full(n.matches.num_rows, np.nan))),
        "no_colour",
    ),
    "no magnitudes": (
        lambda n: replace(
            n,
            matches=changed(
                n.matches,
                ref_mag=np.full(n.matches.num_rows, np.nan),
                ref_mag_err=np.full(n.matches.num_rows, np.nan),
                ref_colour=np.full(n.matches.num_rows, np.nan),
            ),
        ),
        "no_band",
    ),
    "few colours": (
        lambda n: replace(n, matches=changed(n.matches, ref_colour=np.where(n.star < 3, 0.7, np.nan))),
        "too_few_stars",
    ),
    "no_matches": (lambda n: replace(n, matches=n.matches.slice(0, 0)), "no_matches"),
    "no correction": (
        lambda n: replace(n, frames=changed(n.frames, apcor_aper2=[None] * n.frames.num_rows)),
        "no_aperture_correction",
    ),
    "no band": (
        lambda n: replace(n, frames=changed(n.frames, band=[None] * n.frames.num_rows)),
        "unknown_filter",
    ),
    "other band": (
        lambda n: replace(n, frames=changed(n.frames, band=["R"] * n.frames.num_rows)),
        "unknown_filter",
    ),
}


@pytest.mark.parametrize(("spoil", "reason"), REASONS.values(), ids=REASONS.keys())
def test_a_frame_without_a_zeropoint_has_a_row_and_a_reason(
    make_night: Callable[..., Any], spoil: Callable[[Any], Any], reason: str
) -> None:
    rows = solve(spoil(make_night(10)))
    assert len(rows) == 4 and rows.reason.eq(reason).all()
    assert rows.zp.isna().all() and rows.zp_err.isna().all() and rows.n_used.eq(0).all()
    assert rows.message.str.len().gt(20).all(), "no reason without a message"


def test_one_bad_frame_does_not_spoil_the_others(make_night: Callable[..., Any]) -> None:
    night = make_night(11)
    expected = solve(night)
    keep = ~((night.frame == 2) & (night.star > 2))
    found = solve(replace(night, matches=night.matches.filter(pa.array(keep))))
    assert found.reason[2] == "too_few_stars"
    good = [0, 1, 3]
    np.testing.assert_allclose(found.zp[good], expected.zp[good], atol=0.004)


def test_without_a_colour_no_term_is_fitted(make_night: Callable[..., Any]) -> None:
    night = make_night(12, colour_term=0.0, ref_colour=np.full(240, np.nan))
    rows = solve(night, replace(V, band=FilterBand("V")))
    assert rows.colour_term.isna().all() and rows.pivot_colour.isna().all() and rows.colour.isna().all()
    assert (np.abs(rows.zp - night.zp) < 5.0 * rows.zp_err).all() and (rows.n_used > 40).all()


def test_stars_of_one_colour_leave_the_colour_term_to_the_prior(make_night: Callable[..., Any]) -> None:
    night = make_night(13, ref_colour=np.full(240, 0.9))
    prior = replace(V.calibration, colour_term_prior=0.1, colour_term_prior_err=0.05)
    rows = solve(night, replace(V, calibration=prior))
    np.testing.assert_allclose(rows.colour_term, 0.1, atol=1e-6)
    np.testing.assert_allclose(rows.colour_term_err, 0.05, rtol=1e-3)
    # What is not known of the term is not known of the zeropoint, at the distance to the pivot.
    assert (rows.zp_err >= 0.05 * 0.2).all()


def test_two_bands_of_a_night_do_not_mix(make_night: Callable[..., Any]) -> None:
    one, two = make_night(14), make_night(15, colour_term=-0.2)
    shifted = changed(two.frames, frame_id=two.frames["frame_id"].to_numpy() + 100, band=["R"] * 4)
    red = changed(two.matches, frame_id=two.matches["frame_id"].to_numpy() + 100, band=["R"] * 240)
    both = zeropoints_table(
        pa.concat_tables([one.frames, shifted]),
        pa.concat_tables([one.matches, red]),
        {"V": V, "R": replace(V, band=FilterBand("R", "B-V", 0.7))},
        "simcat",
        1,
    ).to_pandas()
    np.testing.assert_allclose(both.zp[both.band == "V"], solve(one).zp)
    np.testing.assert_allclose(both.zp[both.band == "R"].to_numpy(), solve(two).zp)
    assert both.colour_term[both.band == "R"].iloc[0] == pytest.approx(-0.2, abs=0.05)


def test_gathering_keeps_every_match_of_corrected_frames(make_night: Callable[..., Any]) -> None:
    night = make_night(16)
    correction = {1: (1.15, 0.0), 2: (None, None), 3: (1.15, 0.0), 4: (1.15, 0.0)}
    data = gather(night.matches, correction, V)
    np.testing.assert_array_equal(data.frame, (night.frame + 1)[night.frame != 1])
    rows, starts = data.by_frame(np.array([4, 1, 3]))
    assert len(rows) == np.count_nonzero(data.usable)
    for number, key in enumerate((4, 1, 3)):
        mine = rows[starts[number] : starts[number + 1]]
        assert (data.frame[mine] == key).all() and 50 < len(mine) <= 60
    flux = night.matches["flux_aper2"].to_numpy()[night.frame != 1] * 1.15
    positive = flux > 0
    expected = night.matches["ref_mag"].to_numpy()[night.frame != 1] + 2.5 * np.log10(
        np.where(positive, flux, 1.0)
    )
    np.testing.assert_allclose(data.difference[positive], expected[positive], atol=1e-5)
    assert not data.usable[~positive].any()


def test_stars_that_exclude_each_other_give_no_zeropoint(make_night: Callable[..., Any]) -> None:
    night = make_night(0, n_frames=1, n_stars=2)
    apart = with_false_matches(night, {0: 0.5})
    row = solve(apart, replace(V, calibration=replace(V.calibration, min_stars=2))).iloc[0]
    assert row.reason == "too_few_stars" and pd.isna(row.zp)
    assert row.message.startswith("2 of 2 matches can be used, 0 of them agree, min_stars is 2; zeropoint of")


def test_a_night_without_usable_stars_keeps_the_prior(make_night: Callable[..., Any]) -> None:
    night = make_night(17)
    data = gather(night.matches.slice(0, 2), {1: (1.15, 0.0)}, V)
    term = fit_colour_term(data, replace(V.calibration, colour_term_prior=0.3, colour_term_prior_err=0.07))
    assert (term.value, term.error, term.intrinsic) == (0.3, 0.07, 0.0)


def of_windows(night: Any, seen: int, drifting: bool, seed: int) -> Any:
    """The night with so many stars on each frame: next to each other in a field that drifts, or any of them."""
    n_frames, n_stars = len(night.zp), int(night.star.max()) + 1
    first = np.linspace(0, n_stars - seen, n_frames)[night.frame]
    chosen = np.random.default_rng(seed).random(night.star.size) < seen / n_stars
    inside = (night.star >= first) & (night.star < first + seen)
    return replace(night, matches=night.matches.filter(pa.array(inside if drifting else chosen)))


@pytest.mark.full
@pytest.mark.parametrize("drifting", [True, False], ids=["drifting", "coming and going"])
def test_frames_of_other_stars_differ_as_much_as_they_say(
    make_night: Callable[..., Any], drifting: bool
) -> None:
    """Stars of 0.12 mag scatter in the catalog, and a field that loses a third of them in the night."""
    pulls = []
    for seed in range(40):
        night = make_night(seed, n_frames=60, n_stars=45, catalog_error=0.12, apcor_error=0.0)
        rows = solve(of_windows(night, 30, drifting, seed))
        off, error = rows.zp.to_numpy() - night.zp, rows.zp_random_err.to_numpy()
        i, j = np.random.default_rng(seed).permutation(60).reshape(2, 30)
        pulls.append((off[i] - off[j]) / np.hypot(error[i], error[j]))
        assert error.mean() < rows.zp_fit_err.mean()
        if seed < 3:
            assert solve(night).zp_random_err.mean() < 0.5 * error.mean()
    # The differences of a night go back to the same few stars.
    assert 0.85 < np.sqrt(np.mean(np.square(pulls))) < 1.15


def with_colour_errors(night: Any, error: float, colour_term: float, seed: int) -> Any:
    """The night with magnitudes B and V of the catalog that are both uncertain, in the band V."""
    rng, n = np.random.default_rng(1000 + seed), int(night.star.max()) + 1
    of_v, of_b = rng.normal(0.0, error, (2, n))
    mag, colour = (night.matches[name].to_numpy() for name in ("ref_mag", "ref_colour"))
    return replace(
        night,
        matches=changed(
            night.matches,
            ref_mag=mag + of_v[night.star],
            ref_mag_err=np.full(mag.size, error),
            ref_colour=colour + (of_b - of_v)[night.star],
            ref_colour_err=np.full(mag.size, np.sqrt(2.0) * error),
        ),
    )


@pytest.mark.full
def test_errors_of_colours_neither_flatten_the_colour_term_nor_hide_in_the_scatter(
    make_night: Callable[..., Any],
) -> None:
    rows, zp_pulls, intrinsic, naive = [], [], [], []
    for seed in range(40):
        night = make_night(
            seed, n_frames=2, n_stars=80, colour_term=0.3, catalog_error=0.0, intrinsic=0.0, apcor_error=0.0
        )
        uncertain = with_colour_errors(night, 0.08, 0.3, seed)
        row = solve(uncertain).iloc[0]
        rows.append((row.colour_term, (row.colour_term - 0.3) / row.colour_term_err))
        zp_pulls.append((row.zp - night.zp[0]) / row.zp_err)
        intrinsic.append(row.intrinsic_mag)
        without = changed(uncertain.matches, ref_colour_err=np.full(len(night.star), np.nan))
        naive.append(solve(replace(uncertain, matches=without)).iloc[0])
    terms, pulls = np.array(rows).T
    bias = np.mean([row.colour_term for row in naive]) - 0.3
    assert abs(terms.mean() - 0.3) < 0.012 < 0.03 < abs(bias)
    assert 0.75 < pulls.std() < 1.25 and 0.75 < np.std(zp_pulls) < 1.25 and abs(np.mean(zp_pulls)) < 0.4
    assert np.median(intrinsic) < 0.03 < np.median([row.intrinsic_mag for row in naive])


def test_scatter_and_chi_square_do_not_jump_when_a_star_gains_weight(make_night: Callable[..., Any]) -> None:
    night = make_night(3, n_frames=3, n_stars=25, intrinsic=0.08)
    rows = [solve(with_false_matches(night, {7: shift})) for shift in np.linspace(0.0, 0.6, 61)]
    rms, chi2 = (np.array([one[name][0] for one in rows]) for name in ("rms", "chi2"))
    assert np.abs(np.diff(rms)).max() < 0.004 and np.abs(np.diff(chi2)).max() < 0.08
    assert len({one.n_used[0] for one in rows}) > 1, "the star has crossed one half of its weight"


def test_scatter_and_chi_square_are_those_of_a_gaussian(make_night: Callable[..., Any]) -> None:
    rows = pd.concat([solve(make_night(seed, n_stars=40, intrinsic=0.05)) for seed in range(20)])
    assert rows.chi2.mean() == pytest.approx(1.0, abs=0.06)
    # That of the catalog is 0.02, that of photons 0.001 to 0.008.
    assert rows.rms.mean() == pytest.approx(np.sqrt(0.05**2 + 0.02**2 + 0.004**2), rel=0.06)


def test_stars_too_bright_to_be_measured_right_are_left_out(make_night: Callable[..., Any]) -> None:
    """Half of the frames have an exposure of twice the length, and saturate 0.75 mag fainter."""
    found, errors, plain = [], [], []
    for seed in range(8):
        night = make_night(seed, n_frames=4, n_stars=250, apcor_error=0.0)
        exposure = np.array([20.0, 40.0, 20.0, 40.0])
        frames = changed(night.frames, exposure_s=exposure)
        flux = night.matches["flux_aper2"].to_numpy().astype(float)
        counts = flux * exposure[night.frame]
        full = 20.0 * 10.0 ** (0.4 * (20.0 - 9.75)) / 1.15
        # Half of what is above the full well is lost.
        lost = np.where(counts > full, np.sqrt(full / np.maximum(counts, 1.0)), 1.0)
        rows = solve(replace(night, frames=frames, matches=changed(night.matches, flux_aper2=flux * lost)))
        found.append(rows.bright_limit.to_numpy() - night.zp + 20.0)
        errors.append(rows.zp - night.zp)
        plain.append(solve(night))
    limits = np.array(found)
    assert np.isfinite(limits).all() and all(rows.bright_limit.isna().all() for rows in plain)
    np.testing.assert_allclose(np.median(limits, axis=0), [9.75, 10.5, 9.75, 10.5], atol=0.25)
    assert abs(np.mean(errors)) < 0.004
