"""Compaction changes files, never content: of any history of nights, with any division of the sky."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skylake.errors import LakeError, UsageError
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.lake import Commit, Lake, Snapshot, stage_part
from skylake.lake.commits.build_version import refit
from skylake.schema.digest import rows_digest
from skylake.schema.parquet import write_parquet
from skylake.settings import Settings
from skylake.sky.pixels import PixelTree, pixel_range

NIGHTS = tuple(20240100 + day for day in range(1, 25))


def contents(snapshot: Snapshot, table: str) -> dict[str, str]:
    """The digest of each part, from its rows as they are read now."""
    return {name: rows_digest(snapshot.read_part(table, name)) for name in snapshot.parts(table)}


def files_per_pixel(snapshot: Snapshot, table: str) -> int:
    folders = [path.parent for path in snapshot.version(table).whole_files()]
    return max(folders.count(folder) for folder in set(folders))


Scattered = Callable[..., pa.Table]
PutNights = Callable[..., Snapshot]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, put_nights: PutNights) -> Path:
    """A lake with 20 nights of detections, in pixels of order 1."""
    lake = Lake.create(tmp_path_factory.mktemp("made") / "lake", Settings(pixel_order=1, pixel_rows=600))
    put_nights(lake, "sources", [(night, 150, 1) for night in NIGHTS[:20]])
    return lake.root


@pytest.fixture
def nightly(made: Path, tmp_path: Path, copy_lake: Callable[[Path, Path], Path]) -> Lake:
    return Lake(copy_lake(made, tmp_path / "lake"))


@pytest.mark.slow
@pytest.mark.parametrize("table", ["sources", "matches", "frames", "zeropoints"])
def test_the_rows_of_every_part_stay_the_same(table: str, tmp_path: Path, put_nights: PutNights) -> None:
    lake = Lake.create(tmp_path / "lake", Settings(pixel_order=1, pixel_rows=500))
    before = put_nights(
        lake, table, [(night, 60 if table in ("sources", "matches") else 1, 1) for night in NIGHTS]
    )
    compact(lake, Inline(), [table])
    after = lake.snapshot()
    assert after.number > before.number
    assert contents(after, table) == contents(before, table)
    assert {name: (part.checksum, part.inputs) for name, part in after.parts(table).items()} == {
        name: (part.checksum, part.inputs) for name, part in before.parts(table).items()
    }
    assert after.n_rows(table) == before.n_rows(table) == after.read(table).num_rows
    assert len(after.version(table).whole_files()) < len(before.version(table).whole_files())


def test_files_hold_sorted_rows_of_their_own_pixel_only(nightly: Lake) -> None:
    compact(nightly, Inline())
    version = nightly.snapshot().version("sources")
    assert {order for order, _ in version.pixels} > {1}, "dense pixels were divided"
    order = ["_healpix_29", "mjd_mid", "frame_id", "source_no"]
    for path in version.whole_files():
        rows = pq.read_table(path, partitioning=None)
        assert rows.equals(rows.sort_by([(name, "ascending") for name in order]))
        norder, npix = (int(path.parts[-4].split("=")[1]), int(path.parts[-2].split("=")[1]))
        low, high = pixel_range(norder, npix)
        index = rows["_healpix_29"].to_numpy()
        assert low <= index[0] and index[-1] < high


def test_no_pixel_has_more_rows_than_it_should(nightly: Lake) -> None:
    compact(nightly, Inline())
    version = nightly.snapshot().version("sources")
    rows = [pq.read_metadata(path).num_rows for path in version.whole_files()]
    assert max(rows) <= nightly.settings.pixel_rows
    assert sum(rows) == 20 * 150


def test_a_second_compaction_finds_nothing_to_do(nightly: Lake) -> None:
    first = compact(nightly, Inline())
    number = nightly.snapshot().number
    assert list(first.tables) == ["sources"]
    assert compact(nightly, Inline()).tables == {}
    assert nightly.snapshot().number == number


def test_nights_that_come_later_lie_in_the_divided_pixels(nightly: Lake, put_nights: PutNights) -> None:
    compact(nightly, Inline())
    after = put_nights(nightly, "sources", [(NIGHTS[20], 150, 1)])
    pixels = after.version("sources").pixels
    ranges = sorted(pixel_range(*pixel) for pixel in pixels)
    assert all(end <= start for (_, end), (start, _) in pairwise(ranges))
    assert len(after.lsdb("sources").compute()) == 21 * 150


def test_a_night_staged_before_a_division_is_fitted_to_it(nightly: Lake, scattered: Scattered) -> None:
    rows = scattered("sources", NIGHTS[20], 150, 1)
    with nightly.stage("late") as staging:
        part = stage_part(rows, "sources", "c-late", staging, nightly.tree, "c", NIGHTS[20])
        base = nightly.snapshot().number
        compact(nightly, Inline())
        commit = Commit("test", "late", base=base)
        commit.replace(part, staging)
        after = nightly.commit(commit)
    assert rows_digest(after.read_part("sources", "c-late")) == rows_digest(rows)
    leaves = set(after.version("sources").pixels)
    assert not any(set(_ancestors(pixel)) & leaves for pixel in leaves)
    assert len(after.lsdb("sources").compute()) == 21 * 150


def _ancestors(pixel: tuple[int, int]) -> list[tuple[int, int]]:
    order, number = pixel
    return [(order - up, number >> (2 * up)) for up in range(1, order + 1)]


@pytest.mark.slow
def test_a_night_committed_during_a_compaction_is_fitted_too(
    nightly: Lake, tmp_path: Path, put_nights: PutNights
) -> None:
    """The committer divides what came between the plan and the commit of a compaction."""
    from skylake.flow.compaction.compact_tables import _divided, _run
    from skylake.flow.execution.run_progress import Silent
    from skylake.lake.maintenance.compaction_plan import plan_compaction

    base = nightly.snapshot()
    divided = _divided(nightly, base, "sources", Inline())
    (plan,) = plan_compaction(base.version("sources"), "sources", False, divided)
    with nightly.stage("compact") as staging:
        commit = Commit("compact", "sources", base=base.number)
        commit.merge(plan.staged(_run(plan, staging, Inline(), Silent()), staging))
        between = put_nights(nightly, "sources", [(NIGHTS[20], 150, 1)])
        after = nightly.commit(commit)
    assert contents(after, "sources") == contents(between, "sources")
    assert len(after.lsdb("sources").compute()) == 21 * 150


def test_a_file_that_changed_on_the_disk_is_not_divided(
    nightly: Lake, tmp_path: Path, put_nights: PutNights
) -> None:
    tree = nightly.tree_of("sources")
    part = put_nights(nightly, "sources", [(NIGHTS[20], 150, 1)]).part("sources", f"c-{NIGHTS[20]}")
    assert part is not None
    folder = tmp_path / "copy"
    shutil.copytree(nightly.snapshot().folder("sources"), folder)
    finer = PixelTree.uniform(max(order for order, _ in tree.pixels) + 1)
    path = folder / part.files[-1].path
    rows = pq.read_table(path, partitioning=None)
    write_parquet(rows.slice(1), path)
    with pytest.raises(LakeError, match=f"{path}: the rows are not those that were written"):
        refit(part, folder, finer)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_one_night_among_many_can_be_replaced_or_removed(
    nightly: Lake, how: str, put_nights: PutNights, scattered: Scattered
) -> None:
    compact(nightly, Inline(), everything=True)
    before = nightly.snapshot()
    held = contents(before, "sources")
    name = f"c-{NIGHTS[4]}"
    if how == "replaced":
        after = put_nights(nightly, "sources", [(NIGHTS[4], 99, 2)])
        expected = held | {name: rows_digest(scattered("sources", NIGHTS[4], 99, 2))}
    else:
        commit = Commit("test", "-")
        commit.remove("sources", name)
        after = nightly.commit(commit)
        expected = {one: digest for one, digest in held.items() if one != name}
    assert contents(after, "sources") == expected
    assert after.n_rows("sources") == after.read("sources").num_rows == len(after.lsdb("sources").compute())
    assert contents(before, "sources") == held, "the old snapshot stays as it was"


def test_compacting_nights_redone_meanwhile_is_refused(nightly: Lake, put_nights: PutNights) -> None:
    from skylake.flow.compaction.compact_tables import _run
    from skylake.flow.execution.run_progress import Silent
    from skylake.lake.maintenance.compaction_plan import plan_compaction

    base = nightly.snapshot()
    (plan,) = plan_compaction(base.version("sources"), "sources")
    with nightly.stage("compact") as staging:
        commit = Commit("compact", "sources", base=base.number)
        commit.merge(plan.staged(_run(plan, staging, Inline(), Silent()), staging))
        between = put_nights(nightly, "sources", [(NIGHTS[3], 10, 5)])
        with pytest.raises(LakeError, match=r"another run .*run again"):
            nightly.commit(commit)
    assert nightly.snapshot().number == between.number


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "damage"), [(KeyboardInterrupt, None), (MemoryError, ""), (KeyboardInterrupt, "of the file")]
)
def test_a_compaction_that_was_interrupted_or_failed_goes_on(
    end: type[BaseException], damage: str | None, nightly: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made before is not made again unless a loss of power has spoilt it, and the content is the same."""
    import skylake.flow.compaction.compact_tables as module

    before = contents(nightly.snapshot(), "sources")
    merges: list[str] = []
    real = module.merge_files

    def counted(merge: object, folder: Path) -> object:
        merges.append(str(merge))
        if len(merges) == 4:
            raise end
        return real(merge, folder)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "merge_files", counted)
    with pytest.raises(LakeError if end is MemoryError else end):
        compact(nightly, Inline(), ["sources"])
    first, n_spoilt = len(merges), 0
    if damage is not None:
        n_spoilt, note = 1, min(nightly.layout.staging.rglob("_done/*.json"))
        if damage == "of the file":
            file = note.parents[1] / json.loads(note.read_text())["merged"]["file"]["path"]
            file.write_bytes(bytes(file.stat().st_size))
        else:
            note.write_text(damage)
    compact(nightly, Inline(), ["sources"])
    assert len(merges) - first == len(set(merges)) - (first - 1) + n_spoilt, "the others were taken over"
    assert contents(nightly.snapshot(), "sources") == before
    assert list(nightly.layout.staging.iterdir()) == []


def test_a_compaction_that_fills_the_disk_frees_it_again(
    nightly: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    import skylake.flow.compaction.compact_tables as module

    def full(*_: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device", "there")

    monkeypatch.setattr(module, "merge_files", full)
    with pytest.raises(LakeError, match="No space left"):
        compact(nightly, Inline(), ["sources"])
    assert list(nightly.layout.staging.iterdir()) == []


def test_what_was_made_for_nights_that_changed_since_goes(
    nightly: Lake, put_nights: PutNights, monkeypatch: pytest.MonkeyPatch
) -> None:
    import skylake.flow.compaction.compact_tables as module

    def stopped(*_: object) -> object:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(module, "merge_files", stopped)
        with pytest.raises(LakeError, match="go on from here"):
            compact(nightly, Inline(), ["sources"])
    (stage,) = nightly.layout.staging.iterdir()
    (stage / "compacted-1-of-other-nights").mkdir()
    compact(nightly, Inline(), ["sources"])
    assert list(nightly.layout.staging.iterdir()) == []
    stage.mkdir()
    compact(nightly, Inline(), ["sources"])
    assert list(nightly.layout.staging.iterdir()) == []


@pytest.mark.slow
def test_the_number_of_files_in_a_pixel_stays_bounded(tmp_path: Path, put_nights: PutNights) -> None:
    lake = Lake.create(tmp_path / "lake", Settings(pixel_order=0, pixel_rows=100_000))
    number = []
    for count in range(1, 18):
        put_nights(lake, "sources", [(20200000 + count, 12, 1)])
        compact(lake, Inline(), ["sources"])
        number.append(files_per_pixel(lake.snapshot(), "sources"))
    assert number == [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 7, 8, 2, 3]
    assert lake.snapshot().n_rows("sources") == 12 * 17
    assert lake.snapshot().read("sources").num_rows == 12 * 17


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.sampled_from(NIGHTS[:6]), st.integers(0, 80)),
            st.tuples(st.just("remove"), st.sampled_from(NIGHTS[:6]), st.just(0)),
            st.tuples(st.just("compact"), st.booleans(), st.just(0)),
            st.tuples(st.just("rollback"), st.integers(1, 3), st.just(0)),
        ),
        max_size=8,
    )
)
def test_any_history_ends_with_the_rows_that_it_should(
    steps: list[tuple[str, int, int]],
    tmp_path_factory: pytest.TempPathFactory,
    put_nights: PutNights,
    scattered: Scattered,
) -> None:
    lake = Lake.create(tmp_path_factory.mktemp("any") / "lake", Settings(pixel_order=0, pixel_rows=60))
    states: dict[int, dict[str, str]] = {1: {}}
    expected: dict[str, str] = {}
    for kind, value, count in steps:
        if kind == "put":
            put_nights(lake, "sources", [(value, count, count)])
            expected = expected | {f"c-{value}": rows_digest(scattered("sources", value, count, count))}
        elif kind == "remove":
            commit = Commit("test", "-")
            commit.remove("sources", f"c-{value}")
            lake.commit(commit)
            expected = {name: digest for name, digest in expected.items() if name != f"c-{value}"}
        elif kind == "compact":
            compact(lake, Inline(), ["sources"], everything=bool(value))
        else:
            number = max(lake.snapshot().number - value, 1)
            lake.rollback(number)
            expected = states[number]
        states[lake.snapshot().number] = expected
    snapshot = lake.snapshot()
    assert contents(snapshot, "sources") == expected
    rows = snapshot.read("sources")
    assert rows.num_rows == snapshot.n_rows("sources")
    assert snapshot.cone("sources", 0.0, 0.0, 180.0).num_rows == rows.num_rows


def test_readers_of_all_kinds_see_the_same_rows_after_it(nightly: Lake) -> None:
    import lsdb

    compact(nightly, Inline())
    snapshot = nightly.snapshot()
    wanted = snapshot.read("sources")
    catalog = lsdb.open_catalog(snapshot.folder("sources"))
    assert len(catalog) == len(catalog.compute()) == wanted.num_rows
    with snapshot.duckdb() as connection:
        ((count, total),) = connection.execute("SELECT count(*), sum(flags) FROM sources").fetchall()
    assert count == wanted.num_rows
    assert total == sum(wanted["flags"].to_pylist())
    for ra, dec in ((0.0, 0.0), (10.0, 89.5), (200.0, -89.5)):
        distances = snapshot.cone("sources", ra, dec, 1.0)
        near = catalog.cone_search(ra, dec, 3600.0).compute()
        assert len(near) == distances.num_rows > 0


def test_a_table_that_cannot_be_compacted_is_named(lake_of: Callable[[], Lake]) -> None:
    with pytest.raises(UsageError, match="'masters' is no table that can be compacted"):
        compact(lake_of(), Inline(), ["masters"])


@pytest.fixture
def lake_of(tmp_path: Path) -> Callable[[], Lake]:
    return lambda: Lake.create(tmp_path / "empty")


def test_only_one_compaction_runs_at_a_time(nightly: Lake) -> None:
    with nightly.compacting(), pytest.raises(LakeError, match="another run is at it already"):
        compact(nightly, Inline())


@pytest.mark.slow
def test_the_same_content_makes_the_same_files(nightly: Lake, tmp_path: Path, put_nights: PutNights) -> None:
    other = Lake(shutil.copytree(nightly.root, tmp_path / "copy", symlinks=True))
    compact(nightly, Inline())
    put_nights(other, "sources", [(NIGHTS[0], 3, 9)])
    put_nights(other, "sources", [(NIGHTS[0], 150, 1)])
    compact(other, Inline())
    first, second = (
        {path.relative_to(one.snapshot().folder("sources")): path.read_bytes()
         for path in one.snapshot().version("sources").whole_files()}
        for one in (nightly, other)
    )  # fmt: skip
    assert first == second
