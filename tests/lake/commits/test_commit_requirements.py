from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pyarrow as pa
import pytest

from skylake.errors import LakeError
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.lake import Commit, Lake, Part, Snapshot, stage_part
from skylake.lake.commits.commit_requirements import changed_parts
from skylake.schema import load

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]
Digests = Callable[..., dict[str, str]]


def refused(lake: Lake, commit: Commit, words: str) -> bool:
    """Tell whether the commit is refused with these words, and the lake stays as it is."""
    before = lake.snapshot().number
    with pytest.raises(LakeError, match=words):
        lake.commit(commit)
    left = sorted(int(path.name) for path in lake.layout.snapshots.iterdir())
    return lake.snapshot().number == before and left == list(range(1, before + 1))


def test_a_part_that_somebody_else_changed_is_not_overwritten(
    lake: Lake, make_rows: MakeRows, put: Put
) -> None:
    base = put(lake, ("frames", "c-1", make_rows("frames", 5, 1)))
    put(lake, ("frames", "c-1", make_rows("frames", 6, 2)))
    with lake.stage("late") as staging:
        late = Commit("ingest", "c-1", base=base.number)
        late.replace(stage_part(make_rows("frames", 7, 3), "frames", "c-1", staging), staging)
        assert refused(lake, late, "another run has changed c-1 of frames in the meantime; run again")
    gone = Commit("ingest", "c-1", base=base.number)
    gone.remove("frames", "c-1")
    assert refused(lake, gone, "another run has changed c-1 of frames in the meantime")


def test_what_others_did_to_other_parts_does_not_matter(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    base = put(lake, ("frames", "c-1", make_rows("frames", 5, 1)))
    put(lake, ("frames", "c-2", make_rows("frames", 6, 2)))
    with lake.stage("late") as staging:
        late = Commit("ingest", "c-3", base=base.number)
        late.replace(stage_part(make_rows("frames", 7, 3), "frames", "c-3", staging), staging)
        assert lake.commit(late).n_rows("frames") == 18


def derived(lake: Lake, make_rows: MakeRows, base: Snapshot, *tables: str) -> Commit:
    """Return a commit of what was made from the night 1, as it was in a snapshot."""
    commit, staging = Commit("calibrate", "c-00000001", base=base.number), lake.root.with_name("derived")
    for table in tables:
        rows = make_rows(table, 8, 1, camera=["c"] * 8, night=[1] * 8)
        tree = lake.tree if load(table).layout.kind == "hats" else None
        part = stage_part(rows, table, "c-00000001-cat", staging / table, tree, "c", 1)
        commit.replace(part, staging / table)
    return commit


@pytest.fixture
def nights(lake: Lake, make_rows: MakeRows, put: Put) -> Snapshot:
    """The last snapshot of a lake with two nights."""
    for night in (1, 2):
        parts = [
            (table, f"c-{night:08d}", make_rows(table, n, night, camera=["c"] * n, night=[night] * n))
            for table, n in (("frames", 5), ("sources", 40))
        ]
        snapshot = put(lake, *parts, camera="c", night=night)
    return snapshot


@pytest.mark.parametrize("table", ["matches", "zeropoints", "forced_sources", "nights", "maps"])
@pytest.mark.parametrize("gone", ["forgotten", "rolled back", "without detections"])
def test_products_of_a_night_gone_meanwhile_are_refused(
    lake: Lake, make_rows: MakeRows, nights: Snapshot, table: str, gone: str
) -> None:
    if gone == "rolled back":
        lake.rollback(1)
    else:
        commit = Commit("forget", "c-00000001", base=nights.number)
        for one in ("frames", "sources")[gone == "without detections" :]:
            commit.remove(one, "c-00000001")
        lake.commit(commit)
    changed = "sources" if gone == "without detections" else "frames"
    late = derived(lake, make_rows, nights, table)
    assert refused(lake, late, f"another run has changed c-00000001 of {changed} in the meantime; run again")


@pytest.mark.parametrize(("table", "is_taken"), [("matches", False), ("zeropoints", False), ("nights", True)])
def test_products_of_frames_gone_meanwhile_are_refused(
    lake: Lake, make_rows: MakeRows, put: Put, nights: Snapshot, table: str, is_taken: bool
) -> None:
    """But for sums over the night, which are then out of date and made anew by the next run."""
    fewer = make_rows("frames", 4, 1, camera=["c"] * 4, night=[1] * 4)
    put(lake, ("frames", "c-00000001", fewer), camera="c", night=1)
    late = derived(lake, make_rows, nights, table)
    if is_taken:
        assert lake.commit(late).n_rows(table) == 8
    else:
        assert refused(lake, late, "another run has changed c-00000001 of frames in the meantime; run again")


def test_changes_of_other_nights_do_not_matter(
    lake: Lake, make_rows: MakeRows, put: Put, nights: Snapshot
) -> None:
    put(lake, ("frames", "c-00000002", make_rows("frames", 7, 2)), camera="c", night=2)
    compact(lake, Inline(), ["frames", "sources"], everything=True)
    assert lake.commit(derived(lake, make_rows, nights, "matches", "zeropoints")).n_rows("matches") == 8


def test_a_frame_that_another_run_took_in_is_refused(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    base = lake.snapshot()
    rows = make_rows("frames", 5, 1)
    put(lake, ("frames", "c-1", rows))
    with lake.stage("late") as staging:
        late = Commit("ingest", "c-2", base=base.number)
        late.replace(stage_part(rows, "frames", "c-2", staging), staging)
        assert refused(lake, late, r"frame 1000 would be in the lake twice \(5 such frames\)")


def test_a_frame_of_a_night_that_nobody_has_changed_is_refused(
    lake: Lake, make_rows: MakeRows, put: Put
) -> None:
    rows = make_rows("frames", 5, 1)
    put(lake, ("frames", "c-1", rows), ("frames", "c-2", make_rows("frames", 5, 2)))
    base = put(lake, ("frames", "c-3", make_rows("frames", 5, 3)))
    with lake.stage("late") as staging:
        for number in (None, base.number):
            late = Commit("ingest", "c-2", base=number)
            both = pa.concat_tables([rows.slice(3), make_rows("frames", 4, 4)])
            late.replace(stage_part(both, "frames", "c-2", staging / str(number)), staging / str(number))
            assert refused(lake, late, r"frame 1003 would be in the lake twice \(2 such frames\)")


def test_frames_in_bundles_count_too_unless_their_part_goes(
    lake: Lake, make_rows: MakeRows, put: Put
) -> None:
    """One part of the bundle is replaced, the other stays in it."""
    rows = {night: make_rows("frames", 5, night, camera=["c"] * 5, night=[night] * 5) for night in (1, 2)}
    for night, one in rows.items():
        put(lake, ("frames", f"c-{night}", one), camera="c", night=night)
    compact(lake, Inline(), ["frames"], everything=True)
    assert set(lake.snapshot().version("frames").bundle_of) == {"c-1", "c-2"}
    with lake.stage("again") as staging:
        again = Commit("ingest", "c-1")
        part = stage_part(rows[1], "frames", "c-1", staging, camera="c", night=1, inputs={"again": "1"})
        again.replace(part, staging)
        other = Commit("ingest", "c-1")
        other.replace(stage_part(rows[2], "frames", "c-1", staging / "2", camera="c", night=1), staging / "2")
        assert refused(lake, other, r"frame 2000 would be in the lake twice \(5 such frames\)")
        assert lake.commit(again).n_rows("frames") == 10


def test_unreadable_other_nights_block_new_frames(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    base = put(lake, ("frames", "c-1", make_rows("frames", 5, 1)))
    (path,) = base.version("frames").whole_files()
    path.unlink()
    path.write_bytes(b"PAR1 no more")
    with lake.stage("late") as staging:
        late = Commit("ingest", "c-2")
        late.replace(stage_part(make_rows("frames", 5, 2), "frames", "c-2", staging), staging)
        assert refused(lake, late, "the frames of other nights cannot be read .*`skylake verify` shows which")


def test_a_frame_may_move_to_another_part_in_one_commit(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    rows = make_rows("frames", 5, 1)
    base = put(lake, ("frames", "c-1", rows))
    put(lake, ("frames", "c-7", make_rows("frames", 3, 7)))
    with lake.stage("move") as staging:
        move = Commit("ingest", "c-2", base=base.number)
        move.remove("frames", "c-1")
        move.replace(stage_part(rows, "frames", "c-2", staging), staging)
        assert lake.commit(move).n_rows("frames") == 8


def test_a_frame_twice_in_one_part_is_refused(lake: Lake, make_rows: MakeRows) -> None:
    rows = make_rows("frames", 5, 1)
    with lake.stage("twice") as staging:
        commit = Commit("ingest", "c-1")
        commit.replace(stage_part(pa.concat_tables([rows, rows]), "frames", "c-1", staging), staging)
        assert refused(lake, commit, "would be in the lake twice")


@pytest.mark.parametrize("damage", ["missing", "truncated", "other"])
def test_a_staged_file_that_is_not_what_was_written_is_refused(
    lake: Lake, make_rows: MakeRows, damage: str
) -> None:
    with lake.stage("damaged") as staging:
        part = stage_part(make_rows("sources", 50, 1), "sources", "c-1", staging, lake.tree)
        path = staging / part.files[0].path
        if damage == "missing":
            path.unlink()
        elif damage == "truncated":
            path.write_bytes(path.read_bytes()[:-9])
        else:
            path.write_bytes((staging / part.files[1].path).read_bytes())
        commit = Commit("ingest", "c-1")
        commit.replace(part, staging)
        assert refused(lake, commit, rf"{path}: the staged file (cannot be read|has \d+ rows)")


def test_rows_under_another_schema_are_refused(lake: Lake, make_rows: MakeRows) -> None:
    with lake.stage("old") as staging:
        part = stage_part(make_rows("frames", 5, 1), "frames", "c-1", staging)
        old: Part = dataclasses.replace(part, schema_sha256="0" * 64)
        commit = Commit("ingest", "c-1")
        commit.replace(old, staging)
        assert refused(lake, commit, "c-1 of frames was written under another version of the schema")


def test_changes_are_found_without_links_too(
    lake: Lake, make_rows: MakeRows, put: Put, tmp_path: object
) -> None:
    first = put(
        lake, ("frames", "c-1", make_rows("frames", 5, 1)), ("frames", "c-2", make_rows("frames", 5, 2))
    )
    second = put(
        lake, ("frames", "c-2", make_rows("frames", 6, 3)), ("frames", "c-3", make_rows("frames", 6, 4))
    )
    old, new = first.version("frames"), second.version("frames")
    assert changed_parts(old, new) == changed_parts(new, old) == {"c-2", "c-3"}
    assert changed_parts(new, new) == set()
    copy = new.folder / "_parts" / "c-1.json"
    text = copy.read_text()
    copy.unlink()
    copy.write_text(text)
    assert changed_parts(old, new) == {"c-2", "c-3"}
