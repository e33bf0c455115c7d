"""The ledger and the descriptions of parts as views of DuckDB, read only when a query asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from skylake.lake.layout import PARTS_FOLDER
from skylake.lake.storage.bundles import BUNDLES_FOLDER

if TYPE_CHECKING:
    import duckdb

    from skylake.lake.commits.snapshot import Snapshot

_INPUTS = "MAP(VARCHAR, VARCHAR)"
_RECORD = {
    "snapshot": "BIGINT",
    "time_utc": "VARCHAR",
    "stage": "VARCHAR",
    "batch": "VARCHAR",
    "software_version": "VARCHAR",
    "host": "VARCHAR",
    "replaced": "MAP(VARCHAR, MAP(VARCHAR, STRUCT(rows BIGINT, checksum VARCHAR, "
    f"inputs {_INPUTS}, inputs_sha256 VARCHAR, configuration_sha256 VARCHAR, software_version VARCHAR)))",
    "removed": "MAP(VARCHAR, VARCHAR[])",
    "merged": "MAP(VARCHAR, MAP(VARCHAR, STRUCT(rows BIGINT, parts BIGINT)))",
    "loosened": "MAP(VARCHAR, VARCHAR[])",
}
_PART = {
    "name": "VARCHAR",
    "camera": "VARCHAR",
    "night": "INTEGER",
    "n_rows": "BIGINT",
    "checksum": "VARCHAR",
    "inputs": _INPUTS,
    "software_version": "VARCHAR",
    "schema_sha256": "VARCHAR",
}
_LEDGER = """
CREATE VIEW ledger AS
WITH records AS (SELECT * FROM {source} WHERE snapshot <= {number}),
changes AS (
    SELECT snapshot, tables.key AS table_name, part.key AS part, 'replaced' AS action, part.value.rows AS rows,
        part.value.checksum AS checksum, part.value.inputs AS inputs,
        part.value.inputs_sha256 AS inputs_sha256,
        coalesce(part.value.configuration_sha256, part.value.inputs['configuration']) AS configuration_sha256,
        coalesce(part.value.software_version, software_version) AS software_version
    FROM (SELECT snapshot, software_version, unnest(map_entries(replaced)) AS tables FROM records),
        unnest(map_entries(tables.value)) AS parts(part)
    UNION ALL BY NAME
    SELECT snapshot, tables.key AS table_name, part.key AS part, 'merged' AS action, part.value.rows AS rows,
        software_version
    FROM (SELECT snapshot, software_version, unnest(map_entries(merged)) AS tables FROM records),
        unnest(map_entries(tables.value)) AS parts(part)
    UNION ALL BY NAME
    SELECT snapshot, tables.key AS table_name, unnest(tables.value) AS part, action, software_version
    FROM (
        SELECT snapshot, software_version, 'removed' AS action, unnest(map_entries(removed)) AS tables FROM records
        UNION ALL
        SELECT snapshot, software_version, 'loosened', unnest(map_entries(loosened)) FROM records
    )
)
SELECT r.snapshot, CAST(r.time_utc AS TIMESTAMP) AS time_utc, r.stage, r.batch,
    c.table_name, c.part, c.action, c.rows, c.checksum, to_json(c.inputs) AS inputs,
    c.inputs_sha256, c.configuration_sha256,
    coalesce(c.software_version, r.software_version) AS software_version, r.host
FROM records AS r
LEFT JOIN changes AS c USING (snapshot)
"""
_PARTS = """
SELECT '{table}' AS table_name, name AS part, camera, night, n_rows AS rows, checksum, to_json(inputs) AS inputs,
    inputs['configuration'] AS configuration_sha256, software_version, schema_sha256, {bundle} AS bundle
FROM {source}
WHERE inputs IS NOT NULL
"""
_CONFIGURATIONS = """
CREATE VIEW configurations AS
SELECT parse_filename(filename, true) AS sha256, content::JSON AS configuration
FROM {source}
"""


def add_views(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
    """Add the views ``ledger``, ``parts`` and ``configurations`` of a snapshot to a connection."""
    layout = snapshot.layout
    source = _read(layout.ledger, "[0-9]*.json", _RECORD, "unstructured")
    connection.execute(_LEDGER.format(source=source, number=snapshot.number))
    pieces = [piece for table in snapshot.tables for piece in _pieces(table, snapshot.folder(table))]
    connection.execute(f"CREATE VIEW parts AS {' UNION ALL '.join(pieces)}")
    found = any(layout.configurations.glob("*.json"))
    nothing = "(SELECT '' AS filename, '{}' AS content WHERE false)"
    source = f"read_text('{pattern(layout.configurations, '*.json')}')" if found else nothing
    connection.execute(_CONFIGURATIONS.format(source=source))


def _pieces(table: str, root: Path) -> list[str]:
    """Return the queries over the parts of a table: those with files of their own, and members of bundles."""
    return [
        _PARTS.format(
            table=table, bundle=bundle, source=_read(root / folder, "*.json", _PART, form, "filename")
        )
        for folder, form, bundle in (
            (PARTS_FOLDER, "unstructured", "NULL"),
            (BUNDLES_FOLDER, "newline_delimited", "parse_filename(filename, true)"),
        )
    ]


def _read(folder: Path, names: str, columns: dict[str, str], form: str, more: str = "") -> str:
    """Return the expression that reads JSON files; it gives no rows where there are none, which DuckDB refuses."""
    if not any(folder.glob(names)):
        typed = [f"NULL::{kind} AS {name}" for name, kind in columns.items()]
        typed += [f"NULL::VARCHAR AS {more}"] if more else []
        return f"(SELECT {', '.join(typed)} WHERE false)"
    typed = [f"{name}: '{kind}'" for name, kind in columns.items()]
    options = f"format = '{form}', columns = {{{', '.join(typed)}}}{', filename = true' if more else ''}"
    return f"read_json('{pattern(folder, names)}', {options})"


def pattern(folder: Path, names: str) -> str:
    """Return the pattern of some files of a folder, quoted for SQL; the name of the folder is taken literally."""
    return f"{plain(folder)}/{names}".replace("'", "''")


def plain(folder: Path) -> str:
    """Return a folder as a pattern that it alone fits."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(folder))
