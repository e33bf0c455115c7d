"""Statistics of a table are those of the light curves that a reader of the lake gets, by plain formulas."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.stats import kurtosis, skew
from season_rows import STARS, Season

import skylake
from skylake.core.flags import SPOILED
from skylake.errors import LakeError, UsageError
from skylake.flow.curves.describe_curves import describe_curves
from skylake.flow.curves.detrend_field import DetrendChoice
from skylake.flow.curves.detrend_lake import detrend_lake
from skylake.flow.curves.field_blocks import CurveSource
from skylake.flow.execution.cluster import Inline
from skylake.lake import Lake
from skylake.sky.sky_region import SkyRegion

Floats = npt.NDArray[np.float64]
DETECTED = CurveSource("detected")


@pytest.fixture(scope="module")
def own(season: Season, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A copy of the lake that tests of this file write to, with a table of all of its stars."""
    root = tmp_path_factory.mktemp("statistics") / "lake"
    lake = Lake(shutil.copytree(season.lake.root, root, symlinks=True))
    describe_curves(lake, "curve_statistics", DETECTED, SkyRegion.whole(), Inline())
    return lake


def rows_of(lake: Lake, name: str) -> pd.DataFrame:
    return skylake.open(lake.root)[name].pandas().set_index("object_id").sort_index()


def stetson(mag: Floats, error: Floats, time: Floats) -> tuple[float, float]:
    """Return J and K by their definition, with pairs of successive measurements."""
    n, mean = len(mag), np.average(mag, weights=error**-2)
    for _ in range(100):
        pull = np.sqrt(n / (n - 1)) * (mag - mean) / error
        mean = np.average(mag, weights=error**-2 / (1 + (np.abs(pull) / 2) ** 2))
    pull, total, weights, at = np.sqrt(n / (n - 1)) * (mag - mean) / error, 0.0, 0.0, 0
    while at < n:
        is_pair = at + 1 < n and time[at + 1] - time[at] <= 0.02
        product = pull[at] * pull[at + 1] if is_pair else pull[at] ** 2 - 1
        weight = 1.0 if is_pair else 0.5
        total, weights = total + weight * np.sign(product) * np.sqrt(abs(product)), weights + weight
        at += 2 if is_pair else 1
    return total / weights, float(np.mean(np.abs(pull)) / np.sqrt(np.mean(pull**2)))


def expected(curve: pd.DataFrame) -> dict[str, Any]:
    """Return the statistics of a light curve in pandas and numpy."""
    good = curve[(curve["flags"] & int(SPOILED)) == 0].dropna(subset=["mag", "mag_random_err"])
    mag, error, time = (good[name].to_numpy(float) for name in ("mag", "mag_random_err", "mjd_mid"))
    weight, n = error**-2, len(mag)
    mean = np.average(mag, weights=weight)
    square = np.sum(weight * (mag - mean) ** 2)
    beyond = max(square - (n - 1), 0.0) / (weight.sum() - np.sum(weight**2) / weight.sum())
    j, k = stetson(mag, error, time)
    low, quarter, median, three, high = np.percentile(mag, [5, 25, 50, 75, 95])
    return {
        "n_points": n,
        "mjd_first": time.min(),
        "mjd_last": time.max(),
        "mag_mean": mean,
        "mag_mean_random_err": weight.sum() ** -0.5,
        "mag_mean_unweighted": mag.mean(),
        "mag_median": median,
        "mag_stddev": mag.std(ddof=1),
        "mag_scatter": 1.482602218505602 * np.median(np.abs(mag - median)),
        "skewness": skew(mag, bias=False),
        "kurtosis": kurtosis(mag, bias=False),
        "chi2": square / (n - 1),
        "excess_scatter": np.sqrt(beyond),
        "eta": np.mean(np.diff(mag) ** 2) / mag.var(ddof=1),
        "stetson_j": j,
        "stetson_k": k,
        "stetson_l": j * k / np.sqrt(2 / np.pi),
        "amplitude": high - low,
        "mag_brightest": mag.min(),
        "mag_percentile_5": low,
        "mag_percentile_25": quarter,
        "mag_percentile_75": three,
        "mag_percentile_95": high,
        "mag_faintest": mag.max(),
    }


@pytest.mark.slow
def test_statistics_are_those_of_the_light_curves(own: Lake) -> None:
    rows, reader = rows_of(own, "curve_statistics"), skylake.open(own.root)
    assert list(rows.index) == list(range(1, STARS + 1))
    for star in (1, 2, 3, 50, STARS):
        curve = reader.lightcurve(star, measured="detected").arrow().to_pandas()
        for name, value in expected(curve).items():
            # The mean of Stetson is that of a few rounds.
            near = {"abs": 0.02} if name.startswith("stetson") else {"rel": 1e-9, "abs": 1e-9}
            assert rows.loc[star, name] == pytest.approx(value, **near), (star, name)


@pytest.mark.slow
def test_detrended_light_curves_scatter_less(own: Lake, season: Season) -> None:
    near = SkyRegion.of_cone(0.0, 0.0, 1.0)
    choice = DetrendChoice(n_templates=0, n_effects=0, durations_days=())
    detrend_lake(own, "detrended", DETECTED, near, choice, Inline())
    flat = replace(DETECTED, detrended="detrended")
    made = describe_curves(own, "flat", flat, near, Inline())
    rows, before = rows_of(own, "flat"), rows_of(own, "curve_statistics")
    assert made.n_rows == len(rows) == near.holds(season.ra, season.dec).sum()
    quiet = [star for star in rows.index if star > 2]
    assert (rows.chi2[quiet] < 0.1 * before.chi2[quiet]).mean() > 0.9
    assert rows.chi2[quiet].median() == pytest.approx(1.0, abs=0.2)
    assert rows.eta[quiet].median() == pytest.approx(2.0, abs=0.2)


def test_a_table_is_made_again_only_where_it_would_differ(own: Lake) -> None:
    near = SkyRegion.of_cone(0.0, 0.0, 0.5)
    first, again = (describe_curves(own, "near", DETECTED, near, Inline()) for _ in range(2))
    assert first.made and not again.made and again.n_rows == first.n_rows > 0
    with pytest.raises(UsageError, match="--replace"):
        describe_curves(own, "near", replace(DETECTED, last_night=20240903), near, Inline())
    with pytest.raises(LakeError, match="no star varies beyond noise"):
        describe_curves(own, "candidates_only", DETECTED, None, Inline())
