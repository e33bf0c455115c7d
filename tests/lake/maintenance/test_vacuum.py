from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.errors import LakeError
from skylake.lake import Lake, Retention, Snapshot
from skylake.lake.commits.internal_links import mark_current, newest_ever
from skylake.lake.commits.ledger_records import LedgerEntry
from skylake.lake.integrity.lake_facts import gather_facts

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]
START = datetime(2020, 1, 1, tzinfo=UTC)


def entries(hours: list[float]) -> list[LedgerEntry]:
    times = (START + timedelta(hours=hour) for hour in sorted(hours))
    return [LedgerEntry(number, None, time, "ingest", "-", "1") for number, time in enumerate(times, start=1)]


@given(
    st.lists(st.floats(0, 20000), min_size=1, max_size=60),
    st.integers(1, 9),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_the_newest_and_the_last_of_days_and_months_stay(
    hours: list[float], newest: int, days: int, months: int
) -> None:
    found = entries(hours)
    kept = Retention(newest, days, months).keeps(found)
    by_day = {entry.time_utc.date(): entry.snapshot for entry in found}
    by_month = {entry.time_utc.date().replace(day=1): entry.snapshot for entry in found}
    expected = {entry.snapshot for entry in found[-newest:]}
    expected |= {by_day[day] for day in sorted(by_day, reverse=True)[:days]}
    expected |= {by_month[month] for month in sorted(by_month, reverse=True)[:months]}
    assert kept == expected
    assert found[-1].snapshot in kept
    assert len(kept) <= newest + days + months


def in_run(lake: Lake, run: str, make_rows: MakeRows, put: Put, count: int) -> Lake:
    mine = Lake(lake.root, run)
    for night in range(count):
        put(mine, ("frames", f"{run}-{night}", make_rows("frames", 2, 100 * len(run) + night)))
    return mine


def kept(lake: Lake) -> list[int]:
    return sorted(int(path.name) for path in lake.layout.snapshots.iterdir())


def test_a_run_counts_once_and_its_last_state_stays(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    in_run(lake, "a", make_rows, put, 4)
    assert kept(lake) == [1, 2, 3, 4, 5], "the states of a run that may be under way"
    in_run(lake, "ab", make_rows, put, 3)
    assert kept(lake) == [1, 5, 6, 7, 8], "the first commit of a run drops those of the one before"
    in_run(lake, "abc", make_rows, put, 1)
    assert kept(lake) == [1, 5, 8, 9]
    assert lake.vacuum(Retention(2, 0, 0)).snapshots == [1, 5]


def test_the_newest_states_of_a_long_run_stay_meanwhile(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    for name in ("keep_newest", "keep_days", "keep_months"):
        lake.set(name, 3)
    in_run(lake, "a", make_rows, put, 20)
    assert kept(lake) == [1, 18, 19, 20, 21]
    lake.vacuum()
    assert kept(lake) == [1, 21]


def nights(lake: Lake, make_rows: MakeRows, put: Put, count: int) -> None:
    for night in range(1, count + 1):
        put(
            lake,
            ("frames", f"c-{night}", make_rows("frames", 5, night)),
            ("sources", f"c-{night}", make_rows("sources", 40, night)),
        )


def test_what_is_kept_stays_whole_and_the_rest_goes(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    nights(lake, make_rows, put, 5)
    before = {number: lake.snapshot(number).read("sources") for number in (5, 6)}
    report = lake.vacuum(Retention(2, 0, 0))
    assert report.snapshots == [1, 2, 3, 4]
    assert sorted(path.name for path in lake.layout.snapshots.iterdir()) == ["000005", "000006"]
    assert len(list(lake.layout.versions("sources").iterdir())) == 2
    for number, rows in before.items():
        assert lake.snapshot(number).read("sources").equals(rows)
    assert lake.vacuum(Retention(2, 0, 0)).snapshots == []


def test_replaced_files_free_their_bytes(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    put(lake, ("frames", "c-1", make_rows("frames", 500, 1)))
    size = sum(part.files[0].n_bytes for part in lake.snapshot().parts("frames").values())
    put(lake, ("frames", "c-1", make_rows("frames", 5, 2)))
    assert lake.vacuum(Retention(1, 0, 0)).n_bytes >= size


def test_a_snapshot_that_is_read_stays(
    lake: Lake, make_rows: MakeRows, put: Put, python: Callable[..., object]
) -> None:
    nights(lake, make_rows, put, 3)
    reader = lake.snapshot(2)
    report = lake.vacuum(Retention(1, 0, 0))
    assert (report.snapshots, report.n_in_use) == ([1, 3], 1)
    assert reader.read("sources").num_rows == 40
    del reader
    assert lake.vacuum(Retention(1, 0, 0)).snapshots == [2]


@pytest.fixture
def files_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system lock files but no folders, as that of some network file systems does."""
    flock = fcntl.flock

    def refuse_folders(descriptor: int, how: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", refuse_folders)


def age(folder: Path) -> None:
    os.utime(folder, (time.time() - 2 * 86400,) * 2)


@pytest.mark.usefixtures("files_only")
def test_a_snapshot_being_read_stays_without_folder_locks(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    nights(lake, make_rows, put, 3)
    for folder in lake.layout.snapshots.iterdir():
        if folder.is_dir():
            age(folder)
    reader = lake.snapshot(2)
    report = lake.vacuum(Retention(1, 0, 0))
    assert (report.snapshots, report.n_in_use) == ([1, 3], 1)
    assert reader.read("sources").num_rows == 40
    del reader
    assert lake.vacuum(Retention(1, 0, 0)).snapshots == [2]
    assert {path.name for path in lake.layout.snapshots.iterdir()} == {"000004", ".000004.held"}


@pytest.mark.usefixtures("files_only")
def test_the_staging_of_a_long_run_stays_without_folder_locks(
    lake: Lake, make_rows: MakeRows, put: Put
) -> None:
    left = lake.layout.staging / "ingest-sim.dead"
    left.mkdir()
    age(left)
    with lake.stage("ingest") as mine:
        (mine / "frames").mkdir()
        age(mine)
        nights(lake, make_rows, put, 1)
        assert mine.is_dir() and not left.exists()
    lake.vacuum()
    assert list(lake.layout.staging.iterdir()) == []


def test_versions_that_no_snapshot_leads_to_go(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    nights(lake, make_rows, put, 1)
    orphan = lake.layout.version("sources", 99)
    shutil.copytree(lake.snapshot().folder("sources"), orphan)
    assert lake.vacuum().n_versions == 1
    assert not orphan.exists()
    assert lake.snapshot().n_rows("sources") == 40


def test_a_removed_folder_never_returns_with_other_rows(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    """Who has resolved a path, and reads it later, gets an error and no other rows."""
    nights(lake, make_rows, put, 2)
    path = lake.snapshot().folder("sources")
    lake.rollback(2)
    lake.vacuum(Retention(1, 0, 0))
    put(lake, ("sources", "c-2", make_rows("sources", 9, 7)))
    assert not path.exists()
    assert lake.snapshot().folder("sources").name > path.name


def test_staging_of_dead_processes_goes_and_of_live_ones_stays(lake: Lake) -> None:
    left = lake.layout.staging / "ingest-sim.dead"
    (left / "frames").mkdir(parents=True)
    with lake.stage("ingest") as mine:
        (mine / "frames").mkdir()
        lake.vacuum()
        assert mine.is_dir()
        assert not left.exists()


@pytest.mark.slow
def test_old_snapshots_are_thinned_out_by_commits(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    for name in ("keep_newest", "keep_days", "keep_months"):
        lake.set(name, 1)
    for night in range(1, 45):
        put(lake, ("frames", f"c-{night}", make_rows("frames", 2, night)))
    kept = sorted(int(path.name) for path in lake.layout.snapshots.iterdir())
    assert kept[0] >= 40
    assert lake.snapshot().n_rows("frames") == 88
    assert len(lake.history()) == 45


def test_a_lake_that_cannot_be_written_says_so(
    lake: Lake, make_rows: MakeRows, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights(lake, make_rows, put, 2)

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(LakeError, match=r"could not be vacuumed \(Read-only file system\)"):
        lake.vacuum(Retention(1, 0, 0))


def test_only_records_of_snapshots_that_are_there_are_read(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    nights(lake, make_rows, put, 3)
    lake.vacuum(Retention(2, 0, 0))
    for number in (1, 2):
        lake.layout.record(number).write_text("{")
    assert lake.vacuum(Retention(1, 0, 0)).snapshots == [3]
    lake.layout.record(4).write_text("{")
    with pytest.raises(LakeError, match=r"000004\.json: the record of the ledger is damaged"):
        lake.vacuum()


def test_a_snapshot_whose_record_is_lost_stays(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    nights(lake, make_rows, put, 2)
    lake.layout.record(2).unlink()
    assert lake.vacuum(Retention(1, 0, 0)).snapshots == [1]
    assert lake.snapshot(2).n_rows("frames") == 5


def test_a_commit_stands_though_thinning_out_after_it_fails(
    lake: Lake, make_rows: MakeRows, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    nights(lake, make_rows, put, 18)
    lake.layout.record(7).write_text("{")
    with caplog.at_level("WARNING", logger="skylake"):
        made = put(lake, ("frames", "c-99", make_rows("frames", 5, 99)))
    assert made.number == lake.snapshot().number == 20
    assert lake.snapshot().n_rows("frames") == 95
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith("the commit is made, but old snapshots stay until the next vacuum: ")
    assert "000007.json: the record of the ledger is damaged" in message


def point_to(lake: Lake, number: int) -> None:
    lake.layout.current.unlink()
    lake.layout.current.symlink_to(f"_snapshots/{number:06d}")


@pytest.mark.slow
@pytest.mark.parametrize("back", [3, 4])
@pytest.mark.parametrize("noted", [True, False])
def test_snapshots_after_a_pointer_moved_by_hand_stay(
    lake: Lake, make_rows: MakeRows, put: Put, back: int, noted: bool
) -> None:
    nights(lake, make_rows, put, 4)
    newest = lake.snapshot().read("sources")
    if not noted:  # as in a lake of an older skylake, where one snapshot may be that of an interrupted commit
        lake.layout.newest_file.unlink()
        back = 3
    point_to(lake, back)
    for attempt in (
        lake.vacuum,
        lambda: put(lake, ("frames", "c-9", make_rows("frames", 5, 9))),
        lambda: lake.rollback(2),
    ):
        with pytest.raises(LakeError, match=rf"pointed back to snapshot {back} by hand.*up to 5") as refused:
            attempt()
    assert lake.snapshot().n_rows("frames") == 5 * (back - 1)
    facts = gather_facts(lake.layout)
    assert [problem for _, problem in facts.relations.values("pointers", "link", "problem") if problem] == [
        f"leads back to the snapshot {back}, though 5 was current since"
    ]
    subprocess.run(re.findall(r"`(ln .*?)`", str(refused.value))[0], shell=True, check=True)
    assert lake.rollback(back).number == 6
    assert lake.snapshot().n_rows("frames") == 5 * (back - 1)
    assert lake.snapshot(5).read("sources").equals(newest)


def test_removed_newest_snapshots_continue_from_the_one_before(
    lake: Lake, make_rows: MakeRows, put: Put
) -> None:
    nights(lake, make_rows, put, 4)
    for number in (3, 4, 5):
        shutil.rmtree(lake.layout.snapshot(number))
    lake.layout.record(4).unlink()
    (lake.layout.ledger / ".000006.json.0123ab.tmp").write_text("{")
    for number in (6, 7):
        lake.layout.record(number).write_text("{")
    point_to(lake, 2)
    lake.vacuum()
    assert sorted(path.name for path in lake.layout.snapshots.iterdir()) == ["000001", "000002"]
    assert sorted(path.name for path in lake.layout.ledger.iterdir()) == ["000001.json", "000002.json"]
    # A commit that is interrupted then is no snapshot that was removed by hand.
    shutil.copytree(lake.layout.snapshot(2), lake.layout.snapshot(3), symlinks=True)
    assert put(lake, ("frames", "c-9", make_rows("frames", 5, 9))).number == 3
    point_to(lake, 2)
    with pytest.raises(LakeError, match="pointed back to snapshot 2 by hand"):
        lake.vacuum()


def test_an_interrupted_commit_is_removed_and_noted(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    """A process may be killed between moving the pointer and noting that."""
    nights(lake, make_rows, put, 2)
    shutil.copytree(lake.layout.snapshot(3), lake.layout.snapshot(4), symlinks=True)
    mark_current(lake.layout, 2)
    lake.vacuum()
    assert (lake.snapshot().number, newest_ever(lake.layout)) == (3, 3)
    assert not lake.layout.snapshot(4).exists()
