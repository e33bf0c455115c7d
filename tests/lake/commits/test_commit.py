from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from skylake.errors import LakeError
from skylake.lake import Commit, Lake, Snapshot, stage_part
from skylake.schema import load, table_names
from skylake.sky.hats import find_pixels, read_properties

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]
Digests = Callable[[Path], dict[str, str]]
Python = Callable[..., "subprocess.Popen[str]"]
HATS = [name for name in table_names() if load(name).layout.kind == "hats"]


def same(one: pa.Table, *others: pa.Table) -> bool:
    """Whether tables hold the same rows, in whatever order."""
    other = pa.concat_tables(others)
    key = [(name, "ascending") for name in ("frame_id", "source_no") if name in one.column_names]
    return one.sort_by(key).equals(other.sort_by(key))


def inodes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_ino for path in folder.rglob("*.parquet")}


def n_rows_told(snapshot: Snapshot, table: str) -> int:
    return int(read_properties(snapshot.folder(table))["hats_nrows"])


@pytest.mark.parametrize("table", ["sources", "frames"])
def test_replacing_a_part_replaces_exactly_it(lake: Lake, make_rows: MakeRows, put: Put, table: str) -> None:
    first, second, other = (make_rows(table, n, seed) for n, seed in ((60, 1), (50, 2), (40, 3)))
    put(lake, (table, "c-1", first), (table, "c-2", second))
    assert same(lake.snapshot().read(table), first, second)
    changed = put(lake, (table, "c-1", other))
    assert same(changed.read(table), other, second)
    assert same(changed.read(table, where=lambda part: part.name == "c-1"), other)
    assert changed.n_rows(table) == 90
    assert set(changed.parts(table)) == {"c-1", "c-2"}


def test_a_replaced_part_leaves_no_file_in_other_pixels(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    wide = make_rows("sources", 60, 1)
    index = wide["_healpix_29"].to_numpy()
    narrow = wide.filter(pa.array(index >> 56 == index[0] >> 56))
    assert len(find_pixels(put(lake, ("sources", "c-1", wide)).folder("sources"))) > 1
    changed = put(lake, ("sources", "c-1", narrow))
    assert find_pixels(changed.folder("sources")) == [(1, int(index[0] >> 56))]
    assert n_rows_told(changed, "sources") == len(narrow)


@pytest.mark.parametrize("line", ["hats_nrows=45\n", ""])
def test_a_wrong_number_of_rows_is_not_carried_on(
    lake: Lake, make_rows: MakeRows, put: Put, line: str
) -> None:
    base = put(lake, ("sources", "c-1", make_rows("sources", 40, 1)))
    properties = base.folder("sources") / "hats.properties"
    properties.write_text(properties.read_text().replace("hats_nrows=40\n", line))
    assert n_rows_told(put(lake, ("sources", "c-2", make_rows("sources", 10, 2))), "sources") == 50


@pytest.mark.parametrize("table", ["sources", "frames"])
def test_nothing_is_committed_upon_undescribed_rows(
    lake: Lake, make_rows: MakeRows, put: Put, table: str
) -> None:
    base = put(lake, (table, "c-1", make_rows(table, 60, 1)))
    description = base.folder(table) / "_parts" / "c-1.json"
    text = description.read_text()
    description.unlink()
    del base
    for name in ("c-1", "c-2"):
        with pytest.raises(LakeError, match=r"c-1\.parquet: no description lists this file"):
            put(lake, (table, name, make_rows(table, 10, 2)))
    description.write_text(text)
    assert put(lake, (table, "c-1", make_rows(table, 10, 2))).read(table).num_rows == 10


@pytest.mark.parametrize("table", ["sources", "frames"])
def test_removing_a_part_removes_exactly_it(lake: Lake, make_rows: MakeRows, put: Put, table: str) -> None:
    first, second = make_rows(table, 60, 1), make_rows(table, 50, 2)
    put(lake, (table, "c-1", first), (table, "c-10", second))
    commit = Commit("test", "-")
    commit.remove(table, "c-1")
    changed = lake.commit(commit)
    assert same(changed.read(table), second)
    assert set(changed.parts(table)) == {"c-10"}
    commit.remove(table, "c-10")
    commit.remove(table, "never there")
    assert lake.commit(commit).read(table).num_rows == 0


def test_several_tables_become_visible_together(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    frames, sources, matches = (make_rows(name, 20, 1) for name in ("frames", "sources", "matches"))
    put(lake, ("frames", "c-1", frames))
    commit = Commit("test", "both")
    with lake.stage("test") as staging:
        for table, rows in (("sources", sources), ("matches", matches)):
            commit.replace(stage_part(rows, table, "c-1", staging / table, lake.tree), staging / table)
        commit.remove("frames", "c-1")
        changed = lake.commit(commit)
    assert changed.number == 3
    assert [changed.n_rows(name) for name in ("frames", "sources", "matches")] == [0, 20, 20]
    assert same(changed.read("sources"), sources)


def test_files_that_do_not_change_are_hard_links(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    first = put(
        lake, *((name, f"c-{n}", make_rows(name, 60, n)) for n in (1, 2) for name in ("sources", "frames"))
    )
    second = put(lake, ("sources", "c-2", make_rows("sources", 60, 5)))
    before, after = inodes(first.folder("sources")), inodes(second.folder("sources"))
    kept = [name for name in before if name.endswith("/c-1.parquet")]
    assert len(kept) > 1
    assert all(after[name] == before[name] for name in kept)
    assert not {after[name] for name in after if name.endswith("/c-2.parquet")} & set(before.values())
    assert second.folder("frames") == first.folder("frames"), (
        "a table without changes is not even linked anew"
    )


def test_old_snapshots_stay_readable_and_unchanged(
    lake: Lake, make_rows: MakeRows, put: Put, digests: Digests
) -> None:
    tables = [make_rows("sources", 40, seed) for seed in range(4)]
    snapshots, contents = [], []
    for number, rows in enumerate(tables):
        snapshots.append(put(lake, ("sources", f"c-{number % 2}", rows)))
        contents.append(digests(snapshots[-1].folder("sources")))
    for number, snapshot in enumerate(snapshots):
        assert digests(snapshot.folder("sources")) == contents[number]
        expected = tables[: number + 1] if number < 2 else tables[number - 1 : number + 1]
        for seen in (snapshot, Snapshot(lake.layout, snapshot.number)):
            assert same(seen.read("sources"), *expected)
            count = seen.duckdb().sql("SELECT count(*) FROM sources").fetchall()
            assert count == [(40 * len(expected),)]


def test_who_opened_before_a_commit_sees_what_was_then(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    first, second = make_rows("sources", 30, 1), make_rows("sources", 30, 2)
    put(lake, ("sources", "c-1", first))
    reader = lake.snapshot()
    connection = reader.duckdb()
    folder = reader.folder("sources")
    put(lake, ("sources", "c-1", second), ("sources", "c-2", second))
    assert same(reader.read("sources"), first)
    assert connection.sql("SELECT count(*) FROM sources").fetchall() == [(30,)]
    assert reader.folder("sources") == folder != (lake.root / "sources").resolve()
    assert lake.snapshot().n_rows("sources") == 60


def test_a_commit_of_nothing_makes_no_snapshot(lake: Lake, digests: Digests) -> None:
    before = digests(lake.root)
    assert lake.commit(Commit("test", "-")).number == 1
    after = digests(lake.root)
    after.pop("_lock")
    assert after == before


def test_the_ledger_shows_what_ran(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    put(lake, ("sources", "c-1", make_rows("sources", 30, 1)), inputs={"profile": "abc"})
    commit = Commit("ingest", "c-20240407")
    commit.remove("sources", "c-1")
    lake.commit(commit)
    records = [json.loads(path.read_text()) for path in sorted(lake.layout.ledger.iterdir())]
    assert [record["snapshot"] for record in records] == [1, 2, 3]
    assert [record["base"] for record in records] == [None, 1, 2]
    made = records[1]["replaced"]["sources"]["c-1"]
    assert (made["rows"], made["inputs"]) == (30, {"profile": "abc"})
    assert (records[2]["stage"], records[2]["batch"]) == ("ingest", "c-20240407")
    assert records[2]["removed"] == {"sources": ["c-1"]}


@pytest.mark.full
@pytest.mark.xdist_group("lsdb")
def test_every_hats_table_is_valid_whatever_was_committed(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    from hats.io.validation import is_valid_catalog

    def check(snapshot: Snapshot) -> None:
        for name in HATS:
            assert is_valid_catalog(snapshot.folder(name), strict=True), name
            assert is_valid_catalog(lake.root / name, strict=True), f"{name} through its link"
            assert n_rows_told(snapshot, name) == snapshot.read(name).num_rows == snapshot.n_rows(name)

    check(lake.snapshot())
    check(put(lake, *((name, "c-1", make_rows(name, 40, 1)) for name in HATS)))
    check(put(lake, *((name, "c-2", make_rows(name, 30, 2)) for name in HATS)))
    check(
        put(lake, ("sources", "c-1", make_rows("sources", 7, 3)), ("matches", "c-1", make_rows("matches", 0)))
    )
    commit = Commit("test", "-")
    for name in HATS:
        commit.remove(name, "c-1")
        commit.remove(name, "c-2")
    check(lake.commit(commit))
    assert lake.snapshot().n_rows("sources") == 0


_COMMIT_MANY = """
import sys, zlib
sys.path.insert(0, sys.argv[4])
from conftest import _make_rows
from skylake.lake import Commit, Lake, stage_part
lake, who, count = Lake(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
for number in range(count):
    commit = Commit("test", who)
    with lake.stage("test") as staging:
        for table in ("frames", "sources"):
            # A frame is in the lake once; so each committer has its own.
            seed = number if table == "sources" else 100 * zlib.crc32(who.encode()) + number
            rows = _make_rows(table, 12, seed)
            tree = lake.tree if table == "sources" else None
            commit.replace(stage_part(rows, table, f"{who}-{number % 7}", staging / table, tree), staging / table)
        lake.commit(commit)
    print(lake.snapshot().number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.full
def test_committers_take_turns_and_lose_nothing(lake: Lake, make_rows: MakeRows, python: Python) -> None:
    here = Path(__file__).parents[2]
    committers = [python(_COMMIT_MANY, lake.root, who, 12, here) for who in ("a", "b", "c")]
    seen: list[int] = []
    while any(one.poll() is None for one in committers):
        snapshot = lake.snapshot()
        seen.append(snapshot.number)
        assert (
            snapshot.read("sources").num_rows
            == snapshot.n_rows("sources")
            == n_rows_told(snapshot, "sources")
        )
        assert set(snapshot.parts("sources")) == set(snapshot.parts("frames")), "two tables, one commit"
    for one in committers:
        assert one.communicate(timeout=900)[1] == ""
        assert one.returncode == 0
    assert seen == sorted(seen)
    last = lake.snapshot()
    assert last.number == 1 + 3 * 12
    assert set(last.parts("sources")) == {f"{who}-{number}" for who in "abc" for number in range(7)}
    for who in "abc":
        for number in range(7):
            rows = last.read("sources", where=lambda part, name=f"{who}-{number}": part.name == name)
            assert same(rows, make_rows("sources", 12, max(n for n in range(12) if n % 7 == number)))


@pytest.mark.slow
@pytest.mark.full
def test_a_committer_killed_at_any_moment_leaves_the_lake_whole(lake: Lake, python: Python, put: Put,
                                                                make_rows: MakeRows) -> None:  # fmt: skip
    here = Path(__file__).parents[2]
    for attempt in range(4):
        victim = python(_COMMIT_MANY, lake.root, f"v{attempt}", 500, here)
        assert victim.stdout is not None
        assert victim.stdout.readline() == "ready\n"
        assert int(victim.stdout.readline()) > 1
        time.sleep(0.031 * attempt)
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        snapshot = lake.snapshot()
        assert (
            snapshot.read("sources").num_rows
            == snapshot.n_rows("sources")
            == n_rows_told(snapshot, "sources")
        )
        after = put(lake, ("sources", "after", make_rows("sources", 9, attempt)))
        assert after.read("sources", where=lambda part: part.name == "after").num_rows == 9
    assert len(lake.snapshot().parts("sources")) > 4


@contextmanager
def little_space(limit: int) -> Iterator[None]:
    """Let the system refuse files larger than a limit, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0, 150, 500, 2000, 5000])
def test_a_disk_that_is_full_leaves_the_last_snapshot_current(
    lake: Lake, make_rows: MakeRows, put: Put, limit: int
) -> None:
    """Commits fail at one file or another."""
    put(lake, ("sources", "c-1", make_rows("sources", 40, 1)), ("frames", "c-1", make_rows("frames", 5, 1)))
    commit = Commit("test", "full")
    with lake.stage("test") as staging:
        for table in ("frames", "sources"):
            tree = lake.tree if table == "sources" else None
            part = stage_part(make_rows(table, 50, 9), table, "c-9", staging / table, tree)
            commit.replace(part, staging / table)
        told = "the commit of test full could not be written .* is as it was before"
        with pytest.raises(LakeError, match=told), little_space(limit):
            lake.commit(commit)
    snapshot = lake.snapshot()
    assert snapshot.number == 2
    assert set(snapshot.parts("sources")) == set(snapshot.parts("frames")) == {"c-1"}
    assert same(snapshot.read("sources"), make_rows("sources", 40, 1))
    again = put(lake, ("sources", "c-2", make_rows("sources", 10, 2)))
    assert same(again.read("sources"), make_rows("sources", 40, 1), make_rows("sources", 10, 2))
    assert again.duckdb().sql("SELECT count(*) FROM sources").fetchall() == [(50,)]


@pytest.mark.full
def test_a_committer_waits_for_the_lock(lake: Lake, python: Python) -> None:
    import fcntl

    descriptor = os.open(lake.layout.lock_file, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    waiting = python(_COMMIT_MANY, lake.root, "w", 1, Path(__file__).parents[2])
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "ready\n"
    time.sleep(0.4)
    assert waiting.poll() is None
    assert lake.snapshot().number == 1
    os.close(descriptor)
    assert waiting.communicate(timeout=900)[0] == "2\n"
