"""Tables, indexes, views and grants of a mirror: made, extended, compared and made again."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql
from tried_mirror import TriedMirror

from skylake.errors import MirrorError
from skylake.mirror import EmbeddedServer, Mirror
from skylake.mirror.structure import files
from skylake.resources import folder
from skylake.schema import flag_texts, load
from skylake.schema.schema_ddl import MIRRORED, ddl

only_embedded = pytest.mark.parametrize("server", ["embedded"], indirect=True)
Rows = Callable[..., pa.Table]
Connection = psycopg.Connection[Any]
HERE = "relnamespace = to_regnamespace(quote_ident(current_schema()))"
VIEWS = {"calibrated_frames", "night_summary", "frames_by_reason"}


def texts(connection: Connection, statement: Any) -> set[Any]:
    return {row[0] for row in connection.execute(statement)}


def test_the_generated_ddl_is_that_of_the_schemas_and_runs(server: EmbeddedServer, namespace: str) -> None:
    text = (folder("sql") / "generated" / "postgres.sql").read_text(encoding="utf-8")
    assert text == ddl()
    with psycopg.connect(server.libpq_url) as connection:
        connection.execute(
            sql.SQL("CREATE SCHEMA {0}; SET search_path TO {0}").format(sql.Identifier(namespace))
        )
        connection.execute(text.encode())
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        assert texts(connection, tables) == set(MIRRORED)
        connection.rollback()


def test_prepare_makes_everything_with_comments(mirror: TriedMirror, connection: Connection) -> None:
    tables = {*MIRRORED, "mirror_parts", "mirror_state"}
    assert texts(connection, f"SELECT relname FROM pg_class WHERE relkind = 'r' AND {HERE}") == tables
    assert texts(connection, f"SELECT relname FROM pg_class WHERE relkind = 'v' AND {HERE}") == VIEWS
    silent = "relkind IN ('r', 'v') AND obj_description(oid) IS NULL"
    assert texts(connection, f"SELECT relname FROM pg_class WHERE {silent} AND {HERE}") == set()
    comment = "SELECT col_description('frames'::regclass, 1)"
    assert texts(connection, comment) == {load("frames").columns[0].description}
    indexes = texts(connection, "SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema()")
    for columns in ("frames USING btree (camera, night)", "frames USING btree (mjd_mid)",
                    "frames USING btree (status, reason)", "zeropoints USING btree (camera, night)",
                    "zeropoints USING btree (band, mjd_mid)"):  # fmt: skip
        assert any(index.endswith(columns) for index in indexes)


def test_a_second_prepare_writes_nothing(mirror: TriedMirror, connection: Connection) -> None:
    catalog = f"SELECT oid::text || xmin::text FROM pg_class WHERE {HERE}"
    before = texts(connection, catalog)
    mirror.prepare()
    assert texts(connection, catalog) == before


def test_the_sql_files_run_again_in_psql(server: EmbeddedServer, namespace: str, mirror: TriedMirror) -> None:
    psql = [
        *shlex.split(server.psql_command),
        "-v",
        "ON_ERROR_STOP=1",
        "-q",
        "-c",
        f'SET search_path TO "{namespace}"',
    ]
    for path in files() * 2:
        psql += ["-f", str(path)]
    done = subprocess.run(psql, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_reader_role_reads_and_does_not_write(mirror: TriedMirror, connection: Connection) -> None:
    connection.execute("SET ROLE skylake_reader")
    for name in (*MIRRORED, *sorted(VIEWS), "mirror_state", "mirror_parts"):
        assert (
            connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name))).fetchall()
            is not None
        )
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM frames")
    connection.execute("RESET ROLE")


def test_calibrated_frames_takes_the_largest_version(
    mirror: TriedMirror, connection: Connection, make_rows: Rows
) -> None:
    frames = make_rows("frames", 4)
    zeropoints = pa.concat_tables(
        [
            make_rows("zeropoints", 3, catalog="gaia", version=1, zp=21.0),
            make_rows("zeropoints", 2, catalog="gaia", version=2, zp=22.0),
            make_rows("zeropoints", 1, catalog="gaia", version=3, zp=None),
            make_rows("zeropoints", 1, 1, catalog="apass", version=1, zp=20.0),
        ]
    )
    mirror.synchronise([("frames", "a", "1", frames), ("zeropoints", "a", "1", zeropoints)], [], 1)
    found = connection.execute(
        "SELECT frame_id, catalog, version, zp FROM calibrated_frames ORDER BY 1, 2"
    ).fetchall()
    # Version 3 could not calibrate frame 0, so nothing is in force there; frame 3 has never been calibrated.
    assert found == [(1, "apass", 1, 20.0), (1, "gaia", 2, 22.0), (2, "gaia", 1, 21.0)]


def test_summaries_count_what_the_tables_hold(
    mirror: TriedMirror, connection: Connection, make_rows: Rows
) -> None:
    nights = make_rows("nights", 6, 20260101, camera="sim")
    frames = make_rows("frames", 50, camera="sim")
    mirror.synchronise([("nights", "a", "1", nights), ("frames", "a", "1", frames)], [], 1)
    sums = connection.execute("SELECT sum(n_frames), sum(n_ok), sum(n_matched) FROM night_summary").fetchone()
    assert sums == tuple(sum(nights.column(name).to_pylist()) for name in ("n_frames", "n_ok", "n_matched"))
    assert texts(connection, "SELECT sum(n_frames) FROM frames_by_reason") == {50}
    twofold = make_rows("nights", 1, 20260101, camera="sim", band="g", n_frames=5, mjd_first=61000.25)
    mirror.synchronise([("nights", "b", "1", twofold)], [("nights", "a")], 2)
    second = make_rows("nights", 1, 20260101, camera="sim", band="", n_frames=7, mjd_first=61000.5)
    mirror.synchronise([("nights", "c", "1", second)], [], 3)
    found = connection.execute("SELECT bands, n_frames, mjd_first FROM night_summary").fetchall()
    assert found == [("g", 12, 61000.25)]


def test_columns_that_the_schema_has_gained_are_added(
    mirror: TriedMirror, connection: Connection, make_rows: Rows, read: Rows, as_mirrored: Rows
) -> None:
    rows = make_rows("frames", 10)
    mirror.synchronise([("frames", "a", "1", rows), ("nights", "a", "1", make_rows("nights", 3))], [], 1)
    connection.execute(
        "DROP VIEW calibrated_frames; ALTER TABLE frames DROP COLUMN airmass, DROP COLUMN mirrored"
    )
    connection.execute("CREATE VIEW mine AS SELECT * FROM frames")
    mirror.prepare()
    assert mirror.parts() == {("frames", "a"): "", ("nights", "a"): "1"}
    mirror.synchronise([("frames", "a", "1", rows), ("nights", "a", "1", make_rows("nights", 3))], [], 1)
    assert read(connection, "frames").equals(as_mirrored(rows))
    assert texts(connection, "SELECT count(*) FROM mine") == {10}
    connection.execute("SELECT airmass, mirrored FROM calibrated_frames")
    there = "pg_attribute WHERE attrelid = 'frames'::regclass AND attname = 'airmass'"
    comments = texts(connection, f"SELECT col_description(attrelid, attnum) FROM {there}")
    assert comments == {load("frames")["airmass"].description}


#: As a mirror of narrower schemas is; the values of SMALL fit.
NARROWED = """DROP VIEW calibrated_frames, night_summary, frames_by_reason;
    ALTER TABLE frames ALTER COLUMN width_px TYPE smallint, ALTER COLUMN file TYPE varchar(9),
    ALTER COLUMN moon_phase TYPE real, ALTER COLUMN reason TYPE varchar(8), ALTER COLUMN airmass SET NOT NULL,
    ALTER COLUMN file_bytes TYPE integer"""
SMALL = {"width_px": 7, "file": "a.fits", "moon_phase": 0.5, "reason": None, "airmass": 1.5, "file_bytes": 9}
WIDE = {
    "width_px": "integer", "file": "text", "moon_phase": "double precision", "reason": "character varying(32)",
    "airmass": "double precision", "file_bytes": "bigint",
}  # fmt: skip


def test_columns_that_the_schema_has_widened_are_widened(
    mirror: TriedMirror, connection: Connection, make_rows: Rows, read: Rows, as_mirrored: Rows
) -> None:
    old, new = make_rows("frames", 10, **SMALL), make_rows("frames", 5, 100, airmass=None, file_bytes=2**40)
    mirror.synchronise([("frames", "a", "1", old)], [], 1)
    connection.execute(NARROWED.encode())
    mirror.prepare()
    assert mirror.parts() == {("frames", "a"): "1"}
    mirror.synchronise([("frames", "b", "1", new)], [], 1)
    assert read(connection, "frames").equals(as_mirrored(pa.concat_tables([old, new])))
    columns = "pg_attribute WHERE attrelid = 'frames'::regclass"
    found = connection.execute(f"SELECT attname, format_type(atttypid, atttypmod) FROM {columns}").fetchall()
    assert WIDE.items() <= dict(found).items()
    connection.execute("SELECT * FROM calibrated_frames")


@only_embedded
def test_a_column_that_a_view_of_a_user_shows_is_not_widened(
    mirror: TriedMirror, connection: Connection
) -> None:
    connection.execute(NARROWED.encode())
    connection.execute("CREATE VIEW mine AS SELECT file FROM frames")
    with pytest.raises(MirrorError, match=r"column frames\.file could not be made text: .*view.*--rebuild"):
        mirror.prepare()
    assert texts(connection, "SELECT count(*) FROM mine") == {0}
    mirror.prepare(rebuild=True)
    mirror.prepare()


@only_embedded
@pytest.mark.parametrize(
    ("change", "column"),
    [
        ("ALTER TABLE zeropoints ADD COLUMN extra int", "zeropoints.extra"),
        ("ALTER TABLE zeropoints DROP COLUMN version CASCADE", "zeropoints.version"),
        ("ALTER TABLE nights ALTER COLUMN n_frames TYPE bigint", "nights.n_frames"),
        ("ALTER TABLE nights ALTER COLUMN catalog TYPE varchar(100)", "nights.catalog"),
        ("ALTER TABLE nights ALTER COLUMN n_frames DROP NOT NULL", "nights.n_frames"),
        ("ALTER TABLE nights ALTER COLUMN n_sources TYPE numeric", "nights.n_sources"),
        ("ALTER TABLE frames DROP CONSTRAINT frames_pkey", "frames.frame_id"),
        ("ALTER TABLE mirror_parts ALTER COLUMN n_rows TYPE numeric", "mirror_parts.n_rows"),
    ],
)
def test_other_differences_are_refused_until_rebuilt(
    change: str, column: str, mirror: TriedMirror, connection: Connection, make_rows: Rows
) -> None:
    connection.execute("DROP VIEW calibrated_frames, night_summary, frames_by_reason")
    connection.execute(change.encode())
    with pytest.raises(MirrorError, match=rf"column {column} .*--rebuild"):
        mirror.prepare()
    mirror.prepare(rebuild=True)
    assert mirror.parts() == {}
    assert mirror.synchronise([("frames", "a", "1", make_rows("frames", 5))], [], 1).n_rows_copied == 5


@only_embedded
def test_a_dropped_table_is_copied_again(
    mirror: TriedMirror, connection: Connection, make_rows: Rows, read: Rows
) -> None:
    changes = [("nights", "a", "1", make_rows("nights", 4)), ("frames", "a", "1", make_rows("frames", 4))]
    mirror.synchronise(changes, [], 1)
    connection.execute("DROP TABLE nights CASCADE")
    mirror.prepare()
    assert mirror.synchronise(changes, [], 1).n_copied == 1
    assert read(connection, "nights").num_rows == 4
    connection.execute("SELECT * FROM night_summary")


@only_embedded
def test_tables_of_others_are_never_touched(
    server: EmbeddedServer, namespace: str, connection: Connection
) -> None:
    quoted = sql.Identifier(namespace)
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(quoted))
    connection.execute("CREATE TABLE frames (picture text)")
    connection.execute("INSERT INTO frames VALUES ('of a house')")
    mirror = Mirror(server.url, schema=namespace)
    for rebuild in (False, True):
        with pytest.raises(MirrorError, match="skylake did not make it"):
            mirror.prepare(rebuild)
    assert texts(connection, "SELECT picture FROM frames") == {"of a house"}
    assert mirror.snapshot() is None


@only_embedded
def test_a_user_view_in_the_way_is_named(mirror: TriedMirror, connection: Connection) -> None:
    connection.execute("CREATE VIEW mine AS SELECT camera FROM calibrated_frames")
    mirror.prepare()
    connection.execute("UPDATE mirror_state SET structure_sha256 = 'of an older skylake'")
    with pytest.raises(MirrorError, match=r"00_no_views\.sql.*view mine.*--rebuild"):
        mirror.prepare()
    assert texts(connection, "SELECT count(*) FROM mine") == {0}
    mirror.prepare(rebuild=True)
    assert texts(connection, "SELECT to_regclass('mine') IS NULL") == {True}


def test_flags_of_frames_are_reported_by_their_names(mirror: TriedMirror, connection: Connection) -> None:
    known = flag_texts("frames")
    for value, names in [(0, []), (sum(bit for bit, _ in known.values()), [*known]), (5, [*known][:3:2])]:
        (found,) = connection.execute(sql.SQL("SELECT frame_flags({})").format(value)).fetchone() or ()
        assert found == names
