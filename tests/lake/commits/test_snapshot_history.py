from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pytest

from skylake.errors import LakeError, UsageError
from skylake.lake import Commit, Lake, Retention, Snapshot
from skylake.lake.commits.snapshot_history import _number_or_time

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]


@pytest.fixture
def grown(lake: Lake, make_rows: MakeRows, put: Put) -> list[Snapshot]:
    """Snapshots of a lake that got a night in each, from the empty one on."""
    snapshots = [lake.snapshot()]
    for night in range(1, 5):
        time.sleep(0.002)
        snapshots.append(put(lake, ("frames", f"c-{night}", make_rows("frames", 10 * night, night))))
    return snapshots


def test_a_lake_is_read_as_it_was_at_every_snapshot(lake: Lake, grown: list[Snapshot]) -> None:
    for number, expected in enumerate((0, 10, 30, 60, 100), start=1):
        for name in (number, str(number)):
            assert lake.snapshot(name).n_rows("frames") == expected
            assert lake.snapshot(name).read("frames").equals(grown[number - 1].read("frames"))


def test_a_lake_is_read_as_it_was_at_every_time(lake: Lake, grown: list[Snapshot]) -> None:
    instant = timedelta(microseconds=1)
    for entry in lake.history():
        assert lake.snapshot(entry.time_utc).number == entry.snapshot
        if entry.snapshot > 1:
            assert lake.snapshot(entry.time_utc - instant).number == entry.snapshot - 1
    last = lake.history()[-1].time_utc
    assert lake.snapshot((last + timedelta(days=9)).isoformat()).number == len(grown)


def test_a_time_shown_by_history_finds_its_commit(lake: Lake, grown: list[Snapshot]) -> None:
    entries = lake.history()
    forms = (
        "%Y-%m-%d",
        "%Y-%m-%dT%H",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%d %H:%M:%S",
        "%Y%m%dT%H%M%SZ",
        "%Y-%m-%dt%H:%M",
    )
    for form in forms:
        for entry in entries:
            text = f"{entry.time_utc:{form}}"
            same = [one.snapshot for one in entries if f"{one.time_utc:{form}}" == text]
            assert lake.snapshot(text).number == max(same), text


@pytest.mark.parametrize(
    "text", ["2030-01-04T12:00", "2030-01-04t12:00", "2030-01-04_12:00Z", "20300104t1200"]
)
def test_a_minute_includes_all_its_seconds(text: str) -> None:
    assert _number_or_time(text) == datetime(2030, 1, 4, 12, 0, 59, 999999, UTC)


@pytest.mark.parametrize(("ahead", "is_told"), [(timedelta(seconds=5), False), (timedelta(days=400), True)])
def test_times_grow_though_a_clock_was_set_back(
    lake: Lake, grown: list[Snapshot], make_rows: MakeRows, put: Put, caplog: pytest.LogCaptureFixture,
    ahead: timedelta, is_told: bool,
) -> None:  # fmt: skip
    """The last commit was made by a machine whose clock is ahead."""
    path = lake.layout.record(5)
    record = json.loads(path.read_text())
    then = datetime.fromisoformat(record["time_utc"]) + ahead
    path.write_text(json.dumps(record | {"time_utc": then.isoformat(timespec="microseconds")}))
    with caplog.at_level("WARNING", logger="skylake"):
        for night in (6, 7):
            put(lake, ("frames", f"c-{night}", make_rows("frames", 5, night)))
    times = [entry.time_utc for entry in lake.history()]
    assert times == sorted(set(times))
    assert [lake.snapshot(time).number for time in times] == [1, 2, 3, 4, 5, 6, 7]
    told = [one.getMessage() for one in caplog.records]
    assert [
        f"but snapshot {number} was made at" in one for number, one in zip((5, 6), told, strict=False)
    ] == ([True, True] if is_told else [])


def test_a_commit_upon_one_whose_record_is_damaged_is_made(
    lake: Lake, grown: list[Snapshot], make_rows: MakeRows, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    lake.layout.record(5).write_text("{")
    with caplog.at_level("WARNING", logger="skylake"):
        assert put(lake, ("frames", "c-9", make_rows("frames", 7, 9))).number == 6
    assert "000005.json: the record of the ledger is damaged" in caplog.text


def test_a_time_without_a_zone_is_utc(lake: Lake, grown: list[Snapshot]) -> None:
    then = lake.history()[2].time_utc
    plain = then.replace(tzinfo=None).isoformat()
    elsewhere = then.astimezone(timezone(timedelta(hours=-10))).isoformat()
    assert lake.snapshot(plain).number == lake.snapshot(elsewhere).number == 3


def test_the_history_shows_what_every_commit_wrote(lake: Lake, grown: list[Snapshot]) -> None:
    entries = lake.history()
    assert [entry.snapshot for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry.base for entry in entries] == [None, 1, 2, 3, 4]
    assert [entry.rows for entry in entries] == [{}, *({"frames": 10 * n} for n in (1, 2, 3, 4))]
    assert all(entry.time_utc <= later.time_utc for entry, later in itertools.pairwise(entries))
    assert all(entry.kept for entry in entries)


@pytest.mark.parametrize("wrong", ["yesterday", "", "-3", "1.5", "2024-13-01"])
def test_what_is_neither_a_number_nor_a_time_is_refused(lake: Lake, wrong: str) -> None:
    with pytest.raises(UsageError, match="neither the number of a snapshot nor a time such as"):
        lake.snapshot(wrong)


def test_what_never_was_is_named(lake: Lake, grown: list[Snapshot]) -> None:
    with pytest.raises(LakeError, match=r"there is no snapshot 17; `skylake history` lists them"):
        lake.snapshot(17)
    with pytest.raises(LakeError, match=r"there was no lake at 2001-01-01T00:00:00\+00:00"):
        lake.snapshot(datetime(2001, 1, 1, tzinfo=UTC))
    with pytest.raises(LakeError, match=r"there was no lake at 2001-01-01; `skylake history`"):
        lake.snapshot("2001-01-01")


def test_a_rollback_is_a_new_snapshot_and_can_be_rolled_back(
    lake: Lake, grown: list[Snapshot], make_rows: MakeRows, put: Put
) -> None:
    back = lake.rollback(3)
    assert back.number == 6
    assert back.read("frames").equals(grown[2].read("frames"))
    assert lake.snapshot().number == 6
    onward = put(lake, ("frames", "c-9", make_rows("frames", 7, 9)))
    assert onward.n_rows("frames") == 37
    assert lake.rollback(5).read("frames").equals(grown[4].read("frames"))
    assert [(entry.stage, entry.batch) for entry in lake.history()][5] == ("rollback", "to 3")


def test_what_one_run_commits_is_one_entry(
    lake: Lake, grown: list[Snapshot], make_rows: MakeRows, put: Put
) -> None:
    for run in ("first", "second"):
        mine = Lake(lake.root, run)
        for night in (7, 8):
            rows = make_rows("frames", night, night)
            put(mine, ("frames", f"{run}-{night}", rows.slice(0, 0) if run == "second" else rows))
    runs = lake.runs()
    assert [(run.base, run.snapshot) for run in runs] == [
        *((entry.base, entry.snapshot) for entry in lake.history()[:5]), (5, 7), (7, 9),
    ]  # fmt: skip
    assert runs[5].rows == {"frames": 15} and runs[5].parts == {"frames": ("first-7", "first-8")}
    assert lake.runs(last=1) == runs[6:] and lake.runs(batch="first-8") == runs[5:6]
    assert len(lake.history()) == 9 and lake.history(last=1)[0].base == 8


def test_a_rollback_may_go_to_before_the_last_run(
    lake: Lake, grown: list[Snapshot], make_rows: MakeRows, put: Put
) -> None:
    mine = Lake(lake.root, "mine")
    for night in (7, 8):
        put(mine, ("frames", f"c-{night}", make_rows("frames", night, night)))
    assert lake.before_last_run().number == 5
    back = Lake(lake.root, "back").rollback(lake.before_last_run().number)
    assert back.read("frames").equals(grown[4].read("frames"))
    assert lake.before_last_run().number == 7, "what undoes the rollback"
    lake.rollback(1)
    with pytest.raises(LakeError, match="nothing has run on the lake yet"):
        Lake.create(lake.root.with_name("new")).before_last_run()


def test_runs_at_the_same_time_are_one_entry_each(
    lake: Lake, grown: list[Snapshot], make_rows: MakeRows, put: Put
) -> None:
    lakes = {run: Lake(lake.root, run) for run in "AB"}
    for night, run in enumerate("ABAB", 7):
        put(lakes[run], ("frames", f"{run}-{night}", make_rows("frames", night, night)))
    assert [(run.run, run.base, run.snapshot) for run in lake.runs(last=2)] == [("A", 5, 8), ("B", 6, 9)]
    kept = Retention(newest=2, days=0, months=0).keeps(lake.history())
    assert kept == {8, 9}, "the end of each"
    with pytest.raises(LakeError, match=r"would undo .*, snapshot 8; .* 5 or 6, as in `") as error:
        lake.before_last_run()
    command = str(error.value).split("`")[1]
    assert command == f"skylake rollback {lake.root} 6"
    assert lake.rollback(6).n_rows("frames") == grown[-1].n_rows("frames") + 7


def test_a_commit_that_never_became_current_is_not_history(
    lake: Lake, grown: list[Snapshot], make_rows: MakeRows, put: Put
) -> None:
    # What a process leaves that is killed right before it moves the pointer.
    lake.layout.snapshot(6).mkdir()
    record = lake.layout.ledger / "000005.json"
    (lake.layout.ledger / "000006.json").write_text(
        record.read_text().replace('"snapshot": 5', '"snapshot": 6')
    )
    assert [entry.snapshot for entry in lake.history()] == [1, 2, 3, 4, 5]
    made = put(lake, ("frames", "c-9", make_rows("frames", 7, 9)))
    assert made.number == 6
    assert made.n_rows("frames") == 107
    assert lake.history()[-1].rows == {"frames": 7}


def test_a_vacuumed_snapshot_is_named_with_the_nearest(lake: Lake, grown: list[Snapshot]) -> None:
    del grown[1:4]
    lake.vacuum(Retention(1, 0, 0))
    assert [entry.kept for entry in lake.history()] == [True, False, False, False, True]
    with pytest.raises(LakeError, match="the snapshot 3 was vacuumed; the nearest that is kept is"):
        lake.snapshot(3)


def test_a_damaged_record_is_named(lake: Lake) -> None:
    path = lake.layout.ledger / "000001.json"
    path.write_text("{")
    with pytest.raises(LakeError, match=rf"{path}: the record of the ledger is damaged"):
        lake.history()


def test_a_pointer_that_leads_nowhere_is_named(lake: Lake) -> None:
    lake.layout.current.unlink()
    lake.layout.current.symlink_to("_snapshots/000009")
    with pytest.raises(LakeError, match="the link 'current' leads to the snapshot 9, which is missing"):
        lake.snapshot()


def test_the_history_of_a_night_and_of_a_table(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    put(
        lake,
        ("frames", "c-20240101", make_rows("frames", 3, 1)),
        ("frames", "c-20240102", make_rows("frames", 3, 2)),
    )
    put(lake, ("zeropoints", "c-20240101-ref-v1", make_rows("zeropoints", 3, 1)))
    put(lake, ("frames", "c-202401011", make_rows("frames", 3, 3)))
    commit = Commit("forget", "c-20240101")
    commit.remove("frames", "c-20240101")
    lake.commit(commit)

    def found(**wanted: str) -> list[int]:
        return [entry.snapshot for entry in lake.history() if entry.is_of(**wanted)]

    assert found() == [1, 2, 3, 4, 5]
    assert found(batch="c-20240101") == [2, 3, 5]
    assert found(batch="c-20240102") == [2]
    assert found(table="zeropoints") == [3]
    assert found(batch="c-20240101", table="frames") == [2, 5]
    assert found(batch="c-2024") == found(table="maps") == []


def damage(lake: Lake, *numbers: int) -> None:
    for number in numbers:
        lake.layout.record(number).write_text("{")


def test_a_snapshot_is_found_by_number_without_records(lake: Lake, grown: list[Snapshot]) -> None:
    damage(lake, 1, 2, 3, 4, 5)
    assert [lake.snapshot(number).number for number in range(1, 6)] == [1, 2, 3, 4, 5]


def test_a_time_is_looked_up_in_few_records(lake: Lake, grown: list[Snapshot]) -> None:
    times = [entry.time_utc for entry in lake.history()]
    damage(lake, 1, 2)
    assert lake.snapshot(times[4]).number == 5
    assert lake.snapshot(times[3]).number == 4
    with pytest.raises(LakeError, match="the record of the ledger is damaged"):
        lake.snapshot(times[1])


def test_the_last_commits_are_listed_without_reading_others(lake: Lake, grown: list[Snapshot]) -> None:
    entries = lake.history()
    for last in range(1, 8):
        assert lake.history(last) == entries[-last:]
    assert lake.history(2, batch="c-3") == lake.history(table="frames")[2:3]
    damage(lake, 1, 2)
    assert lake.history(3) == lake.history(3, table="frames") == entries[-3:]
    with pytest.raises(LakeError, match=r"000002\.json: the record of the ledger is damaged"):
        lake.history(4)
