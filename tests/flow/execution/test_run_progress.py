from __future__ import annotations

from pathlib import Path
from typing import Any

from skylake.flow.aggregates import aggregate
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.lake import Lake


class Heard:
    """Progress that is remembered."""

    def __init__(self) -> None:
        self.pieces: list[tuple[str, int, int]] = []
        self.lines: list[str] = []
        self.under_way: list[Any] | None = None

    def begin(self, what: str, total: int) -> None:
        assert self.under_way is None, "a piece of work began within another"
        self.under_way = [what, total, 0]

    def advance(self, steps: int = 1) -> None:
        assert self.under_way is not None, "a step outside of any piece of work"
        self.under_way[2] += steps

    def end(self) -> None:
        assert self.under_way is not None
        what, total, done = self.under_way
        self.pieces.append((what, total, done))
        self.under_way = None

    def line(self, text: str) -> None:
        self.lines.append(text)


def test_every_step_that_was_announced_is_taken(
    lake: Lake, profile: Any, frames: list[Path], archive: Any, columns: Any
) -> None:
    heard: Progress = Heard()
    assert isinstance(heard, Heard)
    import_catalog(lake, "simcat", "table", [archive.catalog], columns, progress=heard)
    ingest(lake, profile, frames[4:8], Inline(), progress=heard)
    calibrate(lake, Inline(), progress=heard)
    aggregate(lake, [], Inline(), progress=heard)
    assert heard.under_way is None
    assert heard.pieces[0] == ("catalog simcat", 0, archive.n_catalog)
    assert heard.pieces[1:4] == [("headers", 4, 4), ("frames", 4, 4), ("nights", 2, 2)]
    assert [what for what, _, _ in heard.pieces[4:]] == [
        "nights",
        "photometric_nights",
        "lightcurves",
        "maps",
        "clusters",
        "repeatability",
        "seeing",
        "star_statistics",
        "objects",
    ]
    assert all(done == total > 0 for _, total, done in heard.pieces[4:])


def test_each_batch_is_worth_a_line(lake: Lake, profile: Any, frames: list[Path]) -> None:
    heard = Heard()
    ingest(lake, profile, frames[4:8], Inline(), progress=heard)
    assert [line.split(":")[0] for line in heard.lines] == ["ingest small-20241001", "ingest small-20241002"]
    assert all("2 of 2 frames ok" in line for line in heard.lines)


def test_silence_says_nothing(capsys: Any) -> None:
    silent: Progress = Silent()
    silent.begin("frames", 3)
    silent.advance()
    silent.advance(2)
    silent.end()
    silent.line("done")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
