from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.schema import conform, empty_table, load
from skylake.table.combine_maps import MAPS, combine


def maps(cells: list[dict[str, Any]], order: int = 3) -> pa.Table:
    rows = [
        {"camera": "lab", "night": 20240407 + i, "band": "V", "healpix_order": order, "healpix_pixel": 5,
         "n_visits": 0, "exposure_s": 0.0, "n_matches": 0, "weight_sum": 0.0, "residual_sum": 0.0,
         "residual_square_sum": 0.0, **cell}
        for i, cell in enumerate(cells)
    ]  # fmt: skip
    names = list(rows[0]) if rows else []
    return conform(pa.table({name: [row[name] for row in rows] for name in names}), load("maps"))


measured = st.lists(st.tuples(st.floats(-0.5, 0.5), st.floats(0.01, 0.3)), max_size=6)
nights = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 9), st.floats(1.0, 60.0), measured), min_size=1, max_size=12
)


@given(nights)
def test_maps_of_all_nights_are_those_of_all_measurements(drawn: list[Any]) -> None:
    rows, visits, exposure, values = [], dict.fromkeys(range(5), 0), dict.fromkeys(range(5), 0.0), {}
    for pixel, n, seconds, residuals in drawn:
        r = np.array([one for one, _ in residuals])
        w = np.array([1.0 / error**2 for _, error in residuals])
        visits[pixel] += n
        exposure[pixel] += n * seconds
        values.setdefault(pixel, []).extend(residuals)
        sums = {"weight_sum": w.sum(), "residual_sum": (w * r).sum(), "residual_square_sum": (w * r**2).sum()}
        cell = {"healpix_pixel": pixel, "n_visits": n, "exposure_s": n * seconds, "n_matches": len(r)}
        rows.append(cell | {name: float(value) for name, value in sums.items()})
    table = maps(rows)
    found = {name: combine(table, name) for name in MAPS}
    for sky in found.values():
        assert sky.order == 3 and (np.diff(sky.pixels) > 0).all()
    seen = {
        name: dict(zip(sky.pixels.tolist(), sky.values.tolist(), strict=True)) for name, sky in found.items()
    }
    assert seen["visits"] == {pixel: n for pixel, n in visits.items() if n}
    assert seen["exposure"] == pytest.approx({pixel: s for pixel, s in exposure.items() if s})
    assert seen["matches"] == {pixel: len(some) for pixel, some in values.items() if some}
    assert set(seen["residual"]) == set(seen["residual_err"]) == set(seen["matches"])
    for pixel in seen["matches"]:
        r, error = np.array(values[pixel]).T
        weight = 1.0 / error**2
        mean = np.average(r, weights=weight)
        assert seen["residual"][pixel] == pytest.approx(mean, abs=1e-9)
        scatter = np.sqrt(np.average((r - mean) ** 2, weights=weight) / max(len(r) - 1, 1))
        assert seen["residual_err"][pixel] == pytest.approx(
            max(scatter, weight.sum() ** -0.5), rel=1e-5, abs=1e-6
        )


def test_a_pixel_without_matches_has_no_residual() -> None:
    table = maps([{"n_visits": 3, "exposure_s": 60.0}])
    assert combine(table, "visits").values.tolist() == [3.0]
    for name in ("residual", "residual_err", "matches"):
        assert combine(table, name).pixels.size == 0


def test_a_residual_of_zero_is_a_value() -> None:
    table = maps([{"n_matches": 2, "weight_sum": 100.0}])
    assert combine(table, "residual").values.tolist() == [0.0]
    assert combine(table, "residual_err").values.tolist() == [0.1]


def test_limits_and_completeness_are_means_over_visits() -> None:
    told = {"n_visits": 3, "n_limits": 2, "limit_sum": 33.0, "n_completeness": 1, "completeness_sum": 0.9}
    table = maps([told | {"half_limit_sum": 16.0}, told | {"limit_sum": 35.0, "half_limit_sum": 17.0}])
    assert combine(table, "limit").values.tolist() == [17.0]
    assert combine(table, "half_limit").values.tolist() == [16.5]
    assert combine(table, "completeness").values == pytest.approx([0.9])


def test_rows_of_an_earlier_schema_tell_no_limit() -> None:
    table = pa.concat_tables([maps([{"n_visits": 3}]), maps([{"n_limits": 1, "limit_sum": 16.0}])])
    assert combine(table, "limit").values.tolist() == [16.0]
    assert combine(table.slice(0, 1), "limit").pixels.size == 0


def test_the_whole_sky_is_nan_where_nothing_was_seen() -> None:
    sky = combine(
        maps([{"healpix_pixel": 7, "n_visits": 2}, {"healpix_pixel": 700, "n_visits": 1}]), "visits"
    ).full()
    assert sky.shape == (12 * 64,)
    assert np.flatnonzero(np.isfinite(sky)).tolist() == [7, 700] and sky[7] == 2.0


@pytest.mark.parametrize("name", MAPS)
def test_no_rows_are_an_empty_map(name: str) -> None:
    empty = combine(empty_table(load("maps")), name)
    assert empty.pixels.size == empty.values.size == 0 and np.isnan(empty.full()).all()


def test_a_map_that_there_is_not() -> None:
    with pytest.raises(KeyError, match="seeing"):
        combine(empty_table(load("maps")), "seeing")
