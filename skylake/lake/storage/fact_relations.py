"""The schemas of the relations of physical facts that the checks of ``sql/checks`` query with SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

_TEXT, _COUNT, _YES, _WORD = pa.string(), pa.int64(), pa.bool_(), pa.uint64()

#: Exceptions that a damaged description may raise.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError)
#: Columns of every relation. A `problem` says in words what is wrong, and is null where nothing is.
RELATIONS: dict[str, dict[str, pa.DataType]] = {
    # Links at the root of the lake.
    "pointers": {"link": _TEXT, "target": _TEXT, "wanted": _TEXT, "problem": _TEXT},
    "snapshots": {"snapshot": _COUNT, "is_current": _YES, "is_verified": _YES},
    "snapshot_tables": {
        "snapshot": _COUNT,
        "table_name": _TEXT,
        "target": _TEXT,
        "is_verified": _YES,
        "problem": _TEXT,
    },
    "ledger": {
        "snapshot": _COUNT,
        "record": _COUNT,
        "base": _COUNT,
        "time_utc": _TEXT,
        "stage": _TEXT,
        "batch": _TEXT,
    },
    # Every small file that describes something.
    "documents": {"path": _TEXT, "kind": _TEXT, "table_name": _TEXT, "problem": _TEXT},
    "cameras": {"camera": _TEXT},
    # Schemas under which files may have been written.
    "schemas": {"table_name": _TEXT, "version": _COUNT, "schema_sha256": _TEXT},
    # Of the snapshot that is verified: the version of each table, and what its metadata say.
    "lake_tables": {
        "table_name": _TEXT,
        "kind": _TEXT,
        "folder": _TEXT,
        "n_rows_recorded": _COUNT,
        "schema_recorded": _TEXT,
        "schema_common": _TEXT,
        "has_metadata": _YES,
    },
    "pixels": {"table_name": _TEXT, "norder": _COUNT, "npix": _COUNT, "is_listed": _YES, "n_files": _COUNT},
    "metadata_files": {"table_name": _TEXT, "path": _TEXT, "n_rows": _COUNT},
    # From the descriptions: parts, bundles, the rows of parts in files, and whole files.
    "lake_parts": {
        "table_name": _TEXT,
        "part": _TEXT,
        "camera": _TEXT,
        "night": _COUNT,
        "batch_key": _TEXT,
        "n_rows": _COUNT,
        "checksum": _WORD,
        "frames_checksum": _WORD,
        "software_version": _TEXT,
        "schema_sha256": _TEXT,
        "bundle": _TEXT,
        "document": _TEXT,
    },
    "lake_bundles": {
        "table_name": _TEXT,
        "bundle": _TEXT,
        "level": _COUNT,
        "n_named": _COUNT,
        "n_members": _COUNT,
        "n_rows": _COUNT,
        "checksum": _WORD,
        "document": _TEXT,
    },
    "part_files": {
        "table_name": _TEXT,
        "part": _TEXT,
        "path": _TEXT,
        "n_rows": _COUNT,
        "digest": _WORD,
        "bundle": _TEXT,
    },
    "lake_files": {
        "table_name": _TEXT,
        "path": _TEXT,
        "kind": _TEXT,
        "owner": _TEXT,
        "camera": _TEXT,
        "night": _COUNT,
        "n_rows": _COUNT,
        "n_bytes": _COUNT,
        "sha256": _TEXT,
        "digest": _WORD,
        "schema_sha256": _TEXT,
        "norder": _COUNT,
        "npix": _COUNT,
        "index_from": _COUNT,
        "index_to": _COUNT,
    },
    # From the disk: sizes and footers.
    "disk_files": {
        "table_name": _TEXT,
        "path": _TEXT,
        "n_bytes": _COUNT,
        "n_rows": _COUNT,
        "n_row_groups": _COUNT,
        "schema_sha256": _TEXT,
        "drift": _TEXT,
        "index_min": _COUNT,
        "index_max": _COUNT,
        "has_statistics": _YES,
        "problem": _TEXT,
    },
    "lake_catalogs": {
        "catalog": _TEXT,
        "folder": _TEXT,
        "n_rows_recorded": _COUNT,
        "n_rows": _COUNT,
        "n_files": _COUNT,
        "is_listed": _YES,
        "problem": _TEXT,
    },
    # Files of catalogs: as they were imported, and as they are there.
    "catalog_files": {
        "catalog": _TEXT,
        "file": _TEXT,
        "n_bytes_recorded": _COUNT,
        "sha256": _TEXT,
        "n_bytes": _COUNT,
    },
    # Files of masters, relative to the lake.
    "master_files": {"file": _TEXT, "n_bytes": _COUNT},
    # From reading every row: `verify --deep`.
    "file_scans": {
        "table_name": _TEXT,
        "path": _TEXT,
        "sha256": _TEXT,
        "n_rows": _COUNT,
        "n_foreign": _COUNT,
        "n_outside": _COUNT,
        "n_misplaced": _COUNT,
        "n_unsorted": _COUNT,
        "problem": _TEXT,
    },
    "part_scans": {"table_name": _TEXT, "path": _TEXT, "part": _TEXT, "n_rows": _COUNT, "digest": _WORD},
    "nan_scans": {"table_name": _TEXT, "path": _TEXT, "column_name": _TEXT, "n_nan": _COUNT},
    "statistics_scans": {
        "table_name": _TEXT,
        "path": _TEXT,
        "row_group": _COUNT,
        "column_name": _TEXT,
        "stated": _TEXT,
        "found": _TEXT,
    },
    "master_scans": {"file": _TEXT, "sha256": _TEXT},
    "catalog_scans": {"file": _TEXT, "sha256": _TEXT, "problem": _TEXT},
    "index_scans": {"catalog": _TEXT, "file": _TEXT, "problem": _TEXT},
    # From the validation by the hats package: `verify --hats`.
    "hats_validations": {"name": _TEXT, "folder": _TEXT, "problem": _TEXT},
}


@dataclass(slots=True)
class Relations:
    """Rows of the relations, gathered one by one."""

    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=lambda: {name: [] for name in RELATIONS})

    def add(self, relation: str, **values: Any) -> None:
        """Add a row; columns that are not named are null."""
        self.rows[relation].append(tuple(values.pop(name, None) for name in RELATIONS[relation]))
        if values:
            raise KeyError(f"{relation} has no column {min(values)}")

    def extend(self, relation: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add rows with a value for every column."""
        self.rows[relation] += rows

    def problem(self, path: str, kind: str, problem: object, table_name: str | None = None) -> None:
        """Note a document that cannot be read or understood."""
        text = problem if isinstance(problem, str) else f"{type(problem).__name__}: {problem}"
        self.add("documents", path=path, kind=kind, table_name=table_name, problem=text)

    def values(self, relation: str, *columns: str) -> list[tuple[Any, ...]]:
        """Return some columns of the rows added so far."""
        names = list(RELATIONS[relation])
        places = [names.index(column) for column in columns]
        return [tuple(row[place] for place in places) for row in self.rows[relation]]

    def table(self, relation: str) -> pa.Table:
        """Return a relation as Arrow."""
        columns: Sequence[Sequence[Any]] = list(zip(*self.rows[relation], strict=True))
        kinds = RELATIONS[relation]
        arrays = [
            pa.array(column, kind)
            for column, kind in zip(columns or [()] * len(kinds), kinds.values(), strict=True)
        ]
        return pa.table(arrays, names=list(kinds))
