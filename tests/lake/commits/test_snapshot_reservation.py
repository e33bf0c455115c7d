"""Two committers at the same time, as on a file system that does not keep a lock between machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pytest

from skylake.errors import LakeError, OvertakenError
from skylake.lake import Commit, Lake, Snapshot, stage_part
from skylake.lake.maintenance.vacuum import sweep

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]


@dataclass
class Meanwhile:
    """A value of a configuration that lets something happen when it is written, which is while a version is built."""

    what: Callable[[], object]

    def __str__(self) -> str:
        self.what()
        return "done"


def commit_with(lake: Lake, rows: pa.Table, meanwhile: Callable[[], object]) -> Snapshot:
    """Commit a night of sources; something happens while that goes on, and the lock keeps nobody away."""
    commit = Commit("test", "late", configurations={"0" * 64: {"value": Meanwhile(meanwhile)}})
    with lake.stage("late") as staging:
        commit.replace(stage_part(rows, "sources", "c-late", staging, lake.tree), staging)
        return lake.commit(commit)


def without_lock(lake: Lake, what: Callable[[Lake], object]) -> Callable[[], None]:
    """Return a function that does something to a lake as if its lock were not held by anybody."""

    def run() -> None:
        # Another file under the name: whoever opens it now locks that one.
        lake.layout.lock_file.unlink()
        what(Lake(lake.root))

    return run


def test_an_overtaken_commit_takes_nothing_from_the_winner(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    put(lake, ("sources", "c-1", make_rows("sources", 40, 1)))
    others = [("sources", "c-2", make_rows("sources", 30, 2)), ("frames", "c-2", make_rows("frames", 3, 2))]
    with pytest.raises(
        OvertakenError, match="does not keep the lock between the two; this commit is not made"
    ):
        commit_with(lake, make_rows("sources", 20, 3), without_lock(lake, lambda it: put(it, *others)))
    snapshot = lake.snapshot()
    assert (snapshot.number, snapshot.n_rows("sources"), snapshot.n_rows("frames")) == (3, 70, 3)
    assert snapshot.read("sources").num_rows == 70
    assert put(lake, ("sources", "c-late", make_rows("sources", 20, 3))).read("sources").num_rows == 90


def test_a_commit_whose_files_were_removed_is_not_made(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    """The other has only begun, so the pointer has not moved."""
    put(lake, ("sources", "c-1", make_rows("sources", 40, 1)))
    with pytest.raises(OvertakenError):
        commit_with(lake, make_rows("sources", 20, 3), without_lock(lake, lambda it: sweep(it.layout)))
    assert lake.snapshot().number == 2
    assert lake.snapshot().read("sources").num_rows == 40


def test_what_another_has_begun_is_left_to_it(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    """Its claim and its files stay, or it would point the lake to a snapshot that is gone."""
    theirs = lake.layout.snapshot(3), lake.layout.version("sources", 3)

    def begin(it: Lake) -> None:
        sweep(it.layout)
        for folder in theirs:
            folder.mkdir()

    put(lake, ("sources", "c-1", make_rows("sources", 40, 1)))
    with pytest.raises(OvertakenError):
        commit_with(lake, make_rows("sources", 20, 3), without_lock(lake, begin))
    assert all(folder.is_dir() for folder in theirs)


def test_an_error_that_is_not_of_another_is_reported_as_it_is(lake: Lake, make_rows: MakeRows) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(LakeError, match=r"could not be written \(No space left on device\)") as told:
        commit_with(lake, make_rows("sources", 20, 3), fail)
    assert not isinstance(told.value, OvertakenError)
    assert [path.name for path in lake.layout.snapshots.iterdir()] == ["000001"]
