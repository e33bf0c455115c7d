"""The laws of aggregates: a night has the same rows however it is divided, and in whatever order it is merged."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake import cameras
from skylake.core.flags import SourceFlag
from skylake.core.sphere import healpix_index
from skylake.schema import arrow_schema, conform, load
from skylake.settings import Settings
from skylake.table.aggregate import REFERENCE, Aggregate, Given, built_in
from skylake.table.blocks import merge_rows

MakeRows = Callable[..., pa.Table]
NIGHT = 20240407
REGION = "POLYGON ICRS 119 -26 121 -26 121 -24 119 -24"
ALL = list(built_in().values())
#: Pairs of successive measurements, outliers among others and detections at one place are those of a whole night,
#: which nothing divides.
DIVISIBLE = [one for one in ALL if one.name not in ("clusters", "star_statistics")]


def rows_of(table: str, n: int, **columns: Any) -> pa.Table:
    """Rows of a table from some columns; others are null, or a plain value where they may not be."""
    plain = {"int64": 1, "int32": 1, "int16": 1, "double": 1.0, "float": 1.0, "string": "x"}
    arrays = {
        item.name: pa.nulls(n, item.type)
        if item.nullable
        else pa.array([plain[str(item.type)]] * n, item.type)
        for item in arrow_schema(load(table))
    }
    given = {name: pa.array(values, arrays[name].type, from_pandas=True) for name, values in columns.items()}
    return conform(pa.table(arrays | given), load(table))


def with_nan(rows: pa.Table, name: str, where: np.ndarray) -> pa.Table:
    place = rows.schema.get_field_index(name)
    values = pc.if_else(pa.array(where), pa.scalar(math.nan, rows.schema.field(place).type), rows[name])
    return rows.set_column(place, rows.schema.field(place), values)


def a_night(
    frame_rows: MakeRows, match_rows: MakeRows, seed: int, n: int, n_stars: int
) -> dict[str, pa.Table]:
    """All tables that aggregates read, with nulls and NaN in places."""
    random = np.random.default_rng(seed)
    some = [None, 2.0, 2.5, 3.25]
    frames = frame_rows(
        n, s_region=[[REGION, None][int(one)] for one in random.random(n) < 0.1], pixel_scale_arcsec=3.0,
        fwhm_px=random.choice(some, n).tolist(), sky_adu=random.choice(some, n).tolist(), n_detected=7,
        status=random.choice(["ok", "ok", "ok", "rejected"], n).tolist(), aper2_radius_px=3.0,
        band=random.choice(["V", "R", None], n).tolist(),
    )  # fmt: skip
    frames = with_nan(frames, "fwhm_px", random.random(n) < 0.2)
    frame, star = (values.ravel() for values in np.mgrid[:n, :n_stars])
    frame_id, ra, dec = frame + 1, 120.0 + 0.01 * star, -25.0 + 0.01 * star
    flux = np.where(
        random.random(len(star)) < 0.2, -3.0, 100.0 + 50.0 * star + random.normal(0, 3, len(star))
    )
    mjd, flags = 60408.1 + 0.001 * frame, random.choice([0, int(SourceFlag.SATURATED)], len(star))
    matches = match_rows(
        len(star), frame_id=frame_id, source_no=star, ref_id=star, ra_deg=ra, dec_deg=dec, mjd_mid=mjd,
        flux_aper2=flux, flags=flags, ref_mag=15.0 - 0.1 * star, band=random.choice(["V", "R"], n)[frame].tolist(),
    )  # fmt: skip
    matches = with_nan(matches, "flux_aper2", random.random(len(star)) < 0.1)
    zeropoints = rows_of(
        "zeropoints", n, frame_id=np.arange(n) + 1, camera=["lab"] * n, night=[NIGHT] * n, catalog=["simcat"] * n,
        band=random.choice(["V", "R"], n).tolist(), flux=["aper2"] * n, version=[1] * n, n_matched=[n_stars] * n,
        zp=random.choice([None, 20.0, 20.1], n).tolist(), zp_err=[0.01] * n, zp_fit_err=[0.005] * n,
        zp_random_err=[0.004] * n, colour_term=[0.1] * n, pivot_colour=[0.7] * n, colour=["B-V"] * n,
    )  # fmt: skip
    forced = rows_of(
        "forced_sources", len(star), frame_id=frame_id, star_id=healpix_index(ra, dec), camera=["lab"] * len(star),
        night=[NIGHT] * len(star), mjd_mid=mjd, ra_deg=ra, dec_deg=dec, flags=flags, flux_hybrid2=flux,
        flux_hybrid2_err=np.full(len(star), 3.0), sky_rms_adu=np.full(len(star), 5.0), targets_version=[1] * len(star),
        _healpix_29=healpix_index(ra, dec),
    )  # fmt: skip
    targets = rows_of(
        "targets", n_stars, camera=["lab"] * n_stars, version=[1] * n_stars, origin=["simcat"] * n_stars,
        star_id=forced["star_id"][:n_stars].to_pylist(), ref_id=np.arange(n_stars),
    )  # fmt: skip
    both = [(one, band) for one in range(n_stars) for band in ("V", "R")]
    reference = pa.table(
        {
            "origin": ["simcat"] * len(both),
            "ref_id": [one for one, _ in both],
            "band": [band for _, band in both],
            "colour": ["B-V"] * len(both),
            "mag": [15.0 - 0.1 * one for one, _ in both],
            "colour_value": [math.nan if one % 3 == 0 else 0.7 for one, _ in both],
            "colour_err": [math.nan if one % 2 == 0 else 0.03 for one, _ in both],
        }
    )
    tables = {"frames": frames, "matches": matches, "zeropoints": zeropoints, "forced_sources": forced}
    others = [NIGHT - 2, NIGHT, NIGHT + 1, NIGHT + 3]
    tables["nights"] = rows_of(
        "nights", 4, camera=["lab"] * 4, night=others, band=["V"] * 4, n_zeropoints=[9] * 4, catalog=["simcat"] * 4,
        zp_zenith=20.0 + 0.01 * random.normal(size=4), zp_zenith_err=[0.005] * 4, extinction=[0.15] * 4,
        extinction_err=[0.02] * 4, mean_airmass=[1.3] * 4, zp_excess=[0.005] * 4, n_cloudy=[0.1] * 4,
        cloud_mag=[0.0] * 4, p_steady=[0.9] * 4, version=[1] * 4,
    )  # fmt: skip
    return tables | {"targets": targets, REFERENCE: reference}


def given_to(aggregate: Aggregate, tables: dict[str, pa.Table]) -> Given:
    """What the engine gives to a partial: the columns and rows that it asks for."""
    chosen = {}
    for one in aggregate.inputs:
        rows = tables[one.table] if one.filter is None else tables[one.table].filter(one.filter)
        chosen[one.table] = rows if one.columns is None else rows.select(list(one.columns))
    named = {name: getattr(Settings(), name) for name in aggregate.settings}
    return Given("lab", NIGHT, chosen, cameras.load("sim"), named)


def pieces(tables: dict[str, pa.Table], groups: Sequence[int]) -> list[dict[str, pa.Table]]:
    """A night divided by frames; what is of no frame is given to all."""
    found = []
    for group in range(max(groups) + 1):
        frames = pa.array([i + 1 for i, one in enumerate(groups) if one == group], pa.int64())
        own = {
            name: rows.filter(pc.is_in(rows["frame_id"], frames))
            for name, rows in tables.items()
            if "frame_id" in rows.column_names
        }
        found.append(tables | own)
    return found


def differing(aggregate: Aggregate, one: pa.Table, other: pa.Table) -> list[str]:
    """The columns in which two tables differ, their rows in the order of the key."""
    key = [name for name in load(aggregate.name).primary_key if name in one.column_names]
    one, other = (rows.sort_by([(name, "ascending") for name in key]) for rows in (one, other))
    return [
        name for name in one.column_names if not are_close(one[name].to_pylist(), other[name].to_pylist())
    ]


def are_close(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(are_close, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and are_close(list(one.values()), list(other.values()))
    if isinstance(one, float) and isinstance(other, float):
        return bool(one == pytest.approx(other, rel=1e-9, abs=1e-9, nan_ok=True))
    return bool(one == other)


nights = st.tuples(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 5))


@pytest.mark.slow
@pytest.mark.parametrize("aggregate", DIVISIBLE, ids=lambda one: one.name)
@given(night=nights, data=st.data())
def test_a_night_is_the_same_however_it_is_divided_and_merged(
    aggregate: Aggregate, frame_rows: MakeRows, match_rows: MakeRows, night: Any, data: st.DataObject
) -> None:
    seed, n, n_stars = night
    tables = a_night(frame_rows, match_rows, seed, n, n_stars)
    groups = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    merge, finish = aggregate.merge, aggregate.finish
    whole = finish(merge([aggregate.partial(given_to(aggregate, tables))]))
    parts = [aggregate.partial(given_to(aggregate, one)) for one in pieces(tables, groups)]
    shuffled = data.draw(st.permutations(parts))
    assert differing(aggregate, finish(merge(shuffled)), whole) == []
    if len(parts) == 3:
        one, two, three = parts
        left, right = merge([merge([one, two]), three]), merge([one, merge([two, three])])
        assert differing(aggregate, finish(left), finish(right)) == []
    nothing = parts[0].slice(0, 0)
    assert differing(aggregate, finish(merge([nothing, *parts, nothing])), whole) == []


@pytest.mark.parametrize(
    "aggregate", [one for one in DIVISIBLE if load(one.name).in_blocks], ids=lambda one: one.name
)
@given(night=nights, data=st.data())
def test_finished_blocks_merge_as_partials_do(
    aggregate: Aggregate, frame_rows: MakeRows, match_rows: MakeRows, night: Any, data: st.DataObject
) -> None:
    """What lies in the files of a table in blocks is finished; readers merge it and finish it again."""
    seed, n, n_stars = night
    tables = a_night(frame_rows, match_rows, seed, n, n_stars)
    groups = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    merge, finish = aggregate.merge, aggregate.finish
    whole = finish(merge([aggregate.partial(given_to(aggregate, tables))]))
    parts = [finish(merge([aggregate.partial(given_to(aggregate, one))])) for one in pieces(tables, groups)]
    assert differing(aggregate, finish(merge(data.draw(st.permutations(parts)))), whole) == []


def test_each_derived_table_has_its_aggregate() -> None:
    assert list(built_in()) == [
        "nights",
        "photometric_nights",
        "lightcurves",
        "forced_lightcurves",
        "maps",
        "clusters",
        "repeatability",
        "seeing",
        "star_statistics",
    ]
    for name, one in built_in().items():
        assert one.key == load(name).primary_key


values = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]),
        st.one_of(st.none(), st.integers(-9, 9).map(float), st.just(math.nan)),
    ),
    max_size=12,
)


@given(values)
def test_null_and_nan_are_no_values(rows: list[tuple[str | None, float | None]]) -> None:
    table = pa.table(
        {
            "key": pa.array([one for one, _ in rows], pa.string()),
            "x": pa.array([x for _, x in rows], pa.float64()),
        }
    )
    for how, function in (("sum", math.fsum), ("min", min), ("max", max)):
        found = merge_rows(table, ["key"], {"x": how}).to_pylist()
        assert len(found) == len({one for one, _ in rows})
        for row in found:
            mine = [x for one, x in rows if one == row["key"] and x is not None and not math.isnan(x)]
            assert row["x"] == (function(mine) if mine else None)
