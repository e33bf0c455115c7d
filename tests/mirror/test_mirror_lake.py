"""Which lake a mirror is of: many lakes share a server, and none replaces another."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from skylake.errors import MirrorError
from skylake.lake import Lake
from skylake.mirror import EmbeddedServer, Mirror
from skylake.mirror.mirror_lake import mirror_lake

pytestmark = pytest.mark.full
Connection = psycopg.Connection[Any]
Rows = Callable[..., pa.Table]


@pytest.fixture
def server(embedded: EmbeddedServer) -> EmbeddedServer:
    """One PostgreSQL is enough here."""
    return embedded


@pytest.fixture
def make_lake(tmp_path: Path, put: Any, make_rows: Rows) -> Callable[[str, int], Lake]:
    """A function (name, number of frames) that makes a lake with the frames of one night."""

    def make(name: str, n_frames: int) -> Lake:
        lake = Lake.create(tmp_path / name)
        put(lake, ("frames", "sim-20260110", make_rows("frames", n_frames, camera="sim", night=20260110)))
        return lake

    return make


def n_frames(connection: Connection, schema: str) -> int:
    [(number,)] = connection.execute(sql.SQL("SELECT count(*) FROM {}.frames").format(sql.Identifier(schema)))
    return int(number)


def test_a_second_lake_is_refused_and_has_a_schema_of_its_own(
    server: EmbeddedServer, namespace: str, connection: Connection, make_lake: Callable[[str, int], Lake]
) -> None:
    north, south = make_lake("north", 3), make_lake("south", 5)
    assert mirror_lake(north, server.url, namespace).outcome.n_rows_copied == 3
    for as_of in (None, "1"):
        with pytest.raises(MirrorError, match=f"another lake \\(snapshot 2 of {north.root}\\)") as refused:
            mirror_lake(south, server.url, namespace, as_of=as_of)
        assert n_frames(connection, namespace) == 3
    assert re.findall(r"with (--\w+)", str(refused.value)) == ["--schema", "--rebuild"]
    assert mirror_lake(south, server.url, f"{namespace}-south").outcome.n_rows_copied == 5
    for lake, schema, number in ((north, namespace, 3), (south, f"{namespace}-south", 5)):
        assert mirror_lake(lake, server.url, schema).outcome.n_rows_copied == 0
        assert n_frames(connection, schema) == number
    assert mirror_lake(south, server.url, namespace, rebuild=True).outcome.n_rows_copied == 5
    with pytest.raises(MirrorError, match=f"snapshot 2 of {south.root}"):
        mirror_lake(north, server.url, namespace)


def test_a_lake_is_known_again_after_commits_at_earlier_snapshots_and_where_it_moves(
    server: EmbeddedServer,
    namespace: str,
    connection: Connection,
    make_lake: Callable[[str, int], Lake],
    put: Any,
    make_rows: Rows,
) -> None:
    lake = make_lake("lake", 3)
    mirror_lake(lake, server.url, namespace)
    put(lake, ("frames", "sim-20260111", make_rows("frames", 4, 100, camera="sim", night=20260111)))
    for as_of, number in ((None, 7), ("2", 3), (None, 7), ("1", 0), (None, 7)):
        mirror_lake(lake, server.url, namespace, as_of=as_of)
        assert n_frames(connection, namespace) == number
    lake.rollback(2)
    mirror_lake(lake, server.url, namespace)
    assert n_frames(connection, namespace) == 3
    moved = Lake(lake.root.rename(lake.root.with_name("moved")))
    assert mirror_lake(moved, server.url, namespace).outcome.n_copied == 0
    [(folder,)] = connection.execute("SELECT lake FROM mirror_state")
    assert folder == str(moved.root)


def test_a_copy_is_another_lake_as_long_as_its_original_is_there_or_once_both_have_changed(
    server: EmbeddedServer,
    namespace: str,
    connection: Connection,
    make_lake: Callable[[str, int], Lake],
    put: Any,
    make_rows: Rows,
) -> None:
    lake = make_lake("lake", 3)
    mirror_lake(lake, server.url, namespace)
    copy = Lake(shutil.copytree(lake.root, lake.root.with_name("copy"), symlinks=True))
    with pytest.raises(MirrorError, match=f"snapshot 2 of {lake.root}"):
        mirror_lake(copy, server.url, namespace)
    for one, first in ((lake, 100), (copy, 200)):
        put(one, ("frames", "sim-20260111", make_rows("frames", 4, first, camera="sim", night=20260111)))
    mirror_lake(lake, server.url, namespace)
    # As from another machine, where the folder of the original is not to be seen.
    hidden = lake.root.rename(lake.root.with_name("hidden"))
    with pytest.raises(MirrorError, match=f"snapshot 3 of {lake.root}"):
        mirror_lake(copy, server.url, namespace)
    assert mirror_lake(Lake(hidden), server.url, namespace).outcome.n_copied == 0
    assert n_frames(connection, namespace) == 7


def test_a_mirror_that_does_not_say_whose_it_is_goes_to_a_lake_with_parts_of_it(
    server: EmbeddedServer, namespace: str, connection: Connection, make_lake: Callable[[str, int], Lake]
) -> None:
    lake, other = make_lake("lake", 3), make_lake("other", 5)
    mirror_lake(lake, server.url, namespace)
    connection.execute("ALTER TABLE mirror_state DROP COLUMN lake, DROP COLUMN record_sha256")
    with pytest.raises(MirrorError, match=r"another lake \(snapshot 2\)"):
        mirror_lake(other, server.url, namespace)
    assert mirror_lake(lake, server.url, namespace).outcome.n_copied == 0
    with pytest.raises(MirrorError, match=f"snapshot 2 of {lake.root}"):
        mirror_lake(other, server.url, namespace)
    assert Mirror(server.url, schema=namespace).snapshot() == 2
