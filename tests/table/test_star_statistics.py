"""Sums of nights give the statistics of all points, and the views find what varies and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import skylake
from skylake.calibration.calibrated_matches import Photometry
from skylake.core.flags import SourceFlag
from skylake.lake.access.scatter_function import add_scatter_function
from skylake.schema import empty_table, load
from skylake.table.star_statistics import AGGREGATE, PAIR_DAYS, statistics_table

VIEWS = Path(skylake.__file__).parents[1] / "sql" / "duckdb" / "views.sql"
ERROR = 0.01
MakeRows = Callable[..., pa.Table]


def night_of(
    match_rows: MakeRows, star: np.ndarray, mjd: np.ndarray, mag: np.ndarray, flags: np.ndarray | int = 0
) -> pa.Table:
    """Return the sums of a night whose magnitudes have random errors of :data:`ERROR`, and shared ones."""
    n = len(star)
    matches = match_rows(
        n, ref_id=star, frame_id=np.argsort(np.argsort(mjd)) + 1, mjd_mid=mjd, ra_deg=10.0 + star * 0.01,
        dec_deg=np.full(n, 5.0), flags=np.broadcast_to(flags, n), ref_mag=np.full(n, 9.0), band=["V"] * n,
        camera=["lab"] * n, catalog=["simcat"] * n,
    )  # fmt: skip
    flux = 10 ** (-0.4 * (mag - 20))
    shared = np.full(n, 0.003)
    photometry = Photometry(
        flux, 0.01 * flux, mag, np.hypot(ERROR, shared), 0.0 * mag, np.ones(n, int), shared, shared
    )
    return statistics_table(matches, photometry)


def views(rows: pa.Table) -> duckdb.DuckDBPyConnection:
    """Return a connection with the views over rows of the table, in a lake without objects."""
    connection = duckdb.connect()
    add_scatter_function(connection)
    connection.execute("CREATE TABLE star_statistics AS FROM rows")
    for name in ("objects", "frames"):
        connection.register("nothing", empty_table(load(name)))
        connection.execute(f"CREATE TABLE {name} AS FROM nothing")
    connection.execute(VIEWS.with_name("vetoes.sql").read_text())
    text = VIEWS.read_text()
    first, next_one = text.index("CREATE VIEW objects_in_force"), text.index("CREATE VIEW new_objects")
    connection.execute(text[first:next_one])
    return connection


@given(seed=st.integers(0, 10_000), data=st.data())
def test_nights_in_any_order_add_up_to_the_statistics_of_all_points(
    match_rows: MakeRows, seed: int, data: st.DataObject
) -> None:
    random = np.random.default_rng(seed)
    nights, points = [], []
    for night in range(data.draw(st.integers(1, 4))):
        n = int(random.integers(2, 12))
        mjd = 60_000 + night + np.sort(random.uniform(0, 0.2, n))
        mag = 15 + 0.03 * random.standard_normal(n)
        nights.append(night_of(match_rows, np.full(n, 7), mjd, mag))
        far = _outliers(mag)
        points.append((mjd[~far], mag[~far]))
    merge, finish = AGGREGATE.merge, AGGREGATE.finish
    order = data.draw(st.permutations(nights))
    at = data.draw(st.integers(0, len(order)))
    rows = finish(merge([merge([one]) for one in (order[:at] + order[at:])]))
    (row,) = views(rows).sql("FROM star_variability").to_arrow_table().to_pylist()
    mag = np.concatenate([one[1] for one in points])
    assert (row["n_good"], row["n_nights"]) == (len(mag), len(points))
    expected = {"mag_mean": mag.mean(), "mag_brightest": mag.min(), "mag_faintest": mag.max()}
    expected |= {"mag_random_err": ERROR}
    if len(mag) > 3:
        steps = np.concatenate([np.diff(m)[np.diff(t) <= PAIR_DAYS] for t, m in points])
        off = mag.mean()
        products = [((m[1:] - off) * (m[:-1] - off))[np.diff(t) <= PAIR_DAYS] for t, m in points]
        expected |= {"mag_stddev": mag.std(ddof=1), "chi2": mag.var(ddof=1) / ERROR**2}
        expected |= {"skewness": stats.skew(mag, bias=False)}
        if len(steps):
            expected |= {"eta": np.mean(steps**2) / mag.var(ddof=1)}
            expected |= {"stetson_i": np.mean(np.concatenate(products)) / ERROR**2}
    if len(points) > 1:
        means = np.array([one[1].mean() for one in points])
        weights = np.array([len(one[1]) for one in points]) / ERROR**2
        centre = np.average(means, weights=weights)
        expected |= {"chi2_nights": np.sum(weights * (means - centre) ** 2) / (len(points) - 1)}
    more = max(expected.get("chi2_nights", 1.0), 1.0)
    expected |= {"mag_mean_random_err": ERROR * np.sqrt(more / len(mag))}
    # Little is left of sums of cubes.
    least = {"skewness": 1e-4}
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-5, abs=least.get(name, 1e-6)), name


@pytest.mark.parametrize("from_night_to_night", [0.0, 0.01])
def test_the_error_of_a_mean_holds_where_nights_differ(
    match_rows: MakeRows, from_night_to_night: float
) -> None:
    random, n_stars, n_points = np.random.default_rng(2), 150, 6
    star = np.repeat(np.arange(n_stars), n_points)
    nights = []
    for night in range(8):
        mjd = 60_000 + night + np.tile(0.01 * np.arange(n_points), n_stars)
        offset = np.repeat(from_night_to_night * random.standard_normal(n_stars), n_points)
        nights.append(
            night_of(match_rows, star, mjd, 12 + offset + ERROR * random.standard_normal(len(star)))
        )
    found = views(AGGREGATE.finish(AGGREGATE.merge(nights))).sql("FROM star_variability").fetchnumpy()
    pulls = (found["mag_mean"] - 12) / found["mag_mean_random_err"]
    assert abs(np.mean(pulls)) < 0.3 and 0.8 < np.std(pulls) < 1.2


def _outliers(mag: np.ndarray) -> np.ndarray:
    """Return what stands alone, by a loop."""
    off = mag - np.median(mag)
    pull = off / max(1.482602218505602 * np.median(np.abs(off)), ERROR)
    far = np.zeros(len(mag), bool)
    for i in range(len(mag)):
        beside = [pull[j] * np.sign(pull[i]) for j in (i - 1, i + 1) if 0 <= j < len(mag)]
        far[i] = len(mag) >= 4 and abs(pull[i]) > 6 and max([0.0, *beside]) < 0.5 * abs(pull[i])
    return far


def test_blends_flagged_points_and_lonely_outliers_do_not_count_but_eclipses_do(match_rows: MakeRows) -> None:
    random = np.random.default_rng(1)
    mjd = np.tile(60_000 + 0.002 * np.arange(40), 4)
    star = np.repeat(np.arange(4), 40)
    mag = 12 + ERROR * random.standard_normal(160)
    flags = np.zeros(160, int)
    mag[3:40:8] += 0.5
    flags[3:40:8] = int(SourceFlag.BLENDED)
    mag[43:80:8] += 0.5
    flags[43:80:8] = int(SourceFlag.SATURATED)
    mag[100] -= 0.8
    mag[130:136] += 0.5
    rows = night_of(match_rows, star, mjd, mag, flags)
    found = views(rows).sql("FROM star_variability ORDER BY object_id").fetchnumpy()
    np.testing.assert_array_equal(found["n_points"], 40)
    np.testing.assert_array_equal(found["n_good"], [35, 35, 39, 40])
    np.testing.assert_array_equal(found["n_outliers"], [0, 0, 1, 0])
    assert np.all(found["chi2"][:3] < 2.0) and found["chi2"][3] > 100.0


def test_candidates_are_the_variables_with_chances_of_constant_stars(match_rows: MakeRows) -> None:
    random = np.random.default_rng(2)
    n_stars, n = 400, 12
    nights = []
    level = random.uniform(9, 13, n_stars)
    for night in range(3):
        star = np.repeat(np.arange(n_stars), n)
        mjd = np.tile(60_000 + night + 0.01 * np.arange(n), n_stars)
        # Stated errors are too small for bright stars, which no star can help.
        mag = level[star] + ERROR * (1.0 + (level < 10))[star] * random.standard_normal(len(star))
        mag += np.where(star < 5, 0.05 * np.sin(2 * np.pi * mjd / 1.7), 0.0)
        nights.append(night_of(match_rows, star, mjd, mag))
    connection = views(AGGREGATE.merge(nights))
    found = connection.sql("FROM variable_stars ORDER BY object_id").fetchnumpy()
    np.testing.assert_array_equal(found["object_id"], np.arange(5))
    assert np.all(found["false_alarm"] < 1e-2 / n_stars) and np.all(found["n_judged"] == n_stars)
    assert np.all(np.abs(found["noise_excess"] - 0.035) < 0.015)


def test_a_night_without_good_points_leaves_a_row_and_no_view(match_rows: MakeRows) -> None:
    rows = night_of(
        match_rows, np.zeros(3, int), 60_000 + np.arange(3.0), np.full(3, 10.0), int(SourceFlag.EDGE)
    )
    assert rows.num_rows == 1 and rows["n_points"][0].as_py() == 3 and rows["sum_mag"][0].as_py() is None
    assert views(rows).sql("FROM star_variability").fetchall() == []
    assert views(rows).sql("FROM variable_stars").fetchall() == []
