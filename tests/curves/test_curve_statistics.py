"""Statistics of curves agree with scipy and numpy, star by star, and with what theory says of noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from skylake.curves.curve_statistics import curve_statistics

ERROR = 0.01


def drawn(seed: int, counts: list[int]) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    n = sum(counts)
    starts = np.append(0, np.cumsum(counts))
    time = np.concatenate([np.sort(random.uniform(0, 9, one)) for one in counts] or [np.zeros(0)])
    return time, 10 + ERROR * random.standard_normal(n), ERROR * random.uniform(0.5, 2.0, n), starts


@given(seed=st.integers(0, 1000), counts=st.lists(st.integers(0, 60), min_size=1, max_size=6))
def test_each_curve_has_the_statistics_that_numpy_and_scipy_find(seed: int, counts: list[int]) -> None:
    time, mag, err, starts = drawn(seed, counts)
    found = curve_statistics(time, mag, err, starts)
    for curve, count in enumerate(counts):
        m = mag[starts[curve] : starts[curve + 1]]
        e = err[starts[curve] : starts[curve + 1]]
        row = {name: values[curve] for name, values in found.items()}
        assert row["n_points"] == count
        if count > 3:
            weighted = np.average(m, weights=e**-2)
            deviation = stats.median_abs_deviation(m, scale=1 / 1.482602218505602)
            expected = {
                "mean": m.mean(), "median": np.median(m), "scatter": m.std(ddof=1), "robust_scatter": deviation,
                "skewness": stats.skew(m, bias=False), "kurtosis": stats.kurtosis(m, bias=False),
                "weighted_mean": weighted, "weighted_mean_err": np.sum(e**-2) ** -0.5,
                "chi2": np.sum(((m - weighted) / e) ** 2) / (count - 1),
                "eta": np.sum(np.diff(m) ** 2) / (count - 1) / m.var(ddof=1),
                "percentile_5": np.percentile(m, 5), "percentile_75": np.percentile(m, 75),
                "minimum": m.min(), "maximum": m.max(),
                "amplitude": 0.5 * (np.percentile(m, 95) - np.percentile(m, 5)),
            }  # fmt: skip
            for name, value in expected.items():
                assert row[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name


def test_noise_and_a_slow_wave_differ_in_eta_and_stetson() -> None:
    random = np.random.default_rng(1)
    n, points = 300, 100
    time = np.tile(np.repeat(np.arange(points / 2), 2) + np.tile([0.0, 0.01], points // 2), n)
    noise = 10 + ERROR * random.standard_normal(n * points)
    wave = noise + 0.02 * np.sin(2 * np.pi * time / 13.0)
    starts = np.arange(n + 1) * points
    quiet, slow = (curve_statistics(time, one, np.full(n * points, ERROR), starts) for one in (noise, wave))
    assert quiet["eta"].mean() == pytest.approx(2.0, abs=0.05)
    assert quiet["stetson_j"].mean() == pytest.approx(0.0, abs=0.03)
    assert quiet["stetson_k"].mean() == pytest.approx(0.798, abs=0.01)
    assert quiet["chi2"].mean() == pytest.approx(1.0, abs=0.02)
    assert slow["eta"].max() < 1.4 < quiet["eta"].min()
    assert slow["stetson_j"].min() > quiet["stetson_j"].max()
    assert np.median(slow["excess_scatter"]) == pytest.approx(0.02 / np.sqrt(2), rel=0.05)


def test_points_that_are_not_good_do_not_count() -> None:
    time, mag, err, _ = drawn(3, [40])
    spoiled = mag.copy()
    spoiled[::4], err[1::4] = np.nan, 0.0
    good = np.isfinite(spoiled) & (err > 0)
    found = curve_statistics(time, spoiled, err, np.array([0, 40]))
    same = curve_statistics(time[good], mag[good], err[good], np.array([0, 20]))
    assert {name: value[0] for name, value in found.items()} == {
        name: value[0] for name, value in same.items()
    }


def test_starts_that_do_not_end_with_the_points_are_refused() -> None:
    with pytest.raises(ValueError, match="number of points, 3"):
        curve_statistics(np.arange(3.0), np.ones(3), np.ones(3), np.array([0, 2]))
