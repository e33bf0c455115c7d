"""DuckDB over the tables of a snapshot, by their names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from skylake.errors import LakeError, UsageError
from skylake.lake.access.gathered_views import BLOCKS, add_gathered, duckdb_type
from skylake.lake.access.ledger_views import add_views, pattern, plain
from skylake.lake.access.scatter_function import add_scatter_function
from skylake.lake.commits.table_version import Version
from skylake.lake.layout import Layout
from skylake.lake.storage.damaged_files import naming_damage
from skylake.places import is_url, key, store, unchanging_store
from skylake.resources import folder
from skylake.schema import Column, TableSchema, arrow_schema
from skylake.schema.parquet import optional_columns
from skylake.sky.hats import IN_PLACE, read_collection

if TYPE_CHECKING:
    import duckdb


#: Schema of the views of reference catalogs.
CATALOGS = "catalogs"
#: Settings of a connection that only reads; after the last of them no setting can be changed any more.
_READING = (
    "autoload_known_extensions = false",
    "autoinstall_known_extensions = false",
    "allow_community_extensions = false",
    "python_enable_replacements = false",
    "enable_external_access = false",
    "lock_configuration = true",
)
#: How statements begin that only read, or make something in the memory of the connection. A PIVOT is of a type MULTI.
_ASKS = r"(?:SELECT|FROM|WITH|VALUES|PIVOT|UNPIVOT)\b|\("
_MAKES = r"CREATE\s+(?:OR\s+REPLACE\s+)?(?:TEMP(?:ORARY)?\s+)?(?:TABLE|VIEW|MACRO|FUNCTION)\b"
_BEGINNINGS = {
    "SELECT": "",
    "EXPLAIN": rf"EXPLAIN\s+(?:ANALYZE\s+)?(?:{_ASKS})",
    "MULTI": f"{_ASKS}|{_MAKES}",
    "CREATE": _MAKES,
    "SET": r"SET\s+VARIABLE\b",
}


class ReadableSnapshot(Protocol):
    """The methods of a snapshot, on disk or in an object store, that a connection needs."""

    @property
    def layout(self) -> Layout:
        """Where the files of the lake are."""
        ...

    @property
    def number(self) -> int:
        """Number of the snapshot."""
        ...

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables, those of users included."""
        ...

    def schema(self, table: str) -> TableSchema:
        """Return the schema of a table."""
        ...

    def folder(self, table: str) -> Path:
        """Return the folder of a table."""
        ...

    def version(self, table: str) -> Version:
        """Return the version of a table."""
        ...

    def n_rows(self, table: str) -> int:
        """Return the number of rows in the files of a table; of a table in blocks, of blocks."""
        ...

    def catalogs(self) -> list[str]:
        """Return the names of the reference catalogs."""
        ...

    def catalog(self, name: str) -> Path:
        """Return the folder of a reference catalog."""
        ...

    def require_there(self) -> None:
        """Require that no table of the snapshot has been removed."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where queries come from, in the words of the errors about them.

    Attributes
    ----------
    name : str
        What runs the queries.
    to_write, to_read, to_have_one : str
        What to do to write a result, to read another file, and why a query may have one result only.
    """

    name: str
    to_write: str
    to_read: str
    to_have_one: str


COMMAND_LINE = Door(
    "`skylake sql`",
    "write results with -o FILE, or give --unsafe",
    "name a file to read with --file, or open everything with --unsafe",
    "a file or a format other than 'table' holds one",
)


def connect(
    snapshot: ReadableSnapshot, files: Mapping[str, Sequence[Path]] | None = None
) -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB with a view per table, per catalog, and what is in ``sql/duckdb``.

    Tables in blocks are there with merged rows under their names, and block by block in the schema ``blocks``.

    The function ``skylake_snapshot()`` returns the number of the snapshot. The views ``ledger``, ``parts`` and
    ``configurations`` of a lake on disk show where the rows come from. Only the row groups and columns that a query
    needs are read.

    Parameters
    ----------
    snapshot : ReadableSnapshot
    files : mapping of str to sequence of Path, or None
        Files of some tables, to have their rows only; then there are no catalogs and no ledger.

    Raises
    ------
    LakeError
        If a file of a table is missing, has another size than it was written with, or is one too many.
    """
    connection = in_memory()
    # The connection keeps the function, and so the snapshot: a vacuum leaves alone what it reads.
    connection.create_function("skylake_snapshot", lambda: snapshot.number, [], "BIGINT")
    if is_url(snapshot.layout.root):
        # Through fsspec: DuckDB's own reader of S3 is an extension that it would have to download.
        connection.register_filesystem(unchanging_store(snapshot.layout.root))
        # Published files never change, so DuckDB need not read anything twice.
        connection.execute("SET validate_external_file_cache = 'NO_VALIDATION'")
    # DuckDB opens the files of a view when it is made, and again for each view on top of it. So the views that join
    # tables are made on tables without rows, which views of the files then replace.
    _add_empty_tables(connection, snapshot)
    add_scatter_function(connection)
    for name in ("flags", "vetoes", "views"):
        connection.execute(views(name))
    with naming_damage(snapshot.layout.root):
        _add_files(connection, snapshot, files or {})
        if files is None:
            _add_others(connection, snapshot)
        snapshot.require_there()
    return connection


def views(name: str) -> str:
    """Return the statements of a file of ``sql/duckdb``."""
    return (folder("sql") / "duckdb" / f"{name}.sql").read_text(encoding="utf-8")


def in_memory() -> duckdb.DuckDBPyConnection:
    """Return an empty DuckDB in memory, which shows no progress bars."""
    import duckdb

    connection = duckdb.connect()
    # In a notebook there are none, and DuckDB refuses the setting without ipywidgets, whatever its value.
    if connection.execute("SELECT current_setting('enable_progress_bar')").fetchall()[0][0]:
        connection.execute("SET enable_progress_bar = false")
    return connection


def restrict(
    connection: duckdb.DuckDBPyConnection, snapshot: ReadableSnapshot, files: Iterable[Path] = ()
) -> None:
    """Restrict a connection of :func:`connect` to the tables, catalogs and ledger of its snapshot.

    It loads no extension, and its settings can no longer be changed. DuckDB can write wherever it may read, so
    statements have to pass :func:`require_reading` too.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
    snapshot : ReadableSnapshot
    files : iterable of Path
        More files that may be read.
    """
    folders = [snapshot.folder(name) for name in snapshot.tables]
    folders += [snapshot.catalog(name) for name in snapshot.catalogs()]
    folders.append(snapshot.layout.ledger)
    # By their own names, and by those of what links lead to.
    paths = [one for file in files for one in (file.absolute(), file.resolve())]
    # DuckDB compares the files that it finds, and before that the pattern by which it looks for them.
    names = {name for folder in folders for name in (str(folder), plain(folder))}
    connection.execute(f"SET allowed_directories = {_texts(sorted(names))}")
    connection.execute(f"SET allowed_paths = {_texts(map(str, paths))}")
    close(connection)


def close(connection: duckdb.DuckDBPyConnection) -> None:
    """Restrict a connection to what it was given; it loads no extension, and no setting can be changed."""
    for setting in _READING:
        connection.execute(f"SET {setting}")


def require_reading(statement: duckdb.Statement, door: Door = COMMAND_LINE) -> None:
    """Refuse a statement that does not only read.

    Raises
    ------
    UsageError
        If it may write a file, change a setting or reach out of the connection in another way.
    """
    text = statement.query.strip()
    try:
        kind = statement.type.name
    except ValueError:  # one that the Python package of DuckDB has no name for
        kind = ""
    beginning = _BEGINNINGS.get(kind)
    if beginning is None or not re.match(beginning, text, re.IGNORECASE):
        first = re.match(r"\w*", text)
        raise UsageError(
            f"{first[0].upper() if first else text}: {door.name} only reads; leave the statement out, {door.to_write}"
        )
    if "copy" in text.lower() and kind not in ("SELECT", "CREATE"):
        raise _no_copy(door)


def require_no_copy(
    connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement, door: Door = COMMAND_LINE
) -> None:
    """Refuse a statement that passed :func:`require_reading` and has a COPY as a common table expression.

    The plan distinguishes a COPY from the word in a text. It can only be made once the statements before it have run.

    Raises
    ------
    UsageError
        If the statement would write a file.
    """
    if "copy" in statement.query.lower() and _copies(connection, statement.query):
        raise _no_copy(door)


def _no_copy(door: Door) -> UsageError:
    return UsageError(f"COPY: {door.name} only reads; {door.to_write}")


def _copies(connection: duckdb.DuckDBPyConnection, text: str) -> bool:
    """Return whether the plan of a statement writes files."""
    rows = connection.execute(f"EXPLAIN (FORMAT json) {text}").fetchall()
    waiting = [plan for _, value in rows for plan in json.loads(value)]
    while waiting:
        node = waiting.pop()
        if "COPY" in node["name"].upper():
            return True
        waiting += node.get("children", ())
    return False


def _add_empty_tables(connection: duckdb.DuckDBPyConnection, snapshot: ReadableSnapshot) -> None:
    """Add each table without rows; to register one of Arrow would import pandas.

    Of a table in blocks, the schema ``blocks`` has what the files have.
    """
    connection.execute(f"CREATE SCHEMA {BLOCKS}")
    for name in snapshot.tables:
        schema = snapshot.schema(name)
        _add_empty(connection, quoted(name), [schema[column] for column in schema.merged_names])
        if schema.in_blocks:
            _add_empty(connection, f"{BLOCKS}.{quoted(name)}", schema.columns)


def _add_empty(connection: duckdb.DuckDBPyConnection, name: str, columns: Sequence[Column]) -> None:
    types = ", ".join(f"{quoted(column.name)} {duckdb_type(column)}" for column in columns)
    connection.execute(f"CREATE TABLE {name} ({types})")


def _add_files(
    connection: duckdb.DuckDBPyConnection, snapshot: ReadableSnapshot, files: Mapping[str, Sequence[Path]]
) -> None:
    """Put a view in the place of each table with rows: of all of its files, or of those that are given."""
    for name in snapshot.tables:
        schema, some = snapshot.schema(name), files.get(name)
        if some is None:
            snapshot.version(name).require_files()
        if not (snapshot.n_rows(name) if some is None else some):
            continue
        connection.execute(f"DROP TABLE {quoted(name)}")
        view = f"{BLOCKS}.{quoted(name)}" if schema.in_blocks else quoted(name)
        if schema.in_blocks:
            connection.execute(f"DROP TABLE {view}")
        columns = f", schema = {duckdb_columns(schema)}"
        _view(connection, view, snapshot.folder(name), columns, some, duckdb_selection(schema))
        if schema.in_blocks:
            add_gathered(connection, schema, view)


def _add_others(connection: duckdb.DuckDBPyConnection, snapshot: ReadableSnapshot) -> None:
    """Add a view per catalog, and those of the ledger."""
    connection.execute(f"CREATE SCHEMA {CATALOGS}")
    for name in snapshot.catalogs():
        folder = catalog_folder(snapshot.catalog(name))
        if folder is not None:
            _view(connection, f"{CATALOGS}.{quoted(name)}", folder)
    if not is_url(snapshot.layout.root):
        # To look for their files would cost every connection many requests.
        add_views(
            connection,
            snapshot.layout,
            snapshot.number,
            {name: snapshot.folder(name) for name in snapshot.tables},
        )


def catalog_folder(collection: Path) -> Path | None:
    """Return the folder of a catalog itself inside its collection; None if its stars are elsewhere."""
    properties = read_collection(collection)
    return None if IN_PLACE in properties else collection / properties["hats_primary_table_url"]


def duckdb_columns(schema: TableSchema) -> str:
    """Return the columns of a table for DuckDB, which would else take those of the first file for those of all.

    It widens what is narrower in a file, and a column that a file lacks is null.
    """
    # As one text: to bind a MAP of as many expressions takes longer than to read the footer of a file.
    entries = ", ".join(
        f"{column.name}={{name: {column.name}, type: {_escaped(duckdb_type(column))}, default_value: NULL}}"
        for column in schema.columns
    )
    kind = "MAP(VARCHAR, STRUCT(name VARCHAR, type VARCHAR, default_value VARCHAR))"
    return f"{_text(f'{{{entries}}}')}::{kind}"


def duckdb_selection(schema: TableSchema) -> str:
    """Return what to select from files of a table under :func:`duckdb_columns`.

    Nested columns that files may lack are read whole: DuckDB 2.0 fails if it reads a part of one that is missing.
    """
    names = map(quoted, optional_columns(arrow_schema(schema)))
    whole = ", ".join(f"CASE WHEN {name} IS NOT NULL THEN {name} END AS {name}" for name in names)
    return f"* REPLACE ({whole})" if whole else "*"


def _escaped(text: str) -> str:
    """Return a text as it stands quoted within a text that DuckDB casts to a nested value."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def quoted(name: str) -> str:
    """Return a name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    """Return a text of SQL."""
    return "'" + value.replace("'", "''") + "'"


def _texts(values: Iterable[str]) -> str:
    """Return texts as a list of SQL."""
    return f"[{', '.join(map(_text, values))}]"


def _view(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    root: Path,
    options: str = "",
    some: Sequence[Path] | None = None,
    selection: str = "*",
) -> None:
    """Make a view of all files of a folder, or of some.

    Files in a store are named one by one. A pattern would be listed again for every query, and would give only part of
    the rows while a later publish removes the folder.
    """
    if some is not None:
        files = _named(some)
    elif is_url(root):
        files = _listed(root / "dataset")
    else:
        files = f"'{pattern(root, 'dataset/**/*.parquet')}'"
    connection.execute(
        f"CREATE VIEW {name} AS SELECT {selection} FROM read_parquet({files}, hive_partitioning = false{options})"
    )


def _listed(folder: Path) -> str:
    """Return the files below a folder of a store as a list of SQL."""
    fs, root = store(folder), key(folder)
    found = [name[len(root) + 1 :] for name in fs.find(root) if name.endswith(".parquet")]
    if not found:
        raise LakeError(
            f"{folder}: there are no files any more; open the lake again, or publish it again if that does not help"
        )
    return _named([folder / name for name in sorted(found)])


def _named(files: Sequence[Path]) -> str:
    """Return files as a list of SQL."""
    quoted = ", ".join(f"'{pattern(file.parent, file.name)}'" for file in files)
    return f"[{quoted}]"
