"""What a lake and its mirror hold, in a form that can be compared; and what must hold of it in any case."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skylake.flow.execution.cluster import Inline
from skylake.flow.maintenance.verify_lake import VerifyOptions, open_facts, verify
from skylake.lake import Lake, Snapshot
from skylake.lake.storage.parts import file_sha256
from skylake.schema import conform, load, table_names
from skylake.schema.digest import add_digests, rows_digest
from skylake.schema.schema_ddl import MIRRORED

#: (table, part) to the number of its rows and the digest of their content.
State = dict[tuple[str, str], str]


class Broken(AssertionError):
    """Something does not hold that must."""


def must(holds: bool, sentence: str) -> None:
    """Raise unless something holds."""
    if not holds:
        raise Broken(sentence)


def state_of(snapshot: Snapshot) -> State:
    """Return what a snapshot holds. Each table is read part by part, as a whole, and by DuckDB: all must agree."""
    state: State = {}
    with snapshot.duckdb() as connection:
        for table in table_names():
            digests, count = [], 0
            for name in snapshot.parts(table):
                rows = snapshot.read_part(table, name)
                digests.append(rows_digest(rows))
                count += rows.num_rows
                state[table, name] = f"{rows.num_rows} {digests[-1]}"
            whole = snapshot.read(table)
            must(rows_digest(whole) == add_digests(digests), f"{table} is not the sum of its parts")
            ((seen,),) = connection.sql(f'SELECT count(*) FROM "{table}"').fetchall()
            counts = {count, whole.num_rows, seen, snapshot.n_rows(table)}
            must(len(counts) == 1, f"{table} has {counts} rows, as it is read one way or another")
    return state


def tables_of(snapshot: Snapshot) -> dict[str, str]:
    """Return the digest of the rows of each table; files of a store are slow to be read part by part."""
    return {table: rows_digest(snapshot.read(table)) for table in table_names()}


def learned(lake: Lake) -> dict[str, str]:
    """Return what is learned of the cameras of a lake, by file: the digest of its rows. Each must be readable."""
    folder = lake.layout.root / "_cameras"
    try:
        return {path.name: rows_digest(pq.read_table(path)) for path in sorted(folder.glob("[!.]*.parquet"))}
    except (OSError, pa.ArrowException) as error:
        raise Broken(f"what was learned of a camera cannot be read: {error}") from error


def broken_rules(snapshot: Snapshot) -> set[str]:
    """Return the names of the checks of ``skylake verify`` that find something."""
    return set(findings(snapshot))


def findings(snapshot: Snapshot) -> dict[str, list[str]]:
    """Return what the checks of ``skylake verify`` find, by their names."""
    options = VerifyOptions(as_of=str(snapshot.number))
    checks = verify(open_facts(snapshot.layout.root, options), Inline(), options).checks
    return {check["name"]: [str(one) for one in check["findings"]] for check in checks if not check["passed"]}


def fits(seen: State, published: Sequence[State]) -> bool:
    """Tell whether a state can be one between commits, and not in the midst of one.

    Commits of different nights may come in any order, where workers make them. So what one commit of the
    undisturbed run changes must stand, all of it, as in one of the published states.
    """
    keys = set().union(*published)
    if not seen.keys() <= keys:
        return False
    touched: set[tuple[str, str]] = set()
    for before, after in itertools.pairwise(published):
        changed = {key for key in keys if before.get(key) != after.get(key)}
        touched |= changed
        if not any(all(seen.get(key) == one.get(key) for key in changed) for one in published):
            return False
    return all(seen.get(key) == published[0].get(key) for key in keys - touched)


def litter(lake: Lake) -> list[str]:
    """Return what lies in the folders of a lake and belongs to none of its snapshots."""
    layout, current = lake.layout, lake.snapshot().number
    needed = {
        (snapshot / table).resolve() for snapshot in layout.snapshots.iterdir() for table in table_names()
    }
    found = [path for path in layout.versions_of_tables() if path.resolve() not in needed]
    found += list(layout.staging.iterdir()) if layout.staging.is_dir() else []
    found += [path for path in layout.snapshots.iterdir() if not _is_of(path.name, current)]
    records = [path for path in layout.ledger.iterdir() if path != layout.configurations]
    found += [path for path in records if not _is_of(path.stem, current)]
    found += [path for path in layout.root.iterdir() if path.name.startswith(".")]
    found += [path for path in (layout.root / "_versions").glob("*/*") if not path.name.isdigit()]
    return sorted(str(path.relative_to(layout.root)) for path in found)


def store_litter(url: str) -> list[str]:
    """Return the objects of a published lake that no snapshot needs, or that are not as the lists of them tell."""
    from skylake.lake.published_layout import PublishedLayout
    from skylake.places import key, place, store
    from skylake.sky.hats import OBJECTS, objects_of

    layout = PublishedLayout(place(url))
    fs, root = store(layout.root), Path(key(layout.root))
    publications = [layout.publication(number) for number in layout.published()]
    found = {Path(name) for folder in ("_versions", "_unfinished") for name in fs.find(str(root / folder))}
    whole = set()
    for folder in {folder for one in publications for folder in one.tables.values()}:
        whole.add(root / folder / OBJECTS)
        for path, (_, sha256) in objects_of((root / folder / OBJECTS).read_bytes()).items():
            if file_sha256(root / folder / path) == sha256:
                whole.add(root / folder / path)
    return sorted(str(path.relative_to(root)) for path in found - whole)


def _is_of(name: str, current: int) -> bool:
    return name.isdigit() and int(name) <= current


def mirrored(lake: Lake) -> tuple[int | None, dict[str, str]]:
    """Return which snapshot the embedded mirror says it shows, and the digests of its tables; starts the server."""
    import psycopg

    from skylake.mirror import EmbeddedServer, Mirror

    with EmbeddedServer(lake.layout.database) as server:
        number = Mirror(server.url).snapshot()
        if number is None:
            return None, {}
        with psycopg.connect(server.libpq_url) as connection:
            return number, {table: rows_digest(_rows(connection, table)) for table in MIRRORED}


def _rows(connection: Any, table: str) -> pa.Table:
    schema = load(table)
    names = list(schema.flat_names)
    quoted = ", ".join(f'"{name}"' for name in names)
    rows = connection.execute(f'SELECT {quoted} FROM "{table}"').fetchall()
    columns = [list(values) for values in zip(*rows, strict=True)] or [[] for _ in names]
    return conform(pa.table(dict(zip(names, map(pa.array, columns), strict=True))), schema)


def small_tables(snapshot: Snapshot) -> dict[str, str]:
    """Return what :func:`mirrored` is to be."""
    return {table: rows_digest(snapshot.read(table)) for table in MIRRORED}
