from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.flags import SourceFlag
from skylake.report.stars.night_errors import NightErrors
from skylake.report.stars.time_bins import binned, phase_of, with_phase

START, ZP = 2460000.0, 20.0


def points(bjd: Any, mag: Any, random_err: float, **more: Any) -> pa.Table:
    n, flux = len(bjd), 10.0 ** (-0.4 * (np.asarray(mag) - ZP))
    # Half of the variance is of photons and sky, half of the frame.
    columns = {
        "flux": flux, "flux_err": np.full(n, np.nanmedian(flux) * random_err / 1.0857 / np.sqrt(2.0)),
        "camera": ["cam"] * n, "band": ["V"] * n, "bjd_tdb": bjd, "mjd_mid": np.asarray(bjd) - 2400000.5, "mag": mag,
        "mag_err": np.full(n, np.hypot(random_err, 0.02)), "mag_random_err": np.full(n, random_err),
        "mag_systematic_err": np.full(n, 0.02), "flags": np.zeros(n, np.int32),
    }  # fmt: skip
    return pa.table(columns | more)


def pulls(noise: Any, stated: float, n: int, width: float = 0.02, trials: int = 150) -> np.ndarray:
    """Deviations of bins from a slow signal over their errors; `noise` makes that of n points at some times."""
    random, found = np.random.default_rng(5), []
    for _ in range(trials):
        bjd = START + np.sort(random.uniform(0.0, 0.3, n))
        made = binned(points(bjd, _signal(bjd) + noise(random, bjd), stated), width)
        truth = _signal(made["bjd_tdb"].to_numpy())
        found.append((made["mag"].to_numpy() - truth) / made["mag_random_err"].to_numpy())
    return np.concatenate(found)


def _signal(bjd: Any) -> Any:
    return 12.0 + 0.02 * np.sin(2.0 * np.pi * (bjd - START) / 0.4)


@pytest.mark.parametrize(("n", "truth"), [(30, 0.01), (200, 0.01), (200, 0.015), (400, 0.03)])
def test_errors_of_bins_are_confirmed_also_where_points_scatter_more(n: int, truth: float) -> None:
    found = pulls(lambda random, bjd: random.normal(0.0, truth, len(bjd)), 0.01, n)
    assert abs(found.mean()) < 0.1
    assert found.std() == pytest.approx(1.0, abs=0.07)


def test_noise_that_lasts_for_several_points_makes_errors_larger() -> None:
    def red(random: np.random.Generator, bjd: Any) -> Any:
        steps = random.normal(0.0, 0.008, 200)
        return steps[np.floor((bjd - START) / 0.002).astype(int)] + random.normal(0.0, 0.01, len(bjd))

    # As if points were independent, the width would be 1.8.
    assert pulls(red, 0.01, 600).std() == pytest.approx(1.1, abs=0.1)


@pytest.mark.parametrize(
    ("width", "period", "many", "truth"),
    [(3.0, None, 60, 0.01), (1.0, None, 60, 0.02), (0.05, None, 60, 0.01), (0.1, 0.737, 5, 0.01)],
    ids=["several nights", "a night", "a part of a night", "phases"],
)
def test_errors_of_bins_hold_for_means_over_several_nights(
    width: float, period: float | None, many: int, truth: float
) -> None:
    """Nights have offsets of 0.015 mag, and points scatter by `truth`, of which 0.01 is stated."""
    random, found, offset = np.random.default_rng(7), [], 0.015
    for _ in range(100):
        night = np.repeat(np.arange(24), random.integers(2, many, 24))
        bjd = START + np.sort(night + random.uniform(0.0, 0.3, len(night)))
        mag = 12.0 + random.normal(0.0, offset, 24)[night] + random.normal(0.0, truth, len(night))
        none, frame = np.zeros(len(night)), np.arange(len(night))
        curve = points(bjd, mag, 0.01, frame_id=frame, mag_systematic_err=none)
        errors = NightErrors({("cam", "V"): offset}, pa.table({"frame_id": frame, "night": night}))
        folded = curve if period is None else with_phase(curve, period, START)
        made = binned(folded, width, period, errors)
        found.append((made["mag"].to_numpy() - 12.0) / made["mag_err"].to_numpy())
        shared = made["mag_systematic_err"].to_numpy()
        assert (shared > 0.0).any() == (width == 0.05)
    pulls = np.concatenate(found)
    assert abs(pulls.mean()) < 0.1
    assert pulls.std() == pytest.approx(1.0, abs=0.07)


def test_nights_of_a_camera_without_a_known_scatter_count_by_the_scatter_of_their_points() -> None:
    random = np.random.default_rng(8)
    night = np.repeat(np.arange(40), 5)
    mag = 12.0 + random.normal(0.0, 0.02, 40)[night] + random.normal(0.0, 0.005, 200)
    frame = np.arange(200)
    curve = points(START + night + np.tile(np.linspace(0, 0.2, 5), 40), mag, 0.005, frame_id=frame)
    errors = NightErrors({("cam", "R"): 0.02}, pa.table({"frame_id": frame, "night": night}))
    assert binned(curve, 10.0, None, errors).equals(binned(curve, 10.0))


def test_one_star_on_a_steep_branch_does_not_spoil_all_bins() -> None:
    random = np.random.default_rng(1)
    bjd = START + np.linspace(0.0, 1.0, 400)
    mag = 12.0 + 0.5 * np.exp(-(((bjd - START - 0.5) / 0.01) ** 2)) + random.normal(0.0, 0.005, 400)
    made = binned(points(bjd, mag, 0.005), 0.05)
    assert np.median(made["mag_random_err"].to_numpy()) == pytest.approx(0.005 / np.sqrt(20), rel=0.25)


def test_shared_errors_do_not_average_down() -> None:
    made = binned(points(START + np.linspace(0, 0.01, 100), np.full(100, 12.0), 0.01), 1.0)
    assert made.num_rows == 1 and made["n_points"].to_pylist() == [100]
    assert made["mag_random_err"][0].as_py() == pytest.approx(0.001, rel=1e-6)
    assert made["mag_systematic_err"][0].as_py() == pytest.approx(0.02)
    assert made["mag_err"][0].as_py() == pytest.approx(np.hypot(0.001, 0.02))


def test_the_mean_of_faint_fluxes_is_right_though_half_of_them_are_negative() -> None:
    random, n = np.random.default_rng(3), 4000
    flux = random.normal(1.0, 3.0, n)
    bjd = START + np.linspace(0.0, 1.0, n)
    with np.errstate(invalid="ignore"):
        mag = np.where(flux > 0, -2.5 * np.log10(np.abs(flux)) + ZP, np.nan)
    more = {
        "flux": flux, "flux_err": np.full(n, 3.0), "zp": np.full(n, ZP), "zp_random_err": np.full(n, 0.001),
    }  # fmt: skip
    made = binned(points(bjd, mag, 0.01, **more), 2.0)
    assert made["n_points"].to_pylist() == [n]
    error = made["mag_random_err"][0].as_py()
    assert error == pytest.approx(1.0857 * 3.0 / np.sqrt(n), rel=0.1)
    assert abs(made["mag"][0].as_py() - ZP) < 4.0 * error


def test_flagged_points_are_left_out_and_cameras_stay_apart() -> None:
    flags = np.zeros(30, np.int32)
    flags[::3] = int(SourceFlag.SATURATED)
    mag = np.where(flags > 0, 5.0, 12.0)
    made = binned(
        points(START + np.linspace(0, 0.1, 30), mag, 0.01, flags=flags, camera=["a", "b"] * 15), 1.0
    )
    assert sorted(made["camera"].to_pylist()) == ["a", "b"]
    assert made["mag"].to_pylist() == pytest.approx([12.0, 12.0])
    assert sum(made["n_points"].to_pylist()) == 20


def test_a_curve_of_flagged_points_has_no_bin() -> None:
    flags = np.full(3, int(SourceFlag.EDGE), np.int32)
    empty = binned(points(START + np.arange(3.0), np.full(3, 9.0), 0.01, flags=flags), 1.0)
    assert empty.num_rows == 0 and "mag_random_err" in empty.column_names


@given(st.floats(0.01, 1000.0), st.integers(-1000, 1000), st.floats(0.0, 0.999))
def test_the_phase_is_what_is_left_of_whole_periods(period: float, cycles: int, phase: float) -> None:
    found = phase_of(np.array([START + (cycles + phase) * period]), period, START)[0]
    assert 0.0 <= found < 1.0
    assert min(abs(found - phase), 1.0 - abs(found - phase)) < 1e-6 * max(1.0, 1.0 / period)


def test_bins_of_the_phase_bring_all_cycles_together() -> None:
    random = np.random.default_rng(2)
    bjd = START + np.sort(random.uniform(0.0, 50.0, 2000))
    folded = with_phase(points(bjd, 12.0 + 0.1 * np.sin(2 * np.pi * (bjd - START) / 0.7), 0.01), 0.7, START)
    made = binned(folded, 0.07, 0.7)
    assert made.num_rows == 10
    phase = made["phase"].to_numpy()
    assert phase == pytest.approx(np.arange(0.05, 1.0, 0.1), abs=0.01)
    assert made["mag"].to_numpy() == pytest.approx(12.0 + 0.1 * np.sin(2 * np.pi * phase), abs=0.005)
    assert made.schema.field("phase").metadata[b"description"]
