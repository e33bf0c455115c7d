from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from skylake.schema import TableSchema, load
from skylake.schema.schema_ddl import MIRRORED, ddl, mirrored_metadata, sql_table

KINDS = {
    "id": "BIGINT", "place": "DOUBLE PRECISION", "small": "SMALLINT", "short": "SMALLINT", "count": "INTEGER",
    "flux": "REAL", "name": "VARCHAR(8)", "note": "TEXT", "good": "BOOLEAN", "time": "TIMESTAMP WITH TIME ZONE",
}  # fmt: skip


def test_every_type_has_its_own_in_postgres(table: TableSchema) -> None:
    made = sql_table(table, sa.MetaData())
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    # Nested columns stay in the lake.
    assert {column.name: column.type.compile(dialect=dialect) for column in made.columns} == KINDS


@pytest.mark.parametrize("name", MIRRORED)
def test_a_mirrored_table_has_columns_key_and_texts(name: str) -> None:
    schema, made = load(name), mirrored_metadata("sky").tables[f"sky.{name}"]
    assert made.comment == schema.description
    assert [column.name for column in made.columns] == list(schema.flat_names)
    assert {column.name for column in made.primary_key} == set(schema.primary_key)
    for column in made.columns:
        declared = schema[column.name]
        assert column.nullable is declared.nullable
        assert column.comment is not None
        assert column.comment.startswith(declared.description)
        assert column.comment.endswith(f"[{declared.unit}]") or declared.unit is None


def test_each_table_is_made_once_and_each_column_described() -> None:
    text = ddl()
    for name in MIRRORED:
        assert text.count(f"CREATE TABLE {name} (") == 1
        assert text.count(f"COMMENT ON COLUMN {name}.") == len(load(name).flat_names)
    assert not any(line != line.rstrip() for line in text.splitlines())
    assert ddl() == text
