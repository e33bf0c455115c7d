"""Queries in SQL that only read: those of ``skylake sql`` and of ``lake.sql``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from skylake.errors import UsageError
from skylake.lake.access.duckdb_tables import (
    COMMAND_LINE,
    Door,
    catalog_folder,
    require_no_copy,
    require_reading,
)
from skylake.lake.storage.damaged_files import named_in
from skylake.reading.rows import described
from skylake.reading.views import VIEWS, meanings_of_view
from skylake.schema import meanings

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from skylake.lake import Snapshot


def answers(
    connection: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    query: str,
    door: Door = COMMAND_LINE,
    only_reads: bool = True,
    only_one: bool = False,
) -> Iterator[pa.Table]:
    """Run the statements of a query one after the other, and yield the answer of each that has one.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        To the snapshot; restricted first if it shall only read.
    snapshot : Snapshot
    query : str
    door : Door
    only_reads : bool
        Whether statements that do anything else are refused.
    only_one : bool
        Whether more than one answer is refused, before any statement runs.

    Raises
    ------
    UsageError
        If a statement is refused or fails.
    LakeError
        If a file of the lake is missing or damaged.
    """
    import duckdb
    import pyarrow as pa

    try:
        statements = connection.extract_statements(query)
        for statement in statements if only_reads else ():
            require_reading(statement, door)
        if only_one:
            _require_one(statements, door)
        for statement in statements:
            if only_reads:
                require_no_copy(connection, statement, door)
            table = _answer(connection, statement)
            if table is not None:
                table = _unique_names(table)
                known = _meanings(connection, snapshot, statement)
                yield pa.Table.from_arrays(table.columns, schema=described(table.schema, known))
    except duckdb.Error as error:
        if isinstance(error, duckdb.CatalogException) and (name := _in_place(snapshot, query)):
            raise UsageError(
                f"the catalog {name} is used in place, where SQL does not reach it; `skylake catalog cone` and `box` "
                f"search it, `skylake crossmatch` matches it, and an import of its files makes catalogs.{name}"
            ) from error
        refused = isinstance(error, duckdb.PermissionException)
        if not refused and (damage := named_in(error, snapshot.layout.root)):
            raise damage from error
        advice = f"; {door.to_read}" if refused else ""
        raise UsageError(f"the query failed: {' '.join(str(error).split())}{advice}") from error


def _in_place(snapshot: Snapshot, query: str) -> str | None:
    """Return the catalog that a query names although its stars are not in the lake; None if there is none."""
    for name in snapshot.catalogs():
        if re.search(rf'\bcatalogs\s*\.\s*"?{re.escape(name)}\b', query, re.I) and (
            catalog_folder(snapshot.catalog(name)) is None
        ):
            return name
    return None


def _require_one(statements: list[duckdb.Statement], door: Door) -> None:
    """Refuse more than one answer."""
    n_results = sum(map(_has_answer, statements)) if len(statements) > 1 else 1
    if n_results > 1:
        raise UsageError(
            f"the query has {n_results} results, and {door.to_have_one}; give one SELECT at a time"
        )


def _has_answer(statement: duckdb.Statement) -> bool:
    """Return whether a statement has an answer, which may have no rows; SET has none, nor has CREATE."""
    import duckdb

    kinds, result = statement.expected_result_type, duckdb.ExpectedResultType.QUERY_RESULT
    if result not in kinds or len(kinds) == 1:
        return result in kinds
    # Such a statement is a PIVOT, or one that changes rows and may return them.
    return (
        re.match(r"(PIVOT|UNPIVOT|FROM|SELECT|WITH|\()|.*\bRETURNING\b", statement.query.strip(), re.I | re.S)
        is not None
    )


def _answer(connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> pa.Table | None:
    """Run a statement; return its answer, None if it has none."""
    relation: duckdb.DuckDBPyRelation | None = connection.query(statement.query)
    # Rows of a relation are computed only when they are read; those of a CREATE exist already.
    return relation.to_arrow_table() if relation is not None and _has_answer(statement) else None


def _meanings(
    connection: duckdb.DuckDBPyConnection, snapshot: Snapshot, statement: duckdb.Statement
) -> Mapping[str, Mapping[str, str]]:
    """Return what names of columns mean in the tables or the view that a query reads, else in all tables."""
    [(tree,)] = connection.execute("SELECT json_serialize_sql($1)", [statement.query]).fetchall()
    names = set(re.findall(r'"table_name":\s*"([^"]+)"', tree))
    if len(names) == 1 and (view := VIEWS.get(*names)):
        return meanings_of_view(view.table)
    schemas = [snapshot.schema(name) for name in sorted(names) if name in snapshot.tables]
    return {**meanings(), **(meanings(*schemas) if schemas else {})}


def _unique_names(table: pa.Table) -> pa.Table:
    """Return the table with names numbered that occur again, as after a join: night, night_1."""
    names: list[str] = []
    for name in table.column_names:
        candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
        names.append(next(one for one in candidates if one not in names))
    return table.rename_columns(names)
