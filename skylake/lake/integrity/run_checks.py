"""Verify a lake: run the checks of ``sql/checks`` over its facts and its tables.

Nothing here writes to the lake. Damaged files are reported by the checks for them, and left out by all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skylake.lake.access.duckdb_tables import duckdb_columns, duckdb_selection, in_memory
from skylake.lake.integrity.check_queries import Check, CheckOutcome, fill, load_checks, run_check
from skylake.lake.integrity.lake_facts import Facts
from skylake.lake.integrity.repairs import Repairs
from skylake.lake.integrity.scan_files import RecordedFile
from skylake.lake.storage.fact_relations import RELATIONS
from skylake.lake.storage.parts import Key
from skylake.schema import empty_table, load
from skylake.scratch import scratch_folder
from skylake.sky.hats import pixel_of

if TYPE_CHECKING:
    import duckdb

Files = Mapping[str, tuple[str, ...]]
"""Paths of the files of each table that can be read."""

#: Memory of DuckDB in a worker; larger intermediate results go to a temporary folder.
_MEMORY = "2GB"
#: Rows of the largest table in a share.
_SHARE_ROWS = 10_000_000
#: Rows read by the checks that share a connection; opening one takes as long as reading some 100,000 rows.
_CONNECTION_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class Share:
    """A check of the rows in which a column has certain values.

    Attributes
    ----------
    check : Check
    files : mapping
        Files of the tables that the check reads.
    number, count : int
        Number of the share and of all shares; a row belongs to the share whose number is its value modulo the count.
    n_rows : int
        Rows that are read for it, of all tables.
    show : int
        Offending rows to return at most.
    """

    check: Check
    files: Files
    number: int
    count: int
    n_rows: int
    show: int


def readable_files(facts: Facts) -> dict[str, tuple[str, ...]]:
    """Return the files of each table that seem readable: neither foreign nor broken."""
    relations = facts.relations
    recorded = set(relations.values("lake_files", "table_name", "path"))
    recorded -= {
        (table, path)
        for table, path, problem in relations.values("file_scans", "table_name", "path", "problem")
        if problem is not None
    }
    columns = ("table_name", "path", "n_rows", "problem", "drift")
    paths_of_tables: dict[str, list[str]] = {}
    for table, path, n_rows, problem, drift in sorted(relations.values("disk_files", *columns), key=_place):
        if (table, path) in recorded and n_rows and problem is None and drift is None:
            paths_of_tables.setdefault(table, []).append(str(facts.folders[table] / path))
    return {table: tuple(paths) for table, paths in paths_of_tables.items()}


def _place(row: Sequence[Any]) -> tuple[str, str]:
    return str(row[0]), str(row[1])


def recorded_files(facts: Facts) -> list[RecordedFile]:
    """Return every existing file, with what the descriptions say of it."""
    relations = facts.relations
    keys: dict[tuple[str, str], Key] = {}
    for table, part, text in relations.values("lake_parts", "table_name", "part", "batch_key"):
        keys[table, part] = _key(text)
    members: dict[tuple[str, str], list[tuple[str, Key]]] = {}
    for table, part, path in relations.values("part_files", "table_name", "part", "path"):
        members.setdefault((table, path), []).append((part, keys[table, part]))
    readable = {
        (table, path)
        for table, path, problem in relations.values("disk_files", "table_name", "path", "problem")
        if problem is None
    }
    places = sorted(set(relations.values("lake_files", "table_name", "path")) & readable)
    return [
        RecordedFile(table, path, facts.folders[table], tuple(members.get((table, path), ())), pixel_of(path))
        for table, path in places
    ]


def _key(text: str) -> Key:
    import json

    return tuple(json.loads(text).items())


@contextmanager
def connect(
    files: Files, tables: Sequence[str], share: tuple[str, int, int] | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a DuckDB with views of some tables, or of a share of their rows; it spills to a folder of its own."""
    with scratch_folder("verify") as spill, in_memory() as connection:
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(f"SET memory_limit = '{_MEMORY}'")
        connection.execute(f"SET temp_directory = '{_text(str(spill))}'")
        if share is not None:
            connection.execute("SET threads = 1")
        for name in tables:
            _add_view(connection, name, files.get(name, ()), share)
        yield connection


def _add_view(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    paths: Sequence[str],
    share: tuple[str, int, int] | None,
) -> None:
    if not paths:
        connection.register(name, empty_table(load(name)))
        return
    listed = ", ".join(f"'{_text(_plain(path))}'" for path in paths)
    chosen = ""
    if share is not None and share[0] in load(name).names:
        chosen = f" WHERE {share[0]} % {share[2]} = {share[1]}"
    connection.execute(
        f'CREATE VIEW "{name}" AS SELECT {duckdb_selection(load(name))} '
        f"FROM read_parquet([{listed}], hive_partitioning = false, "
        f"schema = {duckdb_columns(load(name))}){chosen}"
    )


def _plain(path: str) -> str:
    """Return a path in which DuckDB sees no pattern."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def _text(value: str) -> str:
    return value.replace("'", "''")


def chosen_checks(names: Sequence[str], deep: bool, hats: bool) -> list[Check]:
    """Return the checks to run: those of files and metadata before those that read tables."""
    kinds = {"fast"} | ({"deep", "hats"} if deep else set()) | ({"hats"} if hats else set())
    checks = [check for check in load_checks() if (check.name in names if names else check.kind in kinds)]
    return sorted(checks, key=lambda check: (check.share is not None, bool(check.tables)))


def run_checks(facts: Facts, checks: Sequence[Check], files: Files, show: int) -> Iterator[CheckOutcome]:
    """Run checks that need no shares, one after the other."""
    tables = sorted({name for check in checks for name in check.tables})
    with connect(files, tables) as connection:
        for relation in RELATIONS:
            connection.register(relation, facts.relations.table(relation))
        for check in checks:
            yield run_check(connection, check, show)


def shares_of(facts: Facts, check: Check, files: Files, show: int) -> list[Share]:
    """Return the shares in which a check is run, so many that memory is bounded."""
    counts: dict[str, int] = {}
    for table, n_rows in facts.relations.values("lake_files", "table_name", "n_rows"):
        counts[table] = counts.get(table, 0) + n_rows
    count = max(1, *(-(-counts.get(table, 0) // _SHARE_ROWS) for table in check.tables))
    n_rows = sum(counts.get(table, 0) for table in check.tables) // count
    own = {table: files[table] for table in check.tables if table in files}
    return [Share(check, own, number, count, n_rows, show) for number in range(count)]


def together(shares: Sequence[Share]) -> list[list[Share]]:
    """Return shares in groups that a worker runs on one connection: with the same rows of each table, and few rows."""
    groups: list[list[Share]] = []
    for share in sorted(shares, key=lambda share: (share.check.share or "", share.number, share.count)):
        first = groups[-1][0] if groups else share
        same = (first.check.share, first.number, first.count) == (
            share.check.share,
            share.number,
            share.count,
        )
        n_rows = sum(group.n_rows for group in groups[-1]) + share.n_rows if groups else 0
        if groups and same and n_rows <= _CONNECTION_ROWS:
            groups[-1].append(share)
        else:
            groups.append([share])
    return groups


def run_shares(shares: Sequence[Share]) -> list[CheckOutcome]:
    """Run checks on the same share of the rows; runs on a worker."""
    first = shares[0]
    chosen = (first.check.share or "", first.number, first.count)
    files = {table: paths for share in shares for table, paths in share.files.items()}
    tables = sorted({table for share in shares for table in share.check.tables})
    with connect(files, tables, chosen) as connection:
        return [run_check(connection, share.check, share.show) for share in shares]


def findings(facts: Facts, outcome: CheckOutcome) -> list[dict[str, str]]:
    """Return what a check found, in words, and the command that repairs each."""
    repairs = Repairs(facts)
    results = []
    for row in outcome.rows:
        asked = repairs.of(row)
        check = outcome.check
        results.append({"says": fill(check.says, row, asked), "repair": fill(check.repair, row, asked)})
    if outcome.error is not None:
        says = f"the check could not be made: {outcome.error}"
        results.append({"says": says, "repair": "repair what the other checks find, then verify again"})
    return results
