"""Objects of a lake: the same whatever the order in which nights come, and a night costs a night."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from archive.make_archive import make_archive
from archive.scenario import ArchiveScenario
from hypothesis import given, settings
from hypothesis import strategies as st

from skylake.cameras import Profile
from skylake.core.batch import Batch
from skylake.flow.aggregates import aggregate, outdated
from skylake.flow.aggregates.fold_objects import refresh_objects
from skylake.flow.aggregates.plan import PlanSources
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Silent
from skylake.flow.maintenance.forget_frames import find, forget
from skylake.flow.maintenance.verify_lake import VerifyOptions, open_facts, verify
from skylake.flow.staleness import Why
from skylake.flow.zeropoints.calibration_in_force import calibration_in_force
from skylake.lake import Commit, Lake, Snapshot, stage_part
from skylake.lake.storage import slices
from skylake.settings import Settings
from skylake.simulate import ScheduleParams, StarParams

TABLES = ["clusters", "objects"]
N_NIGHTS = 5


@pytest.fixture(scope="module")
def scenario(profile: Profile) -> ArchiveScenario:
    return ArchiveScenario(
        camera=profile.source, nights=N_NIGHTS, frames_per_night=6, stars=StarParams(per_frame=60.0),
        schedule=ScheduleParams(fields=2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def once(scenario: ArchiveScenario, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of five nights with clusters and objects. Tests do not change it."""
    lake = Lake.create(tmp_path_factory.mktemp("once") / "lake", Settings(cluster="inline", pixel_order=1))
    make_archive(lake, scenario, Inline())
    aggregate(lake, TABLES, Inline())
    return lake


@pytest.fixture
def made(once: Lake, tmp_path: Path) -> Lake:
    """A copy of it, to be changed."""
    return Lake(shutil.copytree(once.root, tmp_path / "lake", symlinks=True))


def checksum(lake: Lake) -> str:
    (part,) = lake.snapshot().parts("objects").values()
    return part.checksum


def add_night(lake: Lake, source: Snapshot, name: str) -> None:
    """Copy frames and clusters of a night from another lake."""
    commit = Commit("copy", name)
    with lake.stage("copy") as staging:
        for table in ("frames", "clusters"):
            part = source.parts(table)[name]
            tree = lake.tree_of(table) if table == "clusters" else None
            rows = source.read_part(table, name)
            commit.replace(
                stage_part(rows, table, name, staging / table, tree, part.camera, part.night, part.inputs),
                staging / table,
            )
        lake.commit(commit)


def refresh(lake: Lake) -> None:
    refresh_objects(lake, PlanSources(lake, calibration_in_force(lake)), Inline(), Silent())


def without_identifiers(lake: Lake) -> pd.DataFrame:
    """Return objects in the order of their places; those of one place differ in their star."""
    rows = lake.snapshot().pandas("objects").drop(columns=["object_id", "joined_to", "split_from"])
    return rows.sort_values(["ra_deg", "dec_deg", "ref_id"], ignore_index=True)


def identifiers(lake: Lake) -> dict[int, int]:
    """Return the identifiers of objects by their stars."""
    rows = lake.snapshot().pandas("objects").query("status == 'qualified' and ref_id.notna()")
    return dict(zip(rows["ref_id"].tolist(), rows["object_id"].tolist(), strict=True))


@given(order=st.permutations(range(N_NIGHTS)), refreshed=st.integers(0, 2**N_NIGHTS - 1))
@settings(max_examples=5)
def test_objects_are_the_same_whatever_the_order_in_which_nights_come(
    once: Lake, tmp_path_factory: pytest.TempPathFactory, order: list[int], refreshed: int
) -> None:
    source = once.snapshot()
    names = sorted(source.parts("frames"))
    lake = Lake.create(tmp_path_factory.mktemp("order") / "lake", Settings(cluster="inline", pixel_order=1))
    (batch,) = {part.camera for part in source.parts("frames").values()}
    lake.keep_profile(once.profile(batch))
    known: dict[int, int] = {}
    for step, number in enumerate(order):
        add_night(lake, source, names[number])
        if refreshed & (1 << step):
            refresh(lake)
            # What was known keeps its identifier, whichever night came late.
            known |= identifiers(lake)
            assert known == identifiers(lake)
    refresh(lake)
    assert known.items() <= identifiers(lake).items()
    pd.testing.assert_frame_equal(without_identifiers(lake), without_identifiers(once))
    if not known:
        assert checksum(lake) == checksum(once)


def test_a_new_night_reads_no_clusters_of_the_past(
    once: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = once.snapshot()
    names = sorted(source.parts("frames"))
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline", pixel_order=1))
    lake.keep_profile(once.profile("small"))
    for name in names[:-1]:
        add_night(lake, source, name)
    refresh(lake)
    add_night(lake, source, names[-1])
    read: list[Path] = []
    real = slices.arrow_dataset

    def counted(paths: list[Path], schema: object) -> object:
        read.extend(paths)
        return real(paths, schema)

    monkeypatch.setattr(slices, "arrow_dataset", counted)
    refresh(lake)
    assert {path.stem for path in read if "clusters" in path.parts} == {names[-1]}
    assert checksum(lake) == checksum(once)


def test_a_night_that_goes_or_changes_makes_the_objects_anew(made: Lake) -> None:
    before = checksum(made)
    nights = sorted(made.snapshot().parts("frames"))
    compact(made, Inline(), everything=True)
    assert outdated(made)["objects"].why == {}
    snapshot = made.snapshot()
    batch = Batch("small", int(nights[1].rpartition("-")[2]))
    kept = {table: snapshot.read_part(table, nights[1]) for table in ("frames", "clusters")}
    parts = {table: snapshot.parts(table)[nights[1]] for table in kept}
    forget(made, find(snapshot, [], [batch]), Inline())
    assert outdated(made)["objects"].why == {"small": Why.INPUTS}
    refresh(made)
    rows = made.snapshot().pandas("objects")
    assert rows["n_nights_covered"].max() == N_NIGHTS - 1
    assert checksum(made) != before
    commit = Commit("restore", "-")
    with made.stage("restore") as staging:
        for table, rows in kept.items():
            tree = made.tree_of(table) if table == "clusters" else None
            one = parts[table]
            commit.replace(
                stage_part(rows, table, one.name, staging / table, tree, one.camera, one.night, one.inputs),
                staging / table,
            )
        made.commit(commit)
    refresh(made)
    assert checksum(made) == before


def test_a_night_that_sees_nothing_writes_no_objects(made: Lake) -> None:
    before = made.snapshot()
    last = max(part.night or 0 for part in before.parts("frames").values())
    night = int(f"{datetime.strptime(str(last), '%Y%m%d') + timedelta(days=1):%Y%m%d}")
    commit = Commit("dark", "-")
    with made.stage("dark") as staging:
        rows = before.read("frames").slice(0, 0)
        commit.replace(stage_part(rows, "frames", f"small-{night}", staging, None, "small", night), staging)
        made.commit(commit)
    refresh(made)
    assert outdated(made)["objects"].why == {}
    old, new = (snapshot.version("objects").whole_files() for snapshot in (before, made.snapshot()))
    assert old
    assert all(path.samefile(other) for path, other in zip(old, new, strict=True))


def test_clusters_are_upstream_of_objects_and_both_verify(made: Lake) -> None:
    made.set("objects.forget_nights", 5)
    assert outdated(made)["objects"].why == {"small": Why.PARAMETERS}
    made.set("objects.forget_nights", 10)
    made.set("objects.new_targets", 0)
    assert outdated(made)["objects"].why == {}
    options = VerifyOptions(deep=True)
    assert verify(open_facts(made.root, options), Inline(), options).failed == []


def test_the_sky_that_was_covered_is_made_with_the_objects_and_without_it_both_are_made_anew(
    made: Lake,
) -> None:
    sky, objects = made.snapshot().read("coverage"), checksum(made)
    assert max(sky["n_nights"].to_pylist()) == N_NIGHTS
    commit = Commit("drop", "-")
    commit.remove("coverage", "small")
    made.commit(commit)
    assert outdated(made)["objects"].why == {"small": Why.NEW}
    refresh(made)
    assert made.snapshot().read("coverage").equals(sky) and checksum(made) == objects


def test_forgetting_all_nights_of_a_camera_takes_its_objects_along(made: Lake) -> None:
    nights = [Batch("small", part.night or 0) for part in made.snapshot().parts("frames").values()]
    forget(made, find(made.snapshot(), [], nights), Inline())
    assert outdated(made)["objects"].why == {"small": Why.ORPHANED}
    report = aggregate(made, TABLES, Inline())
    assert (report.removed["objects"], made.snapshot().parts("objects")) == (1, {})
    assert made.snapshot().parts("coverage") == {}
