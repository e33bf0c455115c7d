"""Columns of apertures are found by their names, wherever they are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.schema import arrow_schema, load
from skylake.schema.aperture_columns import (
    MORE,
    aperture_floats,
    aperture_value,
    nest_apertures,
    nested_row,
    spread_apertures,
    unpacked,
)

values = st.floats(-1e4, 1e4, width=32) | st.just(float("nan"))
START = {
    "frames": ("apcor_aper",),
    "sources": ("flux_aper", "apcor_rel_aper"),
    "forced_sources": ("flux_hybrid",),
}


@given(st.sampled_from(sorted(START)), st.integers(1, 6), st.integers(0, 5), st.data())
def test_what_is_put_in_comes_out_by_its_name(table: str, last: int, rows: int, data: st.DataObject) -> None:
    schema = load(table)
    given_columns = {
        f"{start}{number}": np.array(data.draw(st.lists(values, min_size=rows, max_size=rows)), np.float32)
        for start in START[table]
        for number in range(1, last + 1)
    }
    columns: dict[str, Any] = dict(given_columns)
    nest_apertures(columns, schema)
    assert (MORE in columns) == (last > 3)
    assert not [name for name in columns if name[-1] in "456"]
    kinds = arrow_schema(schema)
    nested = pa.table({name: pa.array(one, kinds.field(name).type) for name, one in columns.items()})
    for name, expected in given_columns.items():
        np.testing.assert_array_equal(aperture_floats(nested, name), expected.astype(float))
    if last > 3:
        beyond = aperture_floats(nested, f"{START[table][0]}{last + 1}")
        assert beyond.shape == (rows,) and np.isnan(beyond).all()


def test_rows_with_and_without_further_apertures_mix() -> None:
    kind = arrow_schema(load("sources")).field(MORE).type
    rows = [None, {"flux_aper": [1.0, 2.0]}, {"flux_aper": [3.0]}, {"flux_aper": [None, 4.0]}]
    table = pa.table({MORE: pa.array(rows, kind)})
    for piece in (table, pa.concat_tables([table.slice(0, 2), table.slice(2)])):
        np.testing.assert_array_equal(aperture_floats(piece, "flux_aper4"), [np.nan, 1.0, 3.0, np.nan])
        np.testing.assert_array_equal(aperture_floats(piece, "flux_aper5"), [np.nan, 2.0, np.nan, 4.0])
    np.testing.assert_array_equal(aperture_floats(table.slice(2), "flux_aper5"), [np.nan, 4.0])


#: How names of columns of detections begin and end.
PARTS = (("flux_", ""), ("flux_", "_err"), ("apcor_rel_", ""))
pair_lists = st.none() | st.lists(st.tuples(values, values), max_size=3)


@given(st.lists(pair_lists, min_size=1, max_size=6), st.integers(0, 6))
def test_lists_of_structs_become_structs_of_lists(rows: list[Any], cut: int) -> None:
    names = ("flux_aper", "flux_aper_err")

    def packed(some: list[Any]) -> pa.Array:
        structs = [
            None if one is None else [dict(zip(names, pair, strict=True)) for pair in one] for one in some
        ]
        element = pa.struct([(name, pa.float32()) for name in (*names, "apcor_rel_aper")])
        return pa.array(structs, pa.list_(element))

    found = unpacked(pa.chunked_array([packed(rows[:cut]), packed(rows[cut:])]), load("sources"))
    assert found.type == arrow_schema(load("sources")).field(MORE).type
    assert found.is_null().to_pylist() == [one is None for one in rows]
    assert str(unpacked(pa.chunked_array([found]), load("sources"))) == str(found), "one that is so stays"
    table = pa.table({"source_no": range(len(rows)), MORE: found})
    spread = spread_apertures(table)
    most = max((len(one) for one in rows if one is not None), default=0)
    kept = [f"{start}aper{number + 4}{end}" for number in range(most) for start, end in PARTS]
    assert spread.column_names == ["source_no", *kept]
    for name in kept:
        np.testing.assert_array_equal(
            spread[name].to_numpy(zero_copy_only=False), aperture_floats(table, name)
        )
    for column, name in enumerate(names):
        for number in range(3):
            expected = [
                one[number][column] if one is not None and len(one) > number else np.nan for one in rows
            ]
            got = aperture_floats(table, name.replace("aper", f"aper{number + 4}"))
            np.testing.assert_array_equal(got, expected)


def test_a_row_keeps_values_of_further_apertures_in_their_order() -> None:
    row = {
        "apcor_aper5": 1.2,
        "apcor_aper3": 1.5,
        "apcor_aper4": 1.3,
        "aper4_radius_px": 9.0,
        "apcor_kron": 1.1,
    }
    found = nested_row(row)
    assert found == {
        "apcor_aper3": 1.5,
        "apcor_kron": 1.1,
        MORE: {"apcor_aper": [1.3, 1.2], "aper_radius_px": [9.0]},
    }
    for name, value in row.items():
        assert aperture_value(found, name) == value
    assert aperture_value(found, "apcor_aper6") is None
    assert aperture_value({"apcor_aper3": None}, "apcor_aper4") is None


@pytest.mark.parametrize("table", ["frames", "sources", "forced_sources", "matches"])
def test_inner_columns_have_the_units_of_the_outer_ones(table: str) -> None:
    schema = load(table)
    for inner in schema[MORE].columns:
        base, _, end = inner.name.partition("_err")
        plain = (
            f"{base}3_err"
            if inner.name.endswith("_err")
            else inner.name.replace("aper_radius", "aper3_radius")
        )
        plain = plain if plain in schema.names else f"{inner.name}3"
        assert (schema[plain].unit, schema[plain].ucd) == (inner.unit, inner.ucd)
        assert schema[plain].datatype == inner.datatype and not end


def test_columns_of_their_own_keep_their_units() -> None:
    schema = arrow_schema(load("forced_sources"))
    values = pa.array([{inner.name: [1.0] for inner in schema.field(MORE).type}], schema.field(MORE).type)
    spread = spread_apertures(pa.Table.from_arrays([values], schema=pa.schema([schema.field(MORE)])))
    assert spread.schema.field("flux_hybrid4_err").metadata[b"unit"] == b"adu/s"
    assert {"flux_hybrid4", "flux_aper4", "flux_aper4_err", "apcor_rel_aper4"} < set(spread.column_names)
