"""Parts that are taken out of bundles are the parts that they were, and what is left of the bundles too."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skylake.errors import LakeError
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.compaction.unbundle import cut_crowded, cut_out, unbundle
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Silent
from skylake.lake import Commit, Lake, Snapshot, stage_part
from skylake.lake.storage.slices import read_files
from skylake.schema.digest import rows_digest
from skylake.schema.parquet import write_parquet
from skylake.settings import Settings

Put = Callable[..., Snapshot]
NIGHTS = tuple(range(20240101, 20240113))


def contents(snapshot: Snapshot, table: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Digest of the rows of each part, as they are read, and its inputs."""
    return {
        name: (rows_digest(snapshot.read_part(table, name)), part.inputs)
        for name, part in snapshot.parts(table).items()
    }


def name(night: int) -> str:
    return f"c-{night}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, put_nights: Put) -> Path:
    """Twelve nights of detections and frames, each table in one bundle, with pixels that were divided."""
    lake = Lake.create(tmp_path_factory.mktemp("made") / "lake", Settings(pixel_order=0, pixel_rows=300))
    for table in ("sources", "frames"):
        put_nights(lake, table, [(night, 150 if table == "sources" else 1, 1) for night in NIGHTS])
    compact(lake, Inline(), everything=True)
    assert all(len(lake.snapshot().version(table).bundles) == 1 for table in ("sources", "frames"))
    return lake.root


@pytest.fixture
def bundled(made: Path, tmp_path: Path, copy_lake: Callable[[Path, Path], Path]) -> Lake:
    return Lake(copy_lake(made, tmp_path / "lake"))


def go(lake: Lake, **wanted: Iterable[str]) -> Snapshot:
    unbundle(lake, Inline(), wanted, Silent())
    return lake.snapshot()


@pytest.mark.slow
def test_some_nights_get_files_of_their_own_and_no_row_changes(bundled: Lake) -> None:
    before = bundled.snapshot()
    chosen = [name(night) for night in NIGHTS[2:7]]
    after = go(bundled, sources=chosen, frames=chosen)
    assert after.number == before.number + 1, "one commit for all tables"
    for table in ("sources", "frames"):
        assert contents(after, table) == contents(before, table)
        assert set(after.version(table).fresh) == set(chosen)
        (bundle,) = after.version(table).bundles.values()
        assert set(bundle.names) == {name(night) for night in NIGHTS} - set(chosen)
        assert after.n_rows(table) == after.read(table).num_rows == before.n_rows(table)
    assert len(after.lsdb("sources").compute()) == 12 * 150


def test_a_night_taken_out_has_its_own_bytes(
    bundled: Lake, tmp_path: Path, scattered: Callable[..., pa.Table]
) -> None:
    tree = bundled.tree_of("sources")
    after = go(bundled, sources=[name(night) for night in NIGHTS[:4]])
    rows = scattered("sources", NIGHTS[0], 150, 1)
    alone = stage_part(rows, "sources", name(NIGHTS[0]), tmp_path, tree, "c", NIGHTS[0], {"seed": "1"})
    loose = after.parts("sources")[name(NIGHTS[0])]
    assert sorted(loose.files, key=str) == sorted(alone.files, key=str)


@pytest.mark.slow
def test_divided_pixels_stay_divided_without_nights(bundled: Lake) -> None:
    before = bundled.snapshot()
    assert {order for order, _ in before.version("sources").pixels} > {0}
    after = go(bundled, sources=[name(night) for night in NIGHTS])
    assert after.version("sources").bundles == {}
    assert contents(after, "sources") == contents(before, "sources")
    assert after.version("sources").pixels == before.version("sources").pixels


def test_a_night_alone_in_its_bundle_stays_where_it_is(
    bundled: Lake, put_nights: Put, digests: Callable[[Path], dict[str, str]]
) -> None:
    put_nights(bundled, "sources", [(20240201, 50, 1), (20240202, 50, 1)])
    before = digests(bundled.root)
    go(bundled, sources=[name(NIGHTS[0]), "c-20240201", "c-20240202", "c-19990101"], matches=["nothing"])
    assert digests(bundled.root) == before


@pytest.mark.slow
def test_every_file_of_the_bundle_is_read_in_one_pass(bundled: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    import skylake.lake.storage.merge_files as module

    passes: list[str] = []
    real = module.read_files

    def counted(table: str, files: Any, *more: Any) -> pa.Table:
        passes.extend(str(one.path) for one in files)
        return real(table, files, *more)

    monkeypatch.setattr(module, "read_files", counted)
    files = [str(path) for path in bundled.snapshot().version("sources").whole_files()]
    go(bundled, sources=[name(night) for night in NIGHTS])
    # Each once for its index alone and once for its rows.
    assert sorted(passes) == sorted(2 * files)


def test_many_small_blocks_give_the_same_files(bundled: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    import skylake.lake.storage.merge_files as module

    monkeypatch.setattr(module, "_BLOCK_VALUES", 1)
    monkeypatch.setattr(module, "ROW_GROUP_ROWS", 37)
    before = bundled.snapshot()
    after = go(bundled, sources=[name(night) for night in NIGHTS[1:5]])
    assert contents(after, "sources") == contents(before, "sources")
    for path in after.version("sources").whole_files():
        rows = pq.read_table(path, partitioning=None)
        order = ["_healpix_29", "mjd_mid", "frame_id", "source_no"]
        assert rows.equals(rows.sort_by([(column, "ascending") for column in order]))


def test_copies_for_reading_have_all_rows_and_change_nothing(
    bundled: Lake, tmp_path: Path, digests: Callable[[Path], dict[str, str]]
) -> None:
    snapshot, before = bundled.snapshot(), digests(bundled.root)
    chosen = [name(night) for night in NIGHTS[3:6]]
    made = cut_crowded(snapshot, "sources", chosen, tmp_path / "cut", Inline(), Silent())
    assert set(made) == set(chosen)
    for one, (part, slices) in made.items():
        assert rows_digest(read_files("sources", slices)) == snapshot.parts("sources")[one].checksum
        assert part.checksum == snapshot.parts("sources")[one].checksum
    assert digests(bundled.root) == before


def test_a_bundle_that_does_not_hold_what_it_says_is_refused(bundled: Lake) -> None:
    version = bundled.snapshot().version("sources")
    path = version.whole_files()[0]
    rows = pq.read_table(path, partitioning=None)
    pq.write_table(rows.slice(1), path)
    with pytest.raises(LakeError, match="are not those that were written; run `skylake verify --deep`"):
        go(bundled, sources=[name(night) for night in NIGHTS])


def test_a_night_redone_by_another_run_is_not_undone(bundled: Lake, put_nights: Put) -> None:
    base = bundled.snapshot()
    with bundled.stage("test") as staging:
        parts = list(base.version("sources").parts_named([name(NIGHTS[0]), name(NIGHTS[1])]))
        commit = Commit("loosen", "-")
        for part in cut_out(base, "sources", parts, staging, Inline(), Silent()).values():
            commit.unbundle(part, staging)
        between = put_nights(bundled, "sources", [(NIGHTS[0], 20, 9)])
        with pytest.raises(LakeError, match=rf"another run has changed {name(NIGHTS[0])} of sources"):
            bundled.commit(commit)
    assert bundled.snapshot().number == between.number


@pytest.mark.slow
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(chosen=st.sets(st.sampled_from(NIGHTS)), again=st.sets(st.sampled_from(NIGHTS)))
def test_any_nights_can_be_taken_out_and_compacted_again(
    chosen: set[int], again: set[int], bundled_once: Lake, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("any") / "lake"
    lake = Lake(shutil.copytree(bundled_once.root, root, symlinks=True))
    before = contents(lake.snapshot(), "sources")
    for some in (chosen, again):
        assert contents(go(lake, sources=map(name, some)), "sources") == before
    compact(lake, Inline(), ["sources"], everything=True)
    assert contents(lake.snapshot(), "sources") == before
    assert lake.snapshot().read("sources").num_rows == 12 * 40


@pytest.fixture(scope="module")
def bundled_once(tmp_path_factory: pytest.TempPathFactory, put_nights: Put) -> Lake:
    lake = Lake.create(tmp_path_factory.mktemp("once") / "lake", Settings(pixel_order=0, pixel_rows=100))
    put_nights(lake, "sources", [(night, 40, 1) for night in NIGHTS])
    compact(lake, Inline(), everything=True)
    return lake


def test_the_ledger_shows_what_was_loosened_and_who_made_it(bundled: Lake) -> None:
    chosen = [name(night) for night in NIGHTS[:2]]
    after = go(bundled, sources=chosen)
    with after.duckdb() as connection:
        rows = connection.execute(
            "SELECT part, action FROM ledger WHERE snapshot = $1 ORDER BY ALL", [after.number]
        ).fetchall()
        assert [row for row in rows if row[1] == "loosened"] == [(one, "loosened") for one in sorted(chosen)]
        assert sorted(row[1] for row in rows) == ["loosened", "loosened", "merged"]
        bundles = connection.execute(
            "SELECT part, bundle IS NULL FROM parts WHERE table_name = 'sources' ORDER BY part"
        ).fetchall()
    assert bundles == [(name(night), name(night) in chosen) for night in NIGHTS]


@pytest.mark.parametrize("how", ["lost", "changed"])
def test_a_night_stays_in_a_file_that_lacks_rows_of_others(bundled: Lake, how: str) -> None:
    version = bundled.snapshot().version("sources")
    path = version.folder / version.parts[name(NIGHTS[2])].files[0].path
    rows = pq.read_table(path, partitioning=None)
    of_third = pc.equal(rows["night"], NIGHTS[2])
    if how == "lost":
        damaged = rows.filter(pc.invert(of_third))
    else:
        place = rows.column_names.index("mjd_mid")
        times = pc.add(rows["mjd_mid"], pc.cast(of_third, pa.float64()))
        damaged = rows.set_column(place, rows.schema.field(place), times)
    write_parquet(damaged, path)
    commit = Commit("test", "-")
    commit.remove("sources", name(NIGHTS[1]))
    before = bundled.snapshot().number
    with pytest.raises(LakeError, match=f"{path}: the rows of other nights in this file are not those"):
        bundled.commit(commit)
    assert bundled.snapshot().number == before
    commit = Commit("test", "-")
    commit.remove("sources", name(NIGHTS[2]))
    bundled.commit(commit)
    assert contents(bundled.snapshot(), "sources").keys() == {name(one) for one in NIGHTS} - {name(NIGHTS[2])}
