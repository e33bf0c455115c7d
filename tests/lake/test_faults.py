"""Kills at random instants, readers and writers at once, cuts of the power: the benchmarks of these, in small."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faults
import operations
import powercut
import pyarrow as pa
import pytest
import readers
import states
from trials import Trials

from skylake.durable import hold, set_aside
from skylake.errors import LakeError
from skylake.lake import Lake, Retention, Snapshot
from skylake.lake.maintenance import vacuum

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]

#: Kills of each operation; those that take long are left to the benchmark.
KILLS = {
    "ingest": 1,
    "commit": 2,
    "compact": 2,
    "vacuum": 2,
    "rollback": 1,
    "mirror": 1,
    "forget": 1,
    "publish": 1,
}

#: Those that all tests include; the rest are trials.
OFTEN = ("commit", "publish")


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    """Small lakes to be killed upon."""
    folder = tmp_path_factory.mktemp("faults")
    yield Trials(folder, nights=2, frames=2, table_nights=4)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.parametrize(
    "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in KILLS]
)
def test_a_kill_at_any_moment_does_no_harm(name: str, trials: Trials) -> None:
    (operation,) = (one for one in operations.OPERATIONS if one.name == name)
    if operation not in operations.available()[0]:
        pytest.skip(f"skylake has no command {operation.needs}")
    score = faults.kill_often(trials, small(operation), KILLS[name], seed=20)
    assert score.failures == []
    assert score.kills == KILLS[name]


def small(operation: operations.Operation) -> operations.Operation:
    """Return an operation upon a lake that is made quickly: one without calibrations."""
    import dataclasses

    lake = {"ingest": "new", "mirror": "tables"}.get(operation.name, operation.lake)
    return dataclasses.replace(operation, lake=lake)


@pytest.mark.slow
@pytest.mark.full
def test_readers_see_whole_nights_once_whatever_is_written(tmp_path: Path) -> None:
    result = readers.Trial(tmp_path, commits=8, seed=3).run()
    assert result.examples == []
    assert all(result.reads[name] >= 5 for name in readers.READERS)
    assert sum(len(seen) > 1 for seen in result.seen.values()) >= 2, "readers have seen the lake change"


@pytest.mark.slow
def test_a_power_cut_harms_only_code_that_forces_nothing(tmp_path: Path) -> None:
    why_not = powercut.obstacle()
    if why_not:
        pytest.skip(f"the power cannot be cut here: {why_not}")
    cuts = powercut.PowerCuts(tmp_path, table_nights=4)
    assert cuts.cut_often(2, seed=1) == []
    # Two of three such cuts do harm; what the kernel has written by then is chance.
    assert any(cuts.cut_often(1, seed, forced=False) for seed in range(12)), "the trial can fail"


def test_a_state_in_the_midst_of_a_commit_is_found_out(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    """Whoever judges the states must be able to say no."""
    published = [states.state_of(lake.snapshot())]
    for night in (1, 2):
        put(
            lake,
            ("frames", f"c-{night}", make_rows("frames", 3, night)),
            ("sources", f"c-{night}", make_rows("sources", 9, night)),
        )
        published.append(states.state_of(lake.snapshot()))
    assert all(states.fits(one, published) for one in published)
    for key in published[2]:
        assert not states.fits({name: one for name, one in published[2].items() if name != key}, published)
        assert not states.fits(published[2] | {key: "0 0"}, published)
    second_first = {key: one for key, one in published[2].items() if key[1] == "c-2"}
    assert states.fits(second_first, published), "workers may finish in any order"


@pytest.mark.parametrize("instant", [0, 1, 2, 5])
def test_an_interrupted_vacuum_leaves_nothing_half_removed(
    lake: Lake, make_rows: MakeRows, put: Put, monkeypatch: pytest.MonkeyPatch, instant: int
) -> None:
    for night in range(1, 5):
        put(lake, ("frames", f"c-{night}", make_rows("frames", 5, night)))
    rows = {entry.snapshot: lake.snapshot(entry.snapshot).n_rows("frames") for entry in lake.history()}
    versions = {folder: sorted(folder.rglob("*")) for folder in lake.layout.versions_of_tables()}
    removed = []

    def removing(path: Path, *_: object, **__: object) -> None:
        if len(removed) == instant:
            first = min(path.iterdir())
            first.unlink() if first.is_symlink() else rmtree(first)
            raise KeyboardInterrupt
        removed.append(path)
        rmtree(path)

    rmtree = shutil.rmtree
    monkeypatch.setattr(vacuum, "remove_tree", removing)
    with pytest.raises(KeyboardInterrupt):
        lake.vacuum(Retention(1, 0, 0))
    monkeypatch.undo()
    for entry in lake.history():
        if entry.kept:
            assert lake.snapshot(entry.snapshot).read("frames").num_rows == rows[entry.snapshot]
    for folder, files in versions.items():
        assert not folder.exists() or sorted(folder.rglob("*")) == files, (
            "who reads by its path finds all or nothing"
        )
    put(lake, ("frames", "c-9", make_rows("frames", 5, 9)))
    assert states.litter(lake) == []


def test_a_commit_sweeps_away_what_killed_ones_left(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    put(lake, ("frames", "c-1", make_rows("frames", 5, 1)))
    layout = lake.layout
    shutil.copytree(layout.version("frames", 2), layout.version("frames", 3))
    shutil.copytree(layout.snapshot(2), layout.snapshot(3), symlinks=True)
    (layout.ledger / ".000003.json.0123ab.tmp").write_text("{")
    (layout.staging / "ingest.dead" / "chunks").mkdir(parents=True)
    assert len(states.litter(lake)) == 4
    put(lake, ("sources", "c-1", make_rows("sources", 5, 1)))
    assert states.litter(lake) == []
    assert lake.snapshot().n_rows("frames") == 5


def test_who_holds_a_folder_keeps_it_and_a_late_one_is_refused(tmp_path: Path) -> None:
    import os

    folder = tmp_path / "000001"
    folder.mkdir()
    descriptor = hold(folder)
    assert set_aside(folder) is None and folder.is_dir()
    os.close(descriptor)
    aside = set_aside(folder)
    assert aside is not None and aside.is_dir() and not folder.exists()
    with pytest.raises(FileNotFoundError):
        hold(folder)
    assert set_aside(folder) is None


def test_a_reader_overtaken_by_a_vacuum_gets_the_next_snapshot(
    lake: Lake, make_rows: MakeRows, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading the pointer and holding what it leads to, others commit and vacuum."""
    import skylake.lake.commits.snapshot as module

    overtaken: list[Any] = []

    def slow(folder: Path) -> int:
        if not overtaken:
            overtaken.append(folder)
            put(lake, ("frames", "c-1", make_rows("frames", 5, 1)))
            lake.vacuum(Retention(1, 0, 0))
        return hold(folder)

    monkeypatch.setattr(module, "hold", slow)
    assert lake.snapshot().n_rows("frames") == 5
    assert overtaken and not overtaken[0].exists()
    overtaken.clear()
    with pytest.raises(LakeError, match=r"there is no snapshot 2|was vacuumed"):
        lake.snapshot(2)


def test_instants_follow_from_the_seed() -> None:
    (operation,) = (one for one in operations.OPERATIONS if one.name == "commit")
    reference = faults.Reference(
        [], {}, 0, set(), 2.0, {}, {"current": [("rename", 1), ("rename", 2), ("unlink", 1)]}
    )
    draws = [
        [faults._draw(operation, reference, random.Random(seed), 0) for _ in range(9)] for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]
    assert sum(faults.share(operations.OPERATIONS, 200)) == 200
