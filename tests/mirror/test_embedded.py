"""The embedded server, started, shared, killed and refused for real."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from skylake.errors import MirrorError
from skylake.mirror import EmbeddedServer
from skylake.mirror.data_folder import _MARK, _new_mark

Python = Callable[..., subprocess.Popen[str]]
NOBODY = 65534
ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root can become another user or mount a small disk")

START = """
import sys
from pathlib import Path
from skylake.errors import MirrorError
from skylake.mirror import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]), keep_running="keep" in sys.argv)
try:
    server.start()
    print((server.folder / "data" / "postmaster.pid").read_text().split()[0], flush=True)
    sys.stdin.read()
    server.release()
except MirrorError as error:
    print("refused:", error)
"""

START_AND_DIE = """
import os, signal, sys
from pathlib import Path
from skylake.mirror import EmbeddedServer
from skylake.mirror.data_folder import DataFolder
launch = DataFolder.launch
def die(folder, kept):
    launch(folder, kept)
    os.kill(os.getpid(), signal.SIGKILL)
DataFolder.launch = die
EmbeddedServer(Path(sys.argv[1])).start()
"""


def postmaster(server: EmbeddedServer) -> int:
    return int((server.folder / "data" / "postmaster.pid").read_text().split()[0])


def ask(server: EmbeddedServer, statement: Any) -> Any:
    with psycopg.connect(server.libpq_url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else None


def modes(path: Path) -> list[tuple[str, int, int, int]]:
    """Permissions and owners of all folders above a path."""
    return [(str(p), p.stat().st_mode, p.stat().st_uid, p.stat().st_gid) for p in path.parents]


def answer(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    return out.strip()


def test_a_server_lives_as_long_as_its_context(folder: Path) -> None:
    above = modes(folder / "postgres")
    server = EmbeddedServer(folder / "postgres")
    assert not server.running
    with server:
        assert server.running
        assert server.url.startswith("postgresql+psycopg://skylake@/postgres?host=")
        assert ask(server, "SHOW server_encoding") == [("UTF8",)]
        assert ask(server, "SELECT DISTINCT datcollate, datctype FROM pg_database") == [("C", "C")]
        assert ask(server, "SHOW fsync") == [("on",)]
        out = subprocess.run(
            [*shlex.split(server.psql_command), "-Atc", "SELECT 1"], capture_output=True, check=True
        )
        assert out.stdout == b"1\n"
    assert not server.running
    assert modes(folder / "postgres") == above
    assert stat.S_IMODE((folder / "postgres").stat().st_mode) == 0o700
    owners = {path.stat().st_uid for path in (folder / "postgres").rglob("*")}
    assert owners == {os.geteuid()}
    with pytest.raises(MirrorError, match="does not run"):
        _ = server.url


def test_it_listens_on_no_port_and_in_a_private_folder(embedded: EmbeddedServer) -> None:
    assert ask(embedded, "SHOW listen_addresses") == [("",)]
    assert ask(embedded, "SHOW unix_socket_directories") == [(str(embedded.folder),)]
    assert stat.S_IMODE(embedded.folder.stat().st_mode) == 0o700
    open_files = {str(path.readlink()) for path in Path(f"/proc/{postmaster(embedded)}/fd").iterdir()}
    numbers = {name[8:-1] for name in open_files if name.startswith("socket:")}
    assert numbers
    for table in ("tcp", "tcp6"):
        lines = Path(f"/proc/{postmaster(embedded)}/net/{table}").read_text().splitlines()[1:]
        assert not numbers & {line.split()[9] for line in lines}


def test_a_folder_that_others_could_enter_is_closed(home: Path) -> None:
    home.chmod(0o755)
    with EmbeddedServer(home) as server:
        assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700


def test_a_server_half_stopped_by_a_dead_process_starts_again(home: Path) -> None:
    with EmbeddedServer(home, keep_running=True) as server:
        before = postmaster(server)
    (home / "stopping").touch()
    with EmbeddedServer(home) as server:
        assert postmaster(server) != before
        assert ask(server, "SELECT 1") == [(1,)]
    assert not (home / "stopping").exists()


def test_the_last_user_stops_a_shared_server(home: Path) -> None:
    first, second = EmbeddedServer(home), EmbeddedServer(home)
    assert first.start() == second.start() == first.start()
    first.release()
    assert second.running
    second.release()
    assert not first.running
    second.release()


def test_another_process_reuses_the_server_and_leaves_it_up(home: Path, python: Python) -> None:
    with EmbeddedServer(home) as server:
        assert answer(python(START, server.folder)) == str(postmaster(server))
        assert server.running
    assert not server.running


def test_a_server_may_be_kept_until_another_process_stops_it(home: Path, python: Python) -> None:
    server = EmbeddedServer(home)
    kept = answer(python(START, server.folder, "keep"))
    assert server.running
    assert str(postmaster(server)) == kept
    with server:
        assert str(postmaster(server)) == kept
    assert server.running
    server.stop()
    assert not server.running
    server.stop()


def test_keeping_a_running_server_saves_it_from_its_starter(home: Path) -> None:
    keeper = EmbeddedServer(home, keep_running=True)
    with EmbeddedServer(home), keeper:
        pass
    assert keeper.running
    keeper.stop()


def test_a_user_that_was_killed_does_not_count(home: Path, python: Python) -> None:
    with python(START, home) as process:
        assert process.stdout is not None
        started = process.stdout.readline().strip()
        process.kill()
    with EmbeddedServer(home) as server:
        assert str(postmaster(server)) == started
    assert not server.running


def test_two_processes_that_start_at_once_share_one_server(folder: Path, python: Python) -> None:
    processes = [python(START, folder / "postgres") for _ in range(3)]
    numbers = set()
    for process in processes:
        assert process.stdout is not None
        numbers.add(process.stdout.readline())
    assert len(numbers) == 1
    assert numbers.pop().strip().isdigit()
    for process in processes:
        answer(process)
    assert not EmbeddedServer(folder / "postgres").running


def test_a_server_with_a_deleted_folder_ends_before_the_next(home: Path) -> None:
    # It would remove the socket of the new one when it finds out, up to a minute later.
    EmbeddedServer(home, keep_running=True).start()
    with psycopg.connect(EmbeddedServer(home).libpq_url):
        former = postmaster(EmbeddedServer(home))
        shutil.rmtree(home)
        with EmbeddedServer(home) as server:
            assert postmaster(server) != former
            assert not Path(f"/proc/{former}/cwd").exists()
            assert ask(server, "SELECT 1") == [(1,)]


def test_a_server_of_a_killed_starter_ends_with_its_next_user(home: Path, python: Python) -> None:
    starter = python(START_AND_DIE, home)
    starter.communicate(timeout=900)
    assert starter.returncode == -signal.SIGKILL
    assert EmbeddedServer(home).running
    with EmbeddedServer(home) as server:
        assert ask(server, "SELECT 1") == [(1,)]
    assert not server.running


def test_a_killed_server_starts_again_with_its_data(home: Path) -> None:
    server = EmbeddedServer(home)
    server.start()
    ask(server, "CREATE TABLE kept AS SELECT 7 AS number")
    ask(server, "CHECKPOINT")
    os.kill(postmaster(server), signal.SIGKILL)
    assert (home / "data" / "postmaster.pid").exists()
    with server:
        assert ask(server, "SELECT number FROM kept") == [(7,)]
    assert not server.running


def test_a_stale_number_of_another_process_does_not_matter(home: Path) -> None:
    server = EmbeddedServer(home)
    with server:
        lines = (server.folder / "data" / "postmaster.pid").read_text().splitlines()
    with subprocess.Popen(["sleep", "60"]) as other:
        lines[0] = str(other.pid)
        (server.folder / "data" / "postmaster.pid").write_text("\n".join(lines) + "\n")
        assert not server.running
        with server:
            assert postmaster(server) != other.pid
        other.kill()


def test_a_server_that_another_hand_started_is_used_and_left(home: Path) -> None:
    server = EmbeddedServer(home, keep_running=True)
    server.start()
    number = postmaster(server)
    server.release()
    # Nobody holds our locks, as if pg_ctl had been called by hand.
    for lock in home.glob("*.lock"):
        lock.unlink()
    with EmbeddedServer(home) as user:
        assert postmaster(user) == number
    assert server.running
    server.stop()
    assert not server.running


def test_half_made_data_folders_are_cleared(folder: Path) -> None:
    unfinished = folder / "postgres" / "initialising-x"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    with EmbeddedServer(folder / "postgres") as server:
        assert server.running
    assert not unfinished.exists()


def test_initdb_killed_half_way_leaves_nothing_in_the_way(folder: Path, python: Python) -> None:
    with python(START, folder / "postgres", start_new_session=True) as process:
        deadline = time.monotonic() + 20
        while not list(folder.glob("postgres/initialising-*/PG_VERSION")) and time.monotonic() < deadline:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (folder / "postgres" / "data").exists()
    with EmbeddedServer(folder / "postgres") as server:
        assert server.running
    assert not list(folder.glob("postgres/initialising-*"))


def test_another_major_version_is_refused_with_the_fix(folder: Path, debian: EmbeddedServer) -> None:
    with EmbeddedServer(folder / "postgres", binaries=Path(debian.psql_command.split()[0]).parent):
        pass
    with pytest.raises(
        MirrorError, match=rf"version 15.*version 18.*delete {folder}/postgres, which is only a copy"
    ):
        EmbeddedServer(folder / "postgres").start()


def test_a_start_that_fails_quotes_the_log(home: Path) -> None:
    server = EmbeddedServer(home)
    (home / "data" / "global" / "pg_control").unlink()
    with pytest.raises(MirrorError, match=r"does not start \(.*pg_control.*--to postgresql"):
        server.start()
    assert not server.running
    (home / "data" / "PG_VERSION").unlink()
    with pytest.raises(MirrorError, match="only a copy"):
        server.start()


def moved(home: Path, name: str) -> Path:
    """Give the folder of a server another name, noted as made there."""
    new = home.rename(home.with_name(name))
    (new / "data" / _MARK).write_text(_new_mark(new / "data"), encoding="ascii")
    return new


@pytest.mark.parametrize("name", ["x" * 120, "with blank", 'it\'s $HOME, "too"', "Sternwarte-Öü"])
def test_odd_folders(home: Path, name: str) -> None:
    with EmbeddedServer(moved(home, name)) as server:
        assert ask(server, "SHOW data_directory") == [(str(server.folder / "data"),)]
        socket_folder = Path(ask(server, "SHOW unix_socket_directories")[0][0].strip('"'))
        assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
        assert len(os.fsencode(socket_folder / ".s.PGSQL.5432")) <= 107
        shutdown = shlex.split(server.psql_command)
        assert (
            subprocess.run([*shutdown, "-Atc", "SELECT 2"], capture_output=True, check=True).stdout == b"2\n"
        )
    assert socket_folder == server.folder or not socket_folder.exists()


def test_the_private_folder_of_a_killed_server_is_removed(home: Path) -> None:
    server = EmbeddedServer(moved(home, "x" * 120))
    server.start()
    left = Path(ask(server, "SHOW unix_socket_directories")[0][0])
    os.kill(postmaster(server), signal.SIGKILL)
    with server:
        assert not left.exists()


def test_the_environment_of_the_user_does_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = {
        "PGPORT": "7777", "PGHOST": "nowhere", "PGDATA": "/nowhere", "PGUSER": "x", "PGDATABASE": "x",
        "LC_ALL": "xx_XX.UTF-8", "LANG": "de_DE.UTF-8", "TZ": "Mars/Olympus",
    }  # fmt: skip
    for name, value in foreign.items():
        monkeypatch.setenv(name, value)
    with EmbeddedServer(folder / "postgres") as server:
        assert ask(server, "SHOW timezone") == [("UTC",)]


def test_missing_programs_are_named(folder: Path) -> None:
    with pytest.raises(MirrorError, match="initdb of PostgreSQL is missing; reinstall"):
        EmbeddedServer(folder / "postgres", binaries=folder).start()


def test_a_missing_parent_is_named(folder: Path) -> None:
    with pytest.raises(MirrorError, match=f"{folder}/none/postgres"):
        EmbeddedServer(folder / "none" / "postgres").start()


def nobody(python: Python, *arguments: object) -> str:
    """Start a server as the user nobody and return what it says."""
    said = answer(python(START, *arguments, user=NOBODY))
    if "does not run on this machine" in said or "is missing" in said:
        pytest.skip("other users cannot reach the programs of PostgreSQL here")
    return said


@as_root
def test_an_ordinary_user_runs_it_directly(folder: Path, python: Python) -> None:
    lake = folder / "lake"
    lake.mkdir(mode=0o755)
    os.chown(lake, NOBODY, NOBODY)
    above = modes(lake / "postgres")
    assert nobody(python, lake / "postgres").isdigit()
    assert modes(lake / "postgres") == above
    assert {path.stat().st_uid for path in lake.rglob("*")} == {NOBODY}
    # Root then works there as that user, and leaves all files to it.
    with EmbeddedServer(lake / "postgres") as server:
        assert ask(server, "SELECT 1") == [(1,)]
    assert {path.stat().st_uid for path in lake.rglob("*")} == {NOBODY}
    assert nobody(python, lake / "postgres").isdigit()


@as_root
def test_folders_of_root_or_read_only_ones_are_a_sentence(folder: Path, home: Path, python: Python) -> None:
    assert "as the user to whom it belongs" in nobody(python, home)
    assert f"{folder}/other" in nobody(python, folder / "other")


SMALL_DISK = """
import ctypes, subprocess, sys
libc = ctypes.CDLL(None)
assert libc.unshare(0x00020000) == 0
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + sys.argv[2], "none", sys.argv[1]], check=True)
subprocess.run(["mount", "-o", "remount," + sys.argv[3], sys.argv[1]], check=True)
print("mounted", flush=True)
sys.argv[1] += "/postgres"
"""


@as_root
@pytest.mark.parametrize(
    ("size", "option", "words"),
    [("8M", "rw", "cannot be set up.*No space left.*free space"), ("8M", "ro", "Read-only.*can be written")],
)
def test_full_and_read_only_disks_are_sentences(
    folder: Path, python: Python, size: str, option: str, words: str
) -> None:
    process = python(SMALL_DISK + START, folder, size, option)
    out, err = process.communicate(timeout=900)
    if not out.startswith("mounted"):
        pytest.skip(f"no disk can be mounted here: {err.splitlines()[-1:]}")
    assert re.search(f"refused: .*{words}", out)


FILL = """
from skylake.mirror import Mirror
from skylake.mirror.books import State
from skylake.mirror.postgres import Plan
from skylake.schema import arrow_schema, load
import numpy as np, pyarrow as pa
schema = arrow_schema(load("nights"))
constants = {"night": pa.array(np.arange(1_000_000), pa.int32()), "camera": pa.array(["c" * 64] * 1_000_000)}
def column(field):
    if field.name in constants:
        return constants[field.name]
    return pa.nulls(1_000_000, field.type).fill_null("" if field.type == pa.string() else 0)
rows = pa.Table.from_arrays([column(field) for field in schema], schema=schema)
with EmbeddedServer(Path(sys.argv[1])) as server:
    mirror = Mirror(server.url)
    mirror.prepare()
    parts = {("nights", "small"): "1"}
    mirror.follow(lambda *_: Plan(parts, lambda *_: rows.slice(0, 10), State(1)))
    try:
        parts["nights", "large"] = "1"
        mirror.follow(lambda *_: Plan(parts, lambda *_: rows.slice(10), State(2)))
    except MirrorError as error:
        print("refused:", error)
"""


@pytest.mark.slow
@as_root
def test_a_disk_that_fills_up_while_mirroring_is_a_sentence(folder: Path, python: Python) -> None:
    imports = (
        "from pathlib import Path\nfrom skylake.errors import MirrorError\nfrom skylake.mirror import *\n"
    )
    process = python(SMALL_DISK + imports + FILL, folder, "80M", "rw")
    out, err = process.communicate(timeout=900)
    if not out.startswith("mounted"):
        pytest.skip(f"no disk can be mounted here: {err.splitlines()[-1:]}")
    # Which of the two depends on whether the table or the log of the server meets the end of the disk first.
    assert re.search("refused: .*(No space left.*free space|nothing was changed)", out), out + err


def test_a_server_that_came_with_a_lake_is_not_started(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its maker would have it run anything."""
    (home / "data" / "postgresql.auto.conf").write_text(
        f"archive_mode = 'on'\narchive_command = 'touch {home}/taken'\n"
        f"ssl_passphrase_command = 'touch {home}/taken'\nrestore_command = 'touch {home}/taken'\n"
    )
    monkeypatch.setenv("XDG_STATE_HOME", str(home.parent / "of another user"))
    for act in (EmbeddedServer(home).start, EmbeddedServer(home).stop):
        with pytest.raises(
            MirrorError,
            match=r"postgres: nothing shows that you made this database here.*; delete the folder",
        ):
            act()
    shutil.rmtree(home)
    with EmbeddedServer(home) as server:
        assert server.running
    with EmbeddedServer(home) as server:
        assert server.running, "its own it knows again"


def test_a_server_is_not_started_in_another_place_than_its_own(home: Path) -> None:
    """Who had a copy may have changed it."""
    (home.parent / "other").mkdir()
    copy = home.parent / "other" / home.name
    shutil.copytree(home, copy, symlinks=True)
    with pytest.raises(MirrorError, match=r"made this database here.*; delete the folder"):
        EmbeddedServer(copy).start()
    shutil.rmtree(copy)
    with EmbeddedServer(copy) as server:
        assert server.running, "what the sentence says works"
    (home.parent / "way").symlink_to(home.parent)
    with EmbeddedServer(home.parent / "way" / home.name) as server:
        assert server.running, "its own, whichever way leads there"
