from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.errors import SchemaError
from skylake.schema import Column, TableSchema, arrow_schema, conform, empty_table, load, table_names
from skylake.schema.parquet import write_parquet

VOTABLE = "{http://www.ivoa.net/xml/VOTable/v1.3}"
NAMES = [*table_names(), "catalog"]


def rows(n_rows: int = 3, /, **columns: object) -> pa.Table:
    """Rows of the fixture `table`: its columns that may not be null, and others."""
    needed = {
        "id": np.arange(n_rows),
        "place": np.linspace(0, 1, n_rows),
        "short": np.zeros(n_rows, np.int16),
    }
    return pa.table(needed | columns)


@pytest.mark.parametrize("name", NAMES)
def test_fields_carry_what_the_schema_says(name: str) -> None:
    schema = load(name)
    form = arrow_schema(schema)
    assert form.names == list(schema.names)
    assert empty_table(schema).schema.equals(form, check_metadata=True)
    for column, field in zip(schema.columns, form, strict=True):
        metadata = {key.decode(): value.decode() for key, value in field.metadata.items()}
        assert field.nullable is column.nullable
        assert metadata["description"] == column.description
        assert metadata.get("unit") == column.unit
        assert metadata.get("ucd") == column.ucd
        if column.columns:
            inner = json.loads(metadata["columns"])
            assert list(inner) == [one.name for one in column.columns] == [one.name for one in field.type]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_tells_its_table_version_and_votable_header(name: str, tmp_path: Path) -> None:
    schema = load(name)
    write_parquet(empty_table(schema), tmp_path / "rows.parquet")
    metadata = pq.read_schema(tmp_path / "rows.parquet").metadata
    assert metadata[b"skylake.table"].decode() == schema.name
    assert int(metadata[b"skylake.schema_version"]) == schema.version
    assert metadata[b"skylake.schema_sha256"].decode() == schema.sha256
    header = ElementTree.fromstring(metadata[b"IVOA.VOTable-Parquet.content"])
    fields = {str(field.get("name")): field for field in header.iter(f"{VOTABLE}FIELD")}
    flat: dict[str, Column] = {}
    for column in schema.columns:
        # A nested column without values is in no file.
        if not column.columns or not column.nullable:
            flat |= {f"{column.name}.{inner.name}": inner for inner in column.columns} or {
                column.name: column
            }
    assert list(fields) == list(flat)
    for found, field in fields.items():
        is_text = flat[found].datatype in ("string", "text", "timestamp")
        assert (field.get("unit"), field.get("ucd")) == (flat[found].unit, flat[found].ucd)
        length = str(flat[found].length or 2048) if is_text else None
        assert field.get("arraysize") == ("*" if "." in found else length)
    groups = {group.get("name") for group in header.iter(f"{VOTABLE}GROUP")}
    assert groups == {found.partition(".")[0] for found in fields if "." in found}


def test_what_conforms_is_left_alone(table: TableSchema) -> None:
    once = conform(rows(name=["a", "b", None], count=pa.array([1, None, 3], pa.int32())), table)
    assert once.schema.equals(arrow_schema(table), check_metadata=True)
    assert conform(once, table).equals(once)
    assert once["name"].to_pylist() == ["a", "b", None]
    assert once["curve"].null_count == once["flux"].null_count == 3


def test_order_and_width_of_columns_are_mended(table: TableSchema) -> None:
    given_rows = rows(
        count=pa.array([1, 2, 3], pa.int64()), flux=pa.array([0.1, 0.2, 0.3]), small=pa.array([1, 2, 3])
    )
    found = conform(given_rows.select(given_rows.column_names[::-1]), table)
    assert found.column_names == list(table.names)
    assert found["count"].to_pylist() == [1, 2, 3]
    assert found["flux"].to_pylist() == [float(np.float32(value)) for value in (0.1, 0.2, 0.3)]


@given(values=st.lists(st.one_of(st.floats(width=32), st.none()), min_size=1, max_size=20))
def test_nan_becomes_null_and_nothing_else_does(values: list[float | None], table: TableSchema) -> None:
    found = conform(rows(len(values), flux=pa.array(values, pa.float32())), table)["flux"].to_pylist()
    assert found == [None if value is None or np.isnan(value) else value for value in values]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"weight": [1, 2, 3]}, "the column 'weight' is not in schemas/things.yaml"),
        ({"place": [1.0, None, 3.0]}, "the column 'place' is null in row 1 and may not be"),
        ({"place": [1.0, 2.0, np.nan]}, "the column 'place' is null in row 2 and may not be"),
        ({"short": [1, 2, 40000]}, "the column 'short' holds 40000 in row 2, which is no short"),
        ({"count": [1, 2.5, 3]}, "the column 'count' holds 2.5 in row 1, which is no int"),
        ({"count": ["1", "two", "3"]}, "the column 'count' holds 'two' in row 1, which is no int"),
        ({"name": ["a", "é" * 8, "b" * 9]}, "the column 'name' holds 9 characters in row 2; 8 fit"),
        ({"curve": [1, 2, 3]}, "the column 'curve' holds 1 in row 0, which is no nested"),
    ],
)
def test_what_does_not_fit_is_named_with_its_row(
    columns: dict[str, object], sentence: str, table: TableSchema
) -> None:
    with pytest.raises(SchemaError) as caught:
        conform(rows(**columns), table)
    assert str(caught.value) == f"table things: {sentence}"


def test_a_column_that_may_not_be_null_may_not_be_missing(table: TableSchema) -> None:
    with pytest.raises(SchemaError, match="'place' is missing and may not be null"):
        conform(rows().drop_columns(["place"]), table)


@given(bad=st.integers(0, 40), count=st.integers(1, 41), chunks=st.integers(1, 5))
def test_the_first_bad_row_is_told_wherever_it_is(
    bad: int, count: int, chunks: int, table: TableSchema
) -> None:
    count = max(count, bad + 1)
    values = np.zeros(count, np.int64)
    values[bad:] = 2**40
    pieces = [pa.array(piece) for piece in np.array_split(values, chunks)]
    with pytest.raises(SchemaError, match=rf"in row {bad}, which is no int"):
        conform(rows(count, count=pa.chunked_array(pieces)), table)


def test_a_nested_column_is_a_struct_of_lists() -> None:
    curve = arrow_schema(load("lightcurves")).field("lightcurve").type
    assert pa.types.is_struct(curve)
    assert all(pa.types.is_list(field.type) for field in curve)
    assert (
        pc.struct_field(empty_table(load("lightcurves"))["lightcurve"], "mag").type.value_type == pa.float64()
    )
