"""The laws of a mirror, on real servers."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, permutations
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql
from tried_mirror import Change, TriedMirror

from skylake.errors import MirrorError, SchemaError, UsageError
from skylake.mirror import CopyCounts, EmbeddedServer, Mirror
from skylake.mirror.books import State
from skylake.mirror.postgres import Plan
from skylake.schema import load

CHECKSUMS = count()
TABLES = ("frames", "zeropoints", "nights")
only_embedded = pytest.mark.parametrize("server", ["embedded"], indirect=True)
Rows = Callable[..., pa.Table]
Opening = Callable[..., TriedMirror]
Connection = psycopg.Connection[Any]


def versions(connection: Connection) -> dict[str, list[Any]]:
    """The transactions that wrote the rows of all tables; they stay where nothing is written."""
    tables = (*TABLES, "mirror_parts", "mirror_state")
    statement = "SELECT ctid::text, xmin::text FROM {} ORDER BY 1"
    return {
        table: connection.execute(sql.SQL(statement).format(sql.Identifier(table))).fetchall()
        for table in tables
    }


def one(connection: Connection, statement: Any) -> Any:
    row = connection.execute(statement).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
# Without shrinking, which takes minutes on a server.
@settings(deadline=None, max_examples=8, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(data=st.data())
def test_any_content_reads_back_equal(
    table: str,
    data: st.DataObject,
    mirror: TriedMirror,
    connection: Connection,
    any_rows: Callable[..., Any],
    read: Rows,
    as_mirrored: Rows,
) -> None:
    rows = data.draw(any_rows(table))
    name = str(next(CHECKSUMS))
    outcome = mirror.synchronise([(table, "part", name, rows)], [], 1)
    assert outcome.n_rows_copied == rows.num_rows
    assert read(connection, table).equals(as_mirrored(rows))
    assert mirror.parts()[table, "part"] == name


def test_twice_is_once(mirror: TriedMirror, connection: Connection, make_rows: Rows) -> None:
    changes = [
        (table, f"sim-{night}", "aa", make_rows(table, 20, 100 * night))
        for table in TABLES
        for night in (1, 2)
    ]
    first = mirror.synchronise(changes, [], 7)
    assert first == CopyCounts(n_copied=6, n_rows_copied=120)
    before = versions(connection)
    assert mirror.synchronise(changes, [("frames", "unknown")], 7) == CopyCounts()
    assert versions(connection) == before
    assert mirror.snapshot() == 7
    assert mirror.parts() == {(table, part): checksum for table, part, checksum, _ in changes}


@only_embedded
def test_a_new_snapshot_without_changes_touches_one_row(
    mirror: TriedMirror, connection: Connection, make_rows: Rows
) -> None:
    mirror.synchronise([("frames", "a", "1", make_rows("frames", 3))], [], 1)
    before = versions(connection)
    assert mirror.synchronise([], [], 2) == CopyCounts()
    assert mirror.snapshot() == 2
    after = versions(connection)
    assert {table for table in after if after[table] != before[table]} == {"mirror_state"}


def test_a_replaced_part_replaces_its_rows_alone(
    mirror: TriedMirror, connection: Connection, make_rows: Rows, read: Rows, as_mirrored: Rows
) -> None:
    # Both parts hold the same camera and night: what distinguishes them are their keys.
    kept = make_rows("frames", 30, 0, camera="sim", night=20260110)
    mirror.synchronise([("frames", "kept", "1", kept)], [], 1)
    written = versions(connection)["frames"]
    mirror.synchronise(
        [("frames", "other", "1", make_rows("frames", 40, 100, camera="sim", night=20260110))], [], 2
    )
    other = make_rows("frames", 25, 120, camera="sim", night=20260110)
    outcome = mirror.synchronise([("frames", "other", "2", other)], [], 3)
    assert outcome == CopyCounts(n_copied=1, n_rows_copied=25, n_rows_removed=40)
    assert read(connection, "frames").equals(as_mirrored(pa.concat_tables([kept, other])))
    assert set(written) <= set(versions(connection)["frames"])


@pytest.mark.parametrize("table", TABLES)
def test_removal_removes(
    table: str, mirror: TriedMirror, connection: Connection, make_rows: Rows, read: Rows
) -> None:
    kept, gone = make_rows(table, 10, 0), make_rows(table, 10, 50)
    mirror.synchronise([(table, "kept", "1", kept), (table, "gone", "1", gone)], [], 1)
    assert mirror.synchronise([], [(table, "gone")], 2) == CopyCounts(n_removed=1, n_rows_removed=10)
    assert read(connection, table).num_rows == 10
    assert set(mirror.parts()) == {(table, "kept")}
    assert mirror.synchronise([(table, "gone", "1", gone)], [(table, "kept")], 3).n_copied == 1
    assert set(mirror.parts()) == {(table, "gone")}


@only_embedded
@pytest.mark.parametrize("order", list(permutations("abc")))
def test_rows_may_move_between_parts(
    order: tuple[str, ...],
    mirror: TriedMirror,
    connection: Connection,
    make_rows: Rows,
    read: Rows,
    as_mirrored: Rows,
) -> None:
    rows = {part: make_rows("zeropoints", 10, 10 * number) for number, part in enumerate("abc")}
    mirror.synchronise([("zeropoints", part, "1", rows[part]) for part in "abc"], [], 1)
    moved = {"a": rows["b"], "b": rows["c"], "c": rows["a"].slice(3)}
    mirror.synchronise([("zeropoints", part, "2", moved[part]) for part in order], [], 2)
    assert read(connection, "zeropoints").equals(as_mirrored(pa.concat_tables(moved.values())))
    mirror.synchronise([("zeropoints", "d", "3", moved["a"])], [("zeropoints", "a")], 3)
    assert read(connection, "zeropoints").num_rows == 27


@only_embedded
def test_a_row_in_two_parts_is_an_error_that_changes_nothing(
    mirror: TriedMirror, connection: Connection, make_rows: Rows
) -> None:
    rows = make_rows("frames", 3)
    mirror.synchronise([("frames", "a", "1", rows)], [], 1)
    before = versions(connection)
    with pytest.raises(MirrorError, match=r"Key \(frame_id\)=\(\d\) already exists.*--rebuild"):
        mirror.synchronise([("frames", "b", "1", rows)], [], 2)
    assert versions(connection) == before


@only_embedded
def test_a_failing_lake_changes_nothing(mirror: TriedMirror, connection: Connection, make_rows: Rows) -> None:
    before = versions(connection)

    def lost() -> pa.Table:
        raise FileNotFoundError("a part has gone")

    with pytest.raises(FileNotFoundError):
        mirror.synchronise([("frames", "a", "1", make_rows("frames", 5)), ("frames", "b", "1", lost)], [], 1)
    with pytest.raises(SchemaError, match="frame_id"):
        mirror.synchronise([("frames", "a", "1", make_rows("frames", 5).drop_columns("frame_id"))], [], 1)
    with pytest.raises(MirrorError, match="sources"):
        mirror.synchronise([("sources", "a", "1", make_rows("frames", 5))], [], 1)
    assert versions(connection) == before


def test_a_reader_sees_the_old_state_until_the_end(
    mirror: TriedMirror, connection: Connection, make_rows: Rows
) -> None:
    count = "SELECT (SELECT count(*) FROM frames) + (SELECT count(*) FROM zeropoints)"
    mirror.synchronise([("frames", "a", "1", make_rows("frames", 8))], [], 1)
    seen = []

    def seen_before(rows: pa.Table) -> Callable[[], pa.Table]:
        return lambda: seen.append(one(connection, count)) or rows

    changes = [
        ("frames", "a", "2", seen_before(make_rows("frames", 3))),
        ("zeropoints", "a", "1", seen_before(make_rows("zeropoints", 4))),
    ]
    mirror.synchronise(changes, [], 2)
    assert seen == [8, 8]
    assert one(connection, count) == 7


@only_embedded
def test_a_busy_reader_never_sees_a_partial_state(
    server: EmbeddedServer, mirror: TriedMirror, connection: Connection, make_rows: Rows
) -> None:
    def state(number: int) -> list[Change]:
        text = f"state {number}"
        return [("frames", f"{k}", text, make_rows("frames", 200, 1000 * k, message=text)) for k in range(4)]

    mirror.synchronise(state(0), [], 0)
    seen, done = set(), threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add(
                tuple(connection.execute("SELECT count(*), count(DISTINCT message) FROM frames").fetchall())
            )

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for number in range(1, 6):
            mirror.synchronise(state(number), [], number)
    finally:
        done.set()
        reader.join()
    assert seen == {((800, 1),)}


KILLED = """
import sys, time
from skylake.mirror import Mirror
from skylake.mirror.books import State
from skylake.mirror.postgres import Plan
import pyarrow as pa, pyarrow.parquet as pq
def read(table, part):
    if part == "b":
        print("copied", flush=True)
        time.sleep(60)
    return pq.read_table(sys.argv[3])
parts = {("frames", "a"): "2", ("frames", "b"): "1"}
Mirror(sys.argv[1], schema=sys.argv[2]).follow(lambda *_: Plan(parts, read, State(2)))
"""


def test_killed_in_mid_transaction_leaves_the_old_state(
    server: EmbeddedServer,
    namespace: str,
    mirror: TriedMirror,
    connection: Connection,
    make_rows: Rows,
    python: Callable[..., subprocess.Popen[str]],
    tmp_path: Any,
) -> None:
    import pyarrow.parquet as pq

    pq.write_table(make_rows("frames", 5, 100), tmp_path / "rows.parquet")
    mirror.synchronise([("frames", "a", "1", make_rows("frames", 9))], [], 1)
    before = versions(connection)
    with python(KILLED, server.url, namespace, tmp_path / "rows.parquet") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "copied\n"
        process.send_signal(signal.SIGKILL)
    assert versions(connection) == before
    assert mirror.snapshot() == 1
    # The lock of the dead is gone, and the next run works.
    assert mirror.synchronise([("frames", "a", "2", make_rows("frames", 5, 100))], [], 2).n_rows_removed == 9


@only_embedded
def test_a_lost_connection_is_a_sentence_and_changes_nothing(
    mirror: TriedMirror, connection: Connection, make_rows: Rows
) -> None:
    before = versions(connection)
    ours = "pg_stat_activity WHERE application_name = 'skylake mirror'"

    def cut_off() -> pa.Table:
        connection.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM {ours}")
        return make_rows("frames", 5, 50)

    changes = [("frames", "a", "1", make_rows("frames", 5)), ("frames", "b", "1", cut_off)]
    with pytest.raises(MirrorError, match="nothing was changed"):
        mirror.synchronise(changes, [], 1)
    assert versions(connection) == before


def test_two_mirrors_do_not_interleave(open_mirror: Opening, mirror: TriedMirror, make_rows: Rows) -> None:
    hasty = open_mirror(patience_s=0.2)

    def tried_by_another() -> pa.Table:
        with pytest.raises(MirrorError, match="lock timeout"):
            hasty.synchronise([("frames", "b", "1", make_rows("frames", 5, 50))], [], 1)
        return make_rows("frames", 5)

    mirror.synchronise([("frames", "a", "1", tried_by_another)], [], 1)
    assert set(mirror.parts()) == {("frames", "a")}


@only_embedded
def test_a_mirror_waits_for_another_and_plans_with_what_that_has_left(
    open_mirror: Opening, mirror: TriedMirror, connection: Connection, make_rows: Rows
) -> None:
    waiting = open_mirror()
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    planned: list[dict[tuple[str, str], str]] = []

    def plan(_: State, mirrored: dict[tuple[str, str], str]) -> Plan:
        planned.append(mirrored)
        return Plan({("frames", "a"): "2"}, lambda *_: make_rows("frames", 6), State(3))

    with ThreadPoolExecutor(1) as pool:

        def waited_for() -> pa.Table:
            later.append(pool.submit(waiting.follow, plan))
            while not one(connection, waits):
                time.sleep(0.01)
            assert not planned
            return make_rows("frames", 5, 50)

        later: list[Future[CopyCounts]] = []
        assert mirror.parts() == {}
        changes = [("frames", "a", "1", make_rows("frames", 5)), ("frames", "b", "1", waited_for)]
        mirror.synchronise(changes, [], 2)
        assert later[0].result().n_rows_removed == 10
    assert planned == [{("frames", "a"): "1", ("frames", "b"): "1"}]
    assert mirror.parts() == {("frames", "a"): "2"}
    assert mirror.snapshot() == 3


def test_dead_rows_are_freed(mirror: TriedMirror, connection: Connection, make_rows: Rows) -> None:
    size = "SELECT pg_relation_size('frames')"
    mirror.synchronise([("frames", "a", "0", make_rows("frames", 2000))], [], 0)
    once = one(connection, size)
    for number in range(1, 6):
        mirror.synchronise([("frames", "a", str(number), make_rows("frames", 2000))], [], number)
    # A new copy needs room before the old one is freed, and finds it there from the second time on.
    assert one(connection, size) <= 2.5 * once
    assert one(connection, "SELECT reltuples FROM pg_class WHERE oid = 'frames'::regclass") == 2000


@only_embedded
def test_an_unprepared_database_shows_nothing_and_says_so(open_mirror: Opening) -> None:
    bare = open_mirror()
    assert bare.snapshot() is None
    with pytest.raises(MirrorError, match="prepare"):
        bare.synchronise([], [], 1)


def test_the_default_schema_serves_without_a_name(
    server: EmbeddedServer, open_mirror: Opening, make_rows: Rows
) -> None:
    plain = open_mirror(server.url.replace("postgresql+psycopg://", "postgres://"), schema=None)
    plain.prepare()
    plain.synchronise([("frames", "a", "1", make_rows("frames", 2))], [], 1)
    with psycopg.connect(server.libpq_url) as reader:
        assert one(reader, "SELECT count(*) FROM public.calibrated_frames") == 0
        assert one(reader, "SELECT count(*) FROM public.frames") == 2
    plain.prepare(rebuild=True)
    assert plain.parts() == {}


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:hidden@host/x",
        "hidden",
        "postgresql://user:hidden@host:port/x",
        "postgresql://user:pa@hidden/x@host/x",
    ],
)
def test_other_urls_are_refused_without_quoting_them(url: str) -> None:
    with pytest.raises(UsageError, match="URL") as caught:
        Mirror(url)
    assert "hidden" not in str(caught.value)


def test_messages_call_a_database_by_its_address() -> None:
    there = Mirror("postgres://me:s3cr3t@db.example:5433/sky?sslmode=require&password=s3cr3t")
    assert there.shown == "the database postgresql://me@db.example:5433/sky"
    assert Mirror("postgresql:///sky?host=/run/pg").shown == "the database postgresql:///sky?host=/run/pg"


@pytest.mark.parametrize("name", ["", 'a"b', "a b", "x" * 64, "pg_toast", "information_schema"])
def test_odd_names_of_schemas_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"name of a schema|keeps for itself"):
        Mirror("postgresql://host/x", schema=name)


def failure(url: str, *hidden: str) -> str:
    """The sentence of a mirror that cannot be prepared; what is hidden stands nowhere in the traceback."""
    with pytest.raises(MirrorError) as caught:
        Mirror(url).prepare()
    text = "".join(traceback.format_exception(caught.value))
    for secret in hidden:
        assert secret not in text
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unreachable_server_is_a_sentence() -> None:
    assert "start the server" in failure("postgresql://me:s3cr3t@127.0.0.1:1/x", "s3cr3t")
    assert "start the server" in failure("postgresql://me@/x?host=/nowhere/at/all&password=s3cr3t", "s3cr3t")


def test_a_missing_database_is_a_sentence(server: EmbeddedServer) -> None:
    assert "create the database" in failure(server.url.replace("/postgres?", "/missing?"))
    assert "create the role" in failure(server.url.replace("skylake@", "stranger@"))


@pytest.fixture
def guarded(server: EmbeddedServer) -> Iterator[str]:
    """The URL of a user without rights who has to give a password."""
    rules = server.folder / "data" / "pg_hba.conf"
    trusting = rules.read_text()
    with psycopg.connect(server.libpq_url, autocommit=True) as owner:
        owner.execute("CREATE ROLE guarded LOGIN PASSWORD 'op3n+sesame'")
        owner.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        rules.write_text("local all guarded scram-sha-256\n" + trusting)
        owner.execute("SELECT pg_reload_conf()")
        yield server.url.replace("skylake@", "guarded:op3n%2Bsesame@")
        rules.write_text(trusting)
        owner.execute("SELECT pg_reload_conf()")
        owner.execute("DROP OWNED BY guarded")
        owner.execute("DROP ROLE guarded")


def test_rights_are_sentences_without_the_password(
    server: EmbeddedServer,
    guarded: str,
    namespace: str,
    open_mirror: Opening,
    make_rows: Rows,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    wrong = failure(guarded.replace("sesame", "barley"), "op3n+barley", "op3n%2Bbarley")
    assert "password" in wrong
    assert "right user and password" in wrong
    assert "ask its owner for the right" in failure(guarded, "sesame")
    # With a schema of its own the same user can mirror, though it may create neither schemas nor roles.
    with psycopg.connect(server.libpq_url, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION guarded").format(sql.Identifier(namespace)))
    own = open_mirror(guarded)
    own.prepare()
    own.synchronise([("frames", "a", "1", make_rows("frames", 2))], [], 1)
    assert own.snapshot() == 1
    assert "sesame" not in caplog.text + own.shown + repr(own.__dict__)


@only_embedded
def test_a_server_that_cannot_be_written_is_a_sentence(server: EmbeddedServer, namespace: str) -> None:
    url = server.url + "&options=-c%20default_transaction_read_only%3Don"
    with pytest.raises(MirrorError, match="URL of a server that can be written"):
        Mirror(url, schema=namespace).prepare()


@only_embedded
def test_mirrored_texts_are_as_long_as_the_schema_says(mirror: TriedMirror, connection: Connection) -> None:
    lengths = connection.execute(
        "SELECT column_name, character_maximum_length FROM information_schema.columns "
        "WHERE table_name = 'frames' AND table_schema = current_schema()"
    ).fetchall()
    assert dict(lengths) == {
        column.name: column.length for column in load("frames").columns if not column.columns
    }
