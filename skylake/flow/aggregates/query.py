"""The query of a user over the rows of one batch, on a DuckDB connection that has access to nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skylake.errors import ConfigurationError, UsageError
from skylake.lake.access.duckdb_tables import close, require_no_copy, require_reading
from skylake.schema import empty_table, load
from skylake.table.aggregate import Given

if TYPE_CHECKING:
    import duckdb

_INNER = re.compile(r"[.\[]")


@dataclass(frozen=True, slots=True)
class Query:
    """A partial in SQL.

    Attributes
    ----------
    path : str
        Its file, for the sentence of an error.
    text : str
        One statement that only reads.
    inputs : tuple of (table, columns)
        What it reads.
    """

    path: str
    text: str
    inputs: tuple[tuple[str, tuple[str, ...]], ...]

    def __call__(self, given: Given) -> pa.Table:
        """Return the rows of a batch, with its camera and night.

        Raises
        ------
        ConfigurationError
            If the query fails.
        """
        import duckdb

        with duckdb.connect() as connection:
            for table, _ in self.inputs:
                connection.register(table, given[table])
            _close(connection)
            try:
                rows = connection.sql(self.text).to_arrow_table()
            except duckdb.Error as error:
                where = f"for {given.camera} {given.night}" if given.camera else "on tables without rows"
                raise ConfigurationError(f"{self.path}: the query fails {where}: {error}") from error
        return _of_batch(rows, given)


def _close(connection: duckdb.DuckDBPyConnection) -> None:
    """Restrict a connection to what is registered, and to one thread so that its sums do not depend on chance."""
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET threads = 1")
    close(connection)


def _of_batch(rows: pa.Table, given: Given) -> pa.Table:
    """Return rows with camera and night, and whole numbers that DuckDB takes for larger than they are as 64 bits."""
    fields = [
        pa.field(one.name, pa.int64() if pa.types.is_decimal(one.type) and one.type.scale == 0 else one.type)
        for one in rows.schema
    ]
    rows = rows.cast(pa.schema(fields))
    for name, value in (("camera", pa.scalar(given.camera)), ("night", pa.scalar(given.night, pa.int32()))):
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
    return rows


def inputs_of(path: Path, text: str, readable: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the tables that a query reads, and the columns of each that it needs, in the order of the schemas.

    Raises
    ------
    ConfigurationError
        If it is not one statement that only reads, or is wrong.
    """
    import duckdb

    with duckdb.connect() as connection:
        for name in readable:
            connection.register("empty", empty_table(load(name)))
            connection.execute(f'CREATE TABLE "{name}" AS FROM empty')
        # Columns that only a filter needs would not be named where the scan applies it.
        connection.execute(
            "SET disabled_optimizers = 'filter_pushdown,empty_result_pullup,statistics_propagation'"
        )
        _close(connection)
        try:
            statements = connection.extract_statements(text)
            if len(statements) != 1:
                raise ConfigurationError(
                    f"{path}: an aggregate is one statement, and these are {len(statements)}"
                )
            require_reading(statements[0])
            if statements[0].type.name != "SELECT":
                raise ConfigurationError(f"{path}: an aggregate is a SELECT")
            require_no_copy(connection, statements[0])
            plans = connection.execute(f"EXPLAIN (FORMAT json) {statements[0].query}").fetchall()
        except duckdb.Error as error:
            raise ConfigurationError(f"{path}: {error} (an aggregate reads {', '.join(readable)})") from error
        except UsageError as error:
            raise ConfigurationError(f"{path}: {error}") from error
    found: dict[str, set[str]] = {}
    for table, columns in _scans(plan for _, value in plans for plan in json.loads(value)):
        found.setdefault(table, set()).update(columns)
    # At least one column is needed to count the rows.
    return {
        table: tuple(name for name in load(table).names if name in columns) or ("camera",)
        for table, columns in sorted(found.items())
    }


def _scans(plans: Iterable[dict[str, Any]]) -> Iterable[tuple[str, list[str]]]:
    """Yield the tables that plans read, with the columns; a part of a nested column stands for the whole."""
    waiting = list(plans)
    while waiting:
        node = waiting.pop()
        waiting += node.get("children", ())
        details = node.get("extra_info", {})
        if "Table" in details:
            columns_read = details.get("Projections", [])
            columns = [columns_read] if isinstance(columns_read, str) else columns_read
            yield (
                str(details["Table"]).rpartition(".")[2],
                [_INNER.split(one)[0].strip('"') for one in columns],
            )
