"""Two runs over the same nights at once: both end well, and the lake is as after one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skylake.cameras import Profile
from skylake.errors import LakeError, Superseded
from skylake.flow.aggregates import aggregate
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.retry_commit import retry_superseded
from skylake.flow.execution.run_progress import Silent
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.lake import Lake, Part

Run = Callable[..., Any]


class Overtaken(Inline):
    """Workers during whose work, before anything of it is committed, another run comes and ends."""

    def __init__(self, other: Callable[[], object]) -> None:
        super().__init__()
        self.other: Callable[[], object] | None = other

    def run(self, tasks: Any, done: Any = None) -> Any:
        results = super().run(tasks)
        if self.other is not None and any(_has_parts(one) for one in results):
            other, self.other = self.other, None
            other()
        for number, result in enumerate(results if done is not None else ()):
            done(number, result)
        return results


def _has_parts(result: Any) -> bool:
    return isinstance(result, Part) or (isinstance(result, tuple) and any(map(_has_parts, result)))


def contents(lake: Lake) -> dict[str, dict[str, str]]:
    snapshot = lake.snapshot()
    tables = ("frames", "sources", "matches", "zeropoints", "nights", "maps")
    return {table: {name: one.checksum for name, one in snapshot.parts(table).items()} for table in tables}


@pytest.mark.parametrize("mine", [slice(0, 6), slice(2, 8)])
def test_a_night_that_two_runs_ingest_is_there_once(
    mine: slice, lake: Lake, frames: list[Path], profile: Profile, run: Run, tmp_path: Path
) -> None:
    """Also where each was given other frames of the night."""
    workers = Overtaken(lambda: run(lake, frames[:4]))
    report = ingest(lake, profile, frames[mine], workers)
    assert workers.other is None and report.all_well
    again = Lake.create(tmp_path / "alone", lake.settings)
    run(again, frames[: mine.stop])
    assert contents(lake) == contents(again)
    assert sum(batch["night"] == 20241001 for batch in report.batches) == 1


def test_a_night_that_two_runs_make_anew_is_there_once(
    ingested: Lake, frames: list[Path], profile: Profile, run: Run, tmp_path: Path
) -> None:
    """What the lake has come from another folder, so that both runs do change it."""
    alone = Lake(shutil.copytree(ingested.root, tmp_path / "alone", symlinks=True))
    workers = Overtaken(lambda: run(ingested, frames[:3], redo=True))
    assert ingest(ingested, profile, frames[:6], workers, IngestOptions(redo=True)).all_well
    assert workers.other is None
    run(alone, frames[:6], redo=True)
    assert contents(ingested) == contents(alone)


@pytest.mark.slow
def test_two_calibrations_at_once_leave_what_one_does(ingested: Lake, calibrated_once: Lake) -> None:
    workers = Overtaken(lambda: calibrate(ingested, Inline()))
    report = calibrate(ingested, workers)
    assert workers.other is None and (len(report.batches), report.n_current) == (0, 2)
    workers = Overtaken(lambda: aggregate(ingested, [], Inline()))
    aggregate(ingested, [], workers)
    assert workers.other is None and contents(ingested) == contents(calibrated_once)


def test_a_lake_that_never_rests_is_reported_in_the_end() -> None:
    tries = []

    def work() -> None:
        tries.append(len(tries))
        raise Superseded("another run has changed it; run again")

    with pytest.raises(LakeError, match="run again"):
        retry_superseded(work, Silent())
    assert len(tries) == 4
