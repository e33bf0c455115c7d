"""What is forgotten is gone with all that was measured on it, and nothing else is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from skylake.core.batch import Batch
from skylake.errors import LakeError, UsageError
from skylake.flow.aggregates import aggregate, outdated
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.gather_night import files_sha256
from skylake.flow.maintenance.forget_frames import find, forget, parse_batch, preview
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.lake import Lake, Retention
from skylake.schema.parquet import write_parquet

pytestmark = pytest.mark.xdist_group("lsdb")

Run = Callable[..., Any]
FIRST, SECOND = Batch("small", 20241001), Batch("small", 20241002)
BY_FRAME = ("frames", "sources", "matches", "zeropoints")


@pytest.fixture(scope="module")
def bundled_once(calibrated_once: Lake, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    root = tmp_path_factory.mktemp("bundled") / "lake"
    lake = Lake(shutil.copytree(calibrated_once.root, root, symlinks=True))
    compact(lake, Inline(), everything=True)
    return lake


@pytest.fixture(params=["own files", "one bundle"])
def whole(request: pytest.FixtureRequest, calibrated: Lake, bundled_once: Lake, tmp_path: Path) -> Lake:
    if request.param == "own files":
        return calibrated
    return Lake(shutil.copytree(bundled_once.root, tmp_path / "bundled", symlinks=True))


def frames_of(lake: Lake, batch: Batch) -> list[int]:
    return sorted(lake.snapshot().read_part("frames", str(batch), ["frame_id"])["frame_id"].to_pylist())


def counts(lake: Lake, table: str) -> dict[int, int]:
    rows = lake.snapshot().read(table, ["frame_id"])["frame_id"]
    return {item["values"]: item["counts"] for item in rows.value_counts().to_pylist()}


def go(lake: Lake, frames: list[int], *batches: Batch) -> Any:
    return forget(lake, find(lake.snapshot(), frames, batches), Inline())


def curve_frames(lake: Lake) -> set[int]:
    with lake.snapshot().duckdb() as connection:
        return {
            one for (one,) in connection.execute("SELECT DISTINCT frame_id FROM lightcurve_points").fetchall()
        }


@pytest.mark.slow
def test_frames_of_several_nights_go_with_their_rows(whole: Lake) -> None:
    chosen = [frames_of(whole, FIRST)[0], *frames_of(whole, SECOND)[:2]]
    before = {table: counts(whole, table) for table in BY_FRAME}
    old = whole.snapshot()
    wanted = find(old, chosen, [])
    expected = preview(old, wanted)
    report = forget(whole, wanted, Inline())
    assert report.rows == expected.rows == {
        table: sum(before[table][frame] for frame in chosen) for table in BY_FRAME
    }  # fmt: skip
    for table in BY_FRAME:
        assert counts(whole, table) == {
            frame: count for frame, count in before[table].items() if frame not in chosen
        }
        part = next(iter(whole.snapshot().parts(table).values()))
        assert part.inputs and part.inputs.keys() == old.parts(table)[part.name].inputs.keys()
        assert old.read(table).num_rows == sum(before[table].values()), "time travel"
    rows = whole.snapshot().read_part("frames", str(FIRST))
    for table in ("frames", "sources"):
        assert whole.snapshot().parts(table)[str(FIRST)].inputs["files"] == files_sha256(rows)
    assert report.snapshot == whole.snapshot().number > old.number
    assert whole.history()[-1].stage == "forget"


@pytest.mark.slow
def test_what_follows_is_stale_and_renewed_without_the_frames(whole: Lake) -> None:
    gone = frames_of(whole, FIRST)[3]
    assert gone in curve_frames(whole)
    go(whole, [gone])
    found = {table: set(state.why) for table, state in outdated(whole).items()}
    assert found["matches"] == {f"{FIRST}-simcat"} and found["nights"] == found["maps"] == {str(FIRST)}
    assert found["lightcurves"]
    calibrate(whole, Inline())
    aggregate(whole, [], Inline())
    assert not any(state.why for state in outdated(whole).values())
    assert gone not in curve_frames(whole)
    assert len(counts(whole, "zeropoints")) == 11


@pytest.mark.slow
def test_a_night_goes_whole_and_the_other_stays_as_it_was(whole: Lake) -> None:
    old = whole.snapshot()
    report = go(whole, [], FIRST)
    assert report.nights == [str(FIRST)]
    after = whole.snapshot()
    for table in (*BY_FRAME, "nights", "maps"):
        kept = {name: part for name, part in old.parts(table).items() if part.night == SECOND.night}
        assert {name: part.checksum for name, part in after.parts(table).items()} == {
            name: part.checksum for name, part in kept.items()
        }
        assert after.read(table).num_rows == after.n_rows(table) == sum(part.n_rows for part in kept.values())
    calibrate(whole, Inline())
    aggregate(whole, [], Inline())
    assert curve_frames(whole) <= set(frames_of(whole, SECOND))


def test_all_frames_of_a_night_are_the_night(calibrated: Lake) -> None:
    report = go(calibrated, frames_of(calibrated, SECOND))
    assert report.nights == [str(SECOND)]
    assert {part.night for part in calibrated.snapshot().parts("maps").values()} == {FIRST.night}


def test_a_later_ingest_takes_forgotten_frames_up_again(ingested: Lake, archive: Any, run: Run) -> None:
    before = {table: counts(ingested, table) for table in ("frames", "sources")}
    go(ingested, [frames_of(ingested, FIRST)[2]], SECOND)
    assert run(ingested, archive.out / "frames").counts == {"ok": 7}
    assert {table: counts(ingested, table) for table in ("frames", "sources")} == before


@pytest.mark.slow
def test_after_a_vacuum_no_file_has_a_forgotten_frame(whole: Lake) -> None:
    gone = frames_of(whole, FIRST)[1]
    go(whole, [gone])
    calibrate(whole, Inline())
    aggregate(whole, [], Inline())
    assert gone in frame_ids_on_disk(whole)
    whole.vacuum(Retention(1, 0, 0))
    found = frame_ids_on_disk(whole)
    assert gone not in found and len(found) == 11


def frame_ids_on_disk(lake: Lake) -> set[int]:
    found: set[int] = set()
    for path in lake.root.rglob("*.parquet"):
        names = pq.read_schema(path).names
        if "lightcurve" in names:
            nested = pq.read_table(path, columns=["lightcurve"], partitioning=None)["lightcurve"]
            found |= {frame for row in nested.to_pylist() for frame in row["frame_id"]}
        elif "frame_id" in names:
            found |= set(pq.read_table(path, columns=["frame_id"], partitioning=None)["frame_id"].to_pylist())
    return found


def test_what_is_not_there_is_named(ingested: Lake) -> None:
    with pytest.raises(UsageError, match="there is no frame 17 in the lake; `skylake sql` finds frames"):
        find(ingested.snapshot(), [frames_of(ingested, FIRST)[0], 17], [])
    with pytest.raises(UsageError, match="there is no night small-20300101 in the lake"):
        find(ingested.snapshot(), [], [Batch("small", 20300101)])
    for text in ("small", "20241001", "small-2024100", "-20241001"):
        with pytest.raises(UsageError, match="is no night of a camera; write it as sim-20241001"):
            parse_batch(text)
    assert parse_batch("my-sky-20241001") == Batch("my-sky", 20241001)


def test_frames_that_came_meanwhile_are_not_forgotten(lake: Lake, frames: list[Path], run: Run) -> None:
    run(lake, [*frames[:3], frames[6]])
    for batches in ([], [FIRST]):
        snapshot = lake.snapshot()
        wanted = find(snapshot, frames_of(lake, FIRST), batches)
        assert wanted.nights == {FIRST} and preview(snapshot, wanted).rows["frames"] in (3, 4)
        run(lake, frames[: len(frames_of(lake, FIRST)) + 1])
        before = frames_of(lake, FIRST)
        with pytest.raises(
            LakeError, match=f"another run has changed {FIRST} of frames in the meantime; run again"
        ):
            forget(lake, wanted, Inline())
        assert frames_of(lake, FIRST) == before
    run(lake, frames[7:9])
    snapshot = lake.snapshot()
    wanted = find(snapshot, frames_of(lake, FIRST), [])
    run(lake, frames[9:11])
    assert forget(lake, wanted, Inline()).rows["frames"] == 5, "the other night does not matter"
    assert set(lake.snapshot().parts("frames")) == {str(SECOND)}


@pytest.mark.parametrize("whole_night", [False, True])
def test_what_was_measured_meanwhile_goes_with_the_night(ingested: Lake, whole_night: bool) -> None:
    snapshot = ingested.snapshot()
    ids = frames_of(ingested, FIRST)
    wanted = find(snapshot, ids if whole_night else ids[:2], [])
    calibrate(ingested, Inline())
    with pytest.raises(
        LakeError, match=f"another run has changed {FIRST}-simcat.* of matches in the meantime"
    ):
        forget(ingested, wanted, Inline())
    assert set(counts(ingested, "matches")) & set(ids) and frames_of(ingested, FIRST) == ids


def test_a_night_redone_meanwhile_is_not_overwritten(ingested: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run forgets a frame of the same night between the reading and the commit of this one."""
    mine, theirs = frames_of(ingested, FIRST)[:2]
    real = ingested.commit

    def late(commit: Any) -> Any:
        monkeypatch.undo()
        go(ingested, [theirs])
        return real(commit)

    monkeypatch.setattr(ingested, "commit", late)
    with pytest.raises(
        LakeError, match=r"another run has changed small-20241001 of frames in the meantime; run again"
    ):
        go(ingested, [mine])
    assert mine in frames_of(ingested, FIRST) and theirs not in frames_of(ingested, FIRST)


def test_no_file_is_made_of_rows_that_changed_on_the_disk(whole: Lake) -> None:
    """A bit that was flipped and decodes: the digest of the rows shows it, and must go on showing it."""
    version = whole.snapshot().version("sources")
    file = version.parts[str(FIRST)].files[0]
    path = version.folder / file.path
    rows = pq.read_table(path, partitioning=None)
    place = int(pc.index(rows["night"], FIRST.night).as_py())
    values = rows["mjd_mid"].to_pylist()
    values[place] += 1e-6
    column = rows.column_names.index("mjd_mid")
    write_parquet(rows.set_column(column, rows.schema.field(column), pa.array(values)), path)
    before = whole.snapshot().number
    with pytest.raises(LakeError, match=f"{path}: the rows are not those that were written"):
        go(whole, frames_of(whole, FIRST)[:1])
    assert whole.snapshot().number == before
