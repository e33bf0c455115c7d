"""DuckDB over the tables of a snapshot, by their names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from skylake.errors import LakeError, UsageError
from skylake.lake.gather import BLOCKS, add_gathered, duckdb_type
from skylake.lake.integrity.damaged_files import named_in
from skylake.lake.remote.published_lake import PublishedSnapshot
from skylake.lake.storage.ledger_views import add_views, pattern, plain
from skylake.places import is_url, key, store
from skylake.resources import folder
from skylake.schema import TableSchema, empty_table
from skylake.sky.hats import read_collection

if TYPE_CHECKING:
    import duckdb

    from skylake.lake.commits.snapshot import Snapshot

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
_NO_COPY = "COPY: `skylake sql` only reads; write results with -o FILE, or give --unsafe"
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


def connect(snapshot: Snapshot) -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB with a view per table, per catalog, and what is in ``sql/duckdb``.

    Tables in blocks are there with merged rows under their names, and block by block in the schema ``blocks``.

    The function ``skylake_snapshot()`` tells its number. The views ``ledger``, ``parts`` and ``configurations`` of
    a lake on disk tell where the rows come from. Only the row groups and columns that a query needs are read.

    Raises
    ------
    LakeError
        If a file of a table is missing, has another size than it was written with, or is one too many.
    """
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    # The connection keeps the function, and so the snapshot: a vacuum leaves alone what it reads.
    connection.create_function("skylake_snapshot", lambda: snapshot.number, [], "BIGINT")
    if is_url(snapshot.layout.root):
        # Through fsspec: DuckDB's own reader of S3 is an extension that it would have to download.
        connection.register_filesystem(store(snapshot.layout.root))
        # What was published never changes: what DuckDB has read once it need not read again.
        connection.execute("SET validate_external_file_cache = 'NO_VALIDATION'")
    try:
        _add_tables(connection, snapshot)
    except duckdb.Error as error:
        if damage := named_in(error, snapshot.layout.root):
            raise damage from error
        raise
    for name in ("flags", "views"):
        connection.execute((folder("sql") / "duckdb" / f"{name}.sql").read_text(encoding="utf-8"))
    return connection


def restrict(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot, files: Iterable[Path] = ()) -> None:
    """Let a connection of :func:`connect` reach nothing but the tables, catalogs and ledger of its snapshot.

    It loads no extension, and no setting of it can be changed any more. DuckDB would write where it may read, so
    statements have to pass :func:`require_reading` too.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
    snapshot : Snapshot
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
    """Let a connection reach nothing but what it was given, load no extension, and change no setting any more."""
    for setting in _READING:
        connection.execute(f"SET {setting}")


def require_reading(statement: duckdb.Statement) -> None:
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
            f"{first[0].upper() if first else text}: `skylake sql` only reads; leave the statement out, write results "
            "with -o FILE, or give --unsafe"
        )
    if "copy" in text.lower() and kind not in ("SELECT", "CREATE"):
        raise UsageError(_NO_COPY)


def require_no_copy(connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> None:
    """Refuse a statement that passed :func:`require_reading` and has a COPY as a common table expression.

    The plan tells it from the word in a text. It can be made only when what stands before the statement has run.

    Raises
    ------
    UsageError
        If the statement would write a file.
    """
    if "copy" in statement.query.lower() and _copies(connection, statement.query):
        raise UsageError(_NO_COPY)


def _copies(connection: duckdb.DuckDBPyConnection, text: str) -> bool:
    """Tell whether the plan of a statement writes files."""
    rows = connection.execute(f"EXPLAIN (FORMAT json) {text}").fetchall()
    waiting = [plan for _, value in rows for plan in json.loads(value)]
    while waiting:
        node = waiting.pop()
        if "COPY" in node["name"].upper():
            return True
        waiting += node.get("children", ())
    return False


def _add_tables(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
    """Add a view per table and per catalog, and those of the ledger."""
    connection.execute(f"CREATE SCHEMA {BLOCKS}")
    for name in snapshot.tables:
        _add_table(connection, snapshot, snapshot.schema(name))
    connection.execute(f"CREATE SCHEMA {CATALOGS}")
    for name in snapshot.catalogs():
        _view(connection, f"{CATALOGS}.{_quoted(name)}", catalog_folder(snapshot.catalog(name)))
    if not is_url(snapshot.layout.root):
        # To look for their files would cost every connection many requests.
        add_views(connection, snapshot)
    if isinstance(snapshot, PublishedSnapshot):
        snapshot.require_there()


def _add_table(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot, schema: TableSchema) -> None:
    """Add the view of a table; of one in blocks, the view of merged rows, and that of its blocks."""
    snapshot.version(schema.name).require_files()
    files = f"{BLOCKS}.{_quoted(schema.name)}" if schema.in_blocks else _quoted(schema.name)
    if snapshot.n_rows(schema.name):
        options = f", schema = MAP {{{duckdb_columns(schema)}}}"
        _view(connection, files, snapshot.folder(schema.name), options)
    elif schema.in_blocks:
        empty = ", ".join(f"NULL::{duckdb_type(one)} AS {_quoted(one.name)}" for one in schema.columns)
        connection.execute(f"CREATE VIEW {files} AS SELECT {empty} WHERE false")
    else:
        connection.register(schema.name, empty_table(schema))
    if schema.in_blocks:
        add_gathered(connection, schema, files)


def catalog_folder(collection: Path) -> Path:
    """Return the folder of a catalog itself inside its collection."""
    return collection / read_collection(collection)["hats_primary_table_url"]


def duckdb_columns(schema: TableSchema) -> str:
    """Return the columns of a table for DuckDB, which would else take those of the first file for those of all.

    It widens what is narrower in a file, and a column that a file lacks is null.
    """
    return ", ".join(
        f"'{column.name}': {{name: '{column.name}', type: '{duckdb_type(column)}', default_value: NULL}}"
        for column in schema.columns
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _texts(values: Iterable[str]) -> str:
    """Return texts as a list of SQL."""
    quoted = (value.replace("'", "''") for value in values)
    return "[" + ", ".join(f"'{value}'" for value in quoted) + "]"


def _view(connection: duckdb.DuckDBPyConnection, name: str, root: Path, options: str = "") -> None:
    """Make a view of all files of a folder.

    Of a store they are named one by one. A pattern would be listed anew for every query, and while a later publish
    removes the folder that gives the rows of what is left.
    """
    files = _listed(root / "dataset") if is_url(root) else f"'{pattern(root, 'dataset/**/*.parquet')}'"
    connection.execute(
        f"CREATE VIEW {name} AS SELECT * FROM read_parquet({files}, hive_partitioning = false{options})"
    )


def _listed(folder: Path) -> str:
    """Return the files below a folder of a store as a list of SQL."""
    fs, root = store(folder), key(folder)
    found = [name[len(root) + 1 :] for name in fs.find(root) if name.endswith(".parquet")]
    if not found:
        raise LakeError(
            f"{folder}: there are no files any more; open the lake again, or publish it again if that does not help"
        )
    quoted = ", ".join(f"'{pattern(folder, name)}'" for name in sorted(found))
    return f"[{quoted}]"
