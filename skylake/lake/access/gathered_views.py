"""Merged views of tables in blocks: the rows of one key from all batches become one row.

A row of the files of such a table is what one night of a camera adds to a key, such as a light curve. The schema says
for each column how blocks merge; values that follow from merged columns, such as a median, are computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skylake.schema import Column, TableSchema

if TYPE_CHECKING:
    import duckdb

#: Schema of the views of tables in blocks as their files have them.
BLOCKS = "blocks"
_TIME = "mjd_last"


def gather(blocks: Sequence[pa.Table], schema: TableSchema, columns: Sequence[str] | None = None) -> pa.Table:
    """Return merged rows of blocks, which must be all of their keys.

    Parameters
    ----------
    blocks : sequence of pyarrow.Table
        Rows of a table in blocks: the columns :func:`needed` for those that are wanted.
    schema : TableSchema
    columns : sequence of str or None
        Columns to return; None returns all.
    """
    from skylake.table.aggregate import aggregate_of, merged_by

    rows = merged_by(schema.primary_key, schema.merging, _order(schema))(blocks)
    if rows.num_rows < sum(one.num_rows for one in blocks) and _is_computed(schema, columns):
        rows = aggregate_of(schema.name).finish(rows)
    return rows.select(list(schema.merged_names if columns is None else columns))


def gather_frame(frame: Any, schema: TableSchema, columns: Sequence[str] | None = None) -> Any:
    """Return a partition of lsdb with merged rows: all blocks of a key lie in one pixel."""
    from nested_pandas.nestedframe.io import from_pyarrow

    rows = frame.reset_index().to_pyarrow().replace_schema_metadata(None)
    wanted = list(dict.fromkeys(["_healpix_29", *(columns or schema.merged_names)]))
    merged = gather([rows], schema, wanted)
    return from_pyarrow(merged).set_index("_healpix_29").sort_index()


def needed(schema: TableSchema, columns: Sequence[str] | None) -> list[str]:
    """Return the columns of the files that merged columns are made from."""
    wanted = {*schema.primary_key, *_order(schema), *(schema.merged_names if columns is None else columns)}
    if _is_computed(schema, columns):
        wanted |= {"n_points", *_read_by_finish(schema)}
    nested = [name for name, how in schema.merging.items() if how == "concat"]
    if wanted & set(nested):
        wanted.add(nested[0])  # the time of the points is in the first
    return [name for name in schema.names if name in wanted]


def needed_inner(schema: TableSchema, columns: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """Return the inner columns that suffice of the nested columns that are read for computed ones alone."""
    if columns is None or not _is_computed(schema, columns):
        return {}
    nested = [name for name, how in schema.merging.items() if how == "concat"]
    if not set(nested).isdisjoint(columns):
        return {}
    from skylake.table.blocks import ORDER

    inner = _read_by_finish(schema)
    # Measurements are put in the order of time, for sums of them not to depend on the order of blocks.
    timed = [one.name for one in schema[nested[0]].columns if one.name in ORDER]
    return inner | {nested[0]: tuple(dict.fromkeys([*timed, *inner.get(nested[0], ())]))}


def _read_by_finish(schema: TableSchema) -> dict[str, tuple[str, ...]]:
    from skylake.table.aggregate import aggregate_of

    return dict(aggregate_of(schema.name).finish_reads)


def _order(schema: TableSchema) -> list[str]:
    """Return the columns that say which block of a key is the last: its last time or, without any, its night."""
    if _TIME in schema.names:
        return [_TIME]
    return [name for name in ("night", "camera") if name in schema.layout.batch]


def _is_computed(schema: TableSchema, columns: Sequence[str] | None) -> bool:
    merging = schema.merging
    return any(merging.get(name) == "finish" for name in (merging if columns is None else columns))


def add_gathered(connection: duckdb.DuckDBPyConnection, schema: TableSchema, source: str) -> None:
    """Make the view of a table in blocks, under its name, of the relation `source` of its blocks."""
    if any(how == "finish" for how in schema.merging.values()):
        _add_finish(connection, schema)
    connection.execute(f'CREATE VIEW "{schema.name}" AS {gathered_sql(schema, source)}')


def gathered_sql(schema: TableSchema, source: str) -> str:
    """Return the query that merges the blocks of a relation."""
    key = ", ".join(f'"{name}"' for name in schema.primary_key)
    inner = [f'{_merged(schema, name)} AS "{name}"' for name in schema.merged_names if name in schema.merging]
    nested = [column for column in schema.columns if column.merge == "concat"]
    place = _place(nested[0]) if nested else "NULL"
    outer = [
        f'"{name}"' if name in schema.primary_key else _final(schema, name) for name in schema.merged_names
    ]
    return (
        f"SELECT {', '.join(outer)} FROM (SELECT *, {place} AS _place FROM "
        f"(SELECT {key}, count(*) AS _n, {', '.join(inner)} FROM {source} GROUP BY {key}))"
    )


def _merged(schema: TableSchema, name: str) -> str:
    """Return the expression that merges a column within a group."""
    how = schema.merging[name]
    names = ", ".join(f'"{one}"' for one in _order(schema))
    order = f" ORDER BY {names}" if names else ""
    if how == "sum":
        return f'sum("{name}")'
    if how in ("min", "max"):
        return f'{how}("{name}")'
    return f'list("{name}"{order})' if how == "concat" else f'last("{name}"{order})'


def _place(column: Column) -> str:
    """Return the order of the points of all blocks of a key."""
    names = [inner.name for inner in column.columns if inner.name in ("mjd_mid", "frame_id")]
    if "mjd_mid" not in names:
        return "NULL"
    lists = ", ".join(_flat(column.name, name) for name in sorted(names, reverse=True))
    return f"CASE WHEN _n > 1 THEN list_grade_up(list_zip({lists})) END"


def _flat(column: str, inner: str) -> str:
    return f'flatten(list_transform("{column}", lambda one: one."{inner}"))'


def _final(schema: TableSchema, name: str) -> str:
    """Return the expression of a merged column."""
    column, how = schema[name], schema.merging[name]
    if how == "sum":
        return f'CAST("{name}" AS {duckdb_type(column)}) AS "{name}"'
    if how == "concat":
        return f'CASE WHEN _n = 1 THEN "{name}"[1] ELSE {_in_order(column)} END AS "{name}"'
    if how == "finish":
        return f'CASE WHEN _n = 1 THEN "{name}" ELSE {_finished(schema)}."{name}" END AS "{name}"'
    return f'"{name}"'


def _in_order(column: Column) -> str:
    inner = ", ".join(
        f'"{one.name}" := list_select({_flat(column.name, one.name)}, _place)' for one in column.columns
    )
    return f"struct_pack({inner})"


def _finished(schema: TableSchema) -> str:
    """Return the call of the function that computes what follows from merged columns."""
    lists = ", ".join(
        f'"{column.name}" := {_in_order(column)}' for column in schema.columns if column.merge == "concat"
    )
    return f'finish_{schema.name}(struct_pack("n_points" := CAST("n_points" AS INTEGER), {lists}))'


def _add_finish(connection: duckdb.DuckDBPyConnection, schema: TableSchema) -> None:
    """Give a connection the function with which the aggregate of a table computes columns."""
    import duckdb

    nested = [column for column in schema.columns if column.merge == "concat"]
    made = [column for column in schema.columns if column.merge == "finish"]

    def compute(merged: Any) -> pa.Array:
        # Only when a query needs it, so that short queries start fast.
        from skylake.table.aggregate import aggregate_of

        finish = aggregate_of(schema.name).finish
        array = merged.combine_chunks() if isinstance(merged, pa.ChunkedArray) else merged
        found = finish(pa.Table.from_batches([pa.RecordBatch.from_struct_array(array)]))
        values = [found[column.name].combine_chunks() for column in made]
        return pa.StructArray.from_arrays(values, names=[column.name for column in made])

    given = ", ".join(f'"{column.name}" {duckdb_type(column)}' for column in (schema["n_points"], *nested))
    result = ", ".join(f'"{column.name}" {duckdb_type(column)}' for column in made)
    create: Any = connection.create_function
    create(
        f"finish_{schema.name}",
        compute,
        [duckdb.sqltype(f"STRUCT({given})")],
        duckdb.sqltype(f"STRUCT({result})"),
        type="arrow",
        null_handling="special",
    )


_TYPES = {
    "boolean": "BOOLEAN",
    "byte": "TINYINT",
    "short": "SMALLINT",
    "int": "INTEGER",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "text": "VARCHAR",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
}


def duckdb_type(column: Column) -> str:
    """Return the type of a column in DuckDB."""
    if column.columns:
        inner = ", ".join(f'"{one.name}" {duckdb_type(one)}[]' for one in column.columns)
        return f"STRUCT({inner})"
    return _TYPES[column.datatype]
