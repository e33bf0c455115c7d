"""DuckDB over the tables of a snapshot, by their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from skylake.errors import LakeError
from skylake.lake.damage import named_in
from skylake.lake.provenance import add_views, pattern
from skylake.lake.remote import PublishedSnapshot
from skylake.places import is_url, key, store
from skylake.resources import folder
from skylake.schema import Column, TableSchema, empty_table, load, table_names
from skylake.sky.hats import read_collection

if TYPE_CHECKING:
    import duckdb

    from skylake.lake.snapshot import Snapshot

#: Schema of the views of reference catalogs.
CATALOGS = "catalogs"
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


def connect(snapshot: Snapshot) -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB with a view per table, per catalog, and what is in ``sql/duckdb``.

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


def _add_tables(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
    """Add a view per table and per catalog, and those of the ledger."""
    for name in table_names():
        root = snapshot.folder(name)
        snapshot.version(name).require_files()
        if snapshot.n_rows(name):
            _view(connection, f'"{name}"', root, f", schema = MAP {{{duckdb_columns(load(name))}}}")
        else:
            connection.register(name, empty_table(load(name)))
    connection.execute(f"CREATE SCHEMA {CATALOGS}")
    for name in snapshot.catalogs():
        _view(connection, f'{CATALOGS}."{name}"', catalog_folder(snapshot.catalog(name)))
    if not is_url(snapshot.layout.root):
        # To look for their files would cost every connection many requests.
        add_views(connection, snapshot)
    if isinstance(snapshot, PublishedSnapshot):
        snapshot.require_there()


def catalog_folder(collection: Path) -> Path:
    """Return the folder of a catalog itself inside its collection."""
    return collection / read_collection(collection)["hats_primary_table_url"]


def duckdb_columns(schema: TableSchema) -> str:
    """Return the columns of a table for DuckDB, which would else take those of the first file for those of all.

    It widens what is narrower in a file, and a column that a file lacks is null.
    """
    return ", ".join(
        f"'{column.name}': {{name: '{column.name}', type: '{_type(column)}', default_value: NULL}}"
        for column in schema.columns
    )


def _type(column: Column) -> str:
    if column.columns:
        return f"STRUCT({', '.join(f'{_quoted(inner.name)} {_type(inner)}[]' for inner in column.columns)})"
    return _TYPES[column.datatype]


def _quoted(name: str) -> str:
    return f'"{name}"'


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
