"""Which changes of a schema are allowed, and that each that is refused is reported with its fix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pds
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.schema import arrow_schema, load, table_names
from skylake.schema.evolution import flag_refusals, is_same, refusals
from skylake.schema.parquet import write_parquet
from skylake.schema.tables import Column, TableSchema

Changed = Callable[..., TableSchema]
NEW = Column("more", "float", "More", unit="mag")
NEW_NESTED = Column("other", "nested", "Other", columns=(Column("phase", "double", "Phase", nullable=False),))
WIDENINGS = [
    ("small", {"datatype": "short"}),
    ("small", {"datatype": "int"}),
    ("small", {"datatype": "long"}),
    ("short", {"datatype": "int"}),
    ("short", {"datatype": "long"}),
    ("count", {"datatype": "long"}),
    ("flux", {"datatype": "double"}),
    ("name", {"length": 9}),
    ("name", {"length": None}),
    ("name", {"datatype": "text", "length": None}),
    ("short", {"nullable": True}),
    ("curve.mag", {"datatype": "double"}),
]
TEXTS = [
    ("flux", {"description": "Light"}),
    ("count", {"ucd": "meta.number"}),
    ("curve.mag", {"description": "Brightness", "ucd": "phot.mag"}),
]
REFUSED = [
    ("place", {"datatype": "float"}, r"'place' was double and is float, which is not wider; keep it, or add a new"),
    ("count", {"datatype": "short"}, "'count' was int and is short"),
    ("count", {"datatype": "double"}, "'count' was int and is double"),
    ("count", {"datatype": "text"}, "'count' was int and is text"),
    ("note", {"datatype": "string", "length": 80}, "'note' was text and is string"),
    ("name", {"length": 7}, "the texts of the column 'name' had 8 and have 7 characters; keep it"),
    ("curve", {"datatype": "text", "columns": ()}, "'curve' was nested and is text"),
    ("curve.mag", {"datatype": "int"}, "'curve.mag' was float and is int"),
    ("flux", {"nullable": False}, "'flux' may no longer be null, but rows written before may be; let it be null"),
    ("flux", {"unit": "Jy"}, "the unit of the column 'flux' was adu/s and is Jy; keep it, or add a new column"),
    ("flux", {"unit": None}, "the unit of the column 'flux' was adu/s and is none"),
    ("curve.mag", {"unit": "mmag"}, "the unit of the column 'curve.mag' was mag and is mmag"),
    ("flux", {"ucd": "phot.count"}, "the UCD of the column 'flux' was phot.flux and is phot.count; keep it"),
    ("flux", {"name": "light"}, "'flux' is gone; keep it: a new name is a new column beside it"),
    ("short", {"name": "brief", "nullable": True}, "'short' is gone; keep it and let it be null from now on"),
    ("curve.mag", {"name": "light"}, "'curve.mag' is gone; keep it"),
    ("place", {"nullable": True}, "'place' is part of the key, the order or the position and may now be null; forbid"),
]  # fmt: skip


def with_column(schema: TableSchema, column: Column, place: int) -> TableSchema:
    return replace(schema, columns=(*schema.columns[:place], column, *schema.columns[place:]))


@pytest.mark.parametrize("name", [*table_names(), "catalog"])
def test_a_schema_may_follow_itself(name: str) -> None:
    assert refusals(load(name), load(name)) == []
    assert is_same(load(name), load(name))


@pytest.mark.parametrize("column", [NEW, NEW_NESTED])
def test_a_nullable_column_may_be_added_anywhere(column: Column, table: TableSchema) -> None:
    for place in range(len(table.columns) + 1):
        new = with_column(table, column, place)
        assert refusals(table, new) == []
        assert not is_same(table, new)


@pytest.mark.parametrize(("name", "change"), WIDENINGS)
def test_a_column_may_be_widened_but_not_back(
    name: str, change: dict[str, Any], table: TableSchema, changed: Changed
) -> None:
    new = changed(table, name, **change)
    assert refusals(table, new) == []
    assert not is_same(table, new)
    assert [sentence for sentence in refusals(new, table) if repr(name) in sentence]


@pytest.mark.parametrize(("name", "change"), TEXTS)
def test_texts_need_no_new_version(
    name: str, change: dict[str, Any], table: TableSchema, changed: Changed
) -> None:
    new = changed(table, name, **change)
    assert refusals(table, new) == []
    assert is_same(table, new)


@pytest.mark.parametrize(("name", "change", "sentence"), REFUSED)
def test_anything_else_is_refused_with_the_fix(
    name: str, change: dict[str, Any], sentence: str, table: TableSchema, changed: Changed
) -> None:
    new = changed(table, name, **change)
    found = refusals(table, new)
    assert len([one for one in found if one.startswith("table things: ") and sentence in one]) == 1
    assert not is_same(table, new) or "ucd" in change


def test_a_new_column_that_may_not_be_null_is_refused(table: TableSchema) -> None:
    new = with_column(table, replace(NEW, nullable=False), 3)
    assert refusals(table, new) == [
        "table things: the new column 'more' may not be null, but rows written before have no value; let it be null"
    ]


def test_a_new_column_within_a_nested_one_is_refused(table: TableSchema, changed: Changed) -> None:
    new = changed(table, "curve", columns=(*table["curve"].columns, NEW))
    (sentence,) = refusals(table, new)
    assert sentence.startswith("table things: the column 'curve.more' is new within a nested column")
    assert sentence.endswith("add it as a new nested column of its own")


def test_columns_keep_their_order(table: TableSchema) -> None:
    first, second, *others = table.columns
    new = replace(table, columns=(second, first, *others))
    assert refusals(table, new) == ["table things: the columns 'place' and others changed places; restore"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "items"}, "its name is now 'items'; keep it, or make a new table"),
        ({"primary_key": ("id", "name")}, "the key was id and is id, name; keep it, or make a new table"),
        ({"kind": "hats"}, "the layout's kind was parquet and is hats; keep it, or make a new table"),
        ({"sort": ("id",)}, "the layout's sort was place, id and is id; keep it, or make a new table"),
        ({"catalog_type": "object"}, "the layout's catalog_type was None and is object"),
        ({"ra": "place"}, "the layout's ra was None and is place"),
        ({"dec": "place"}, "the layout's dec was None and is place"),
    ],
)
def test_a_table_keeps_its_name_key_and_layout(
    change: dict[str, Any], sentence: str, table: TableSchema
) -> None:
    of_table = {key: value for key, value in change.items() if key in ("name", "primary_key")}
    of_layout = {key: value for key, value in change.items() if key not in of_table}
    new = replace(table, **of_table, layout=replace(table.layout, **of_layout))
    (found,) = refusals(table, new)
    assert found.startswith(f"table things: {sentence}")
    assert not is_same(table, new)


@given(
    chosen=st.sets(st.sampled_from(range(len(WIDENINGS))), max_size=5),
    places=st.lists(st.integers(0, 11), max_size=3),
)
def test_what_is_allowed_step_by_step_is_allowed_at_once(
    chosen: set[int], places: list[int], table: TableSchema, changed: Changed
) -> None:
    new = table
    for number in sorted(chosen):
        name, change = WIDENINGS[number]
        if new == table or not refusals(new, changed_or_same(new, name, change, changed)):
            new = changed_or_same(new, name, change, changed)
    for number, place in enumerate(places):
        new = with_column(new, replace(NEW, name=f"more{number}"), place)
    assert refusals(table, new) == []


def changed_or_same(schema: TableSchema, name: str, change: dict[str, Any], changed: Changed) -> TableSchema:
    try:
        return changed(schema, name, **change)
    except AssertionError:
        return schema


@pytest.mark.parametrize(("name", "change"), [*WIDENINGS, ("id", None)])
def test_what_is_allowed_is_readable(
    name: str, change: dict[str, Any] | None, table: TableSchema, changed: Changed, tmp_path: Any
) -> None:
    new = with_column(changed(table, name, **change) if change else table, NEW, 1)
    rows = pa.Table.from_pylist(
        [{"id": 1, "place": 2.0, "small": 3, "short": 4, "count": 5, "flux": 0.5, "name": "six", "note": "seven",
          "good": True, "curve": {"mjd": [1.0, 2.0], "mag": [0.25, None]}}],
        schema=arrow_schema(table),
    )  # fmt: skip
    write_parquet(rows, tmp_path / "rows.parquet")
    found = pds.dataset(tmp_path / "rows.parquet", schema=arrow_schema(new)).to_table()
    assert found.schema.equals(arrow_schema(new))
    assert found.to_pylist() == [row | {"more": None} for row in rows.to_pylist()]


def test_a_flag_keeps_its_bit_and_its_name() -> None:
    old = {"sources": {0: "SATURATED", 1: "EDGE"}, "frames": {0: "NAN"}}
    more = {"sources": {0: "SATURATED", 1: "EDGE", 2: "STREAK"}, "frames": {0: "NAN"}}
    assert flag_refusals(old, old) == []
    assert flag_refusals(old, more) == []
    (gone,) = flag_refusals(more, old)
    assert gone.startswith(
        "flags of sources: the bit 2 was STREAK and is gone; a bit keeps its meaning for ever"
    )
    (other,) = flag_refusals(old, old | {"frames": {0: "INF"}})
    assert "flags of frames: the bit 0 was NAN and is INF" in other
