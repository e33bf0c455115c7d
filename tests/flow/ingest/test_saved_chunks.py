"""What an ingest has reduced is not lost when it is interrupted, and nothing that does not fit is taken up."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skylake import cameras
from skylake.cameras import Profile
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Silent
from skylake.flow.forced.make_targets import TargetOptions, make_targets
from skylake.flow.forced.psf_pool import PsfKey, pool_psfs
from skylake.flow.ingest import frame_tasks as tasks
from skylake.flow.ingest.frame_tasks import Reduction, made_with
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.lake import Lake

Run = Callable[..., Any]


class Interrupt(Silent):
    """Interrupts a run, as Ctrl-C does, after so many chunks."""

    def __init__(self, chunks: int) -> None:
        self._left, self._what = chunks, ""

    def begin(self, what: str, total: int) -> None:
        self._what = what

    def advance(self, count: int = 1) -> None:
        self._left -= self._what == "frames" and count > 0
        if self._left == 0:
            raise KeyboardInterrupt


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are reduced."""
    files: list[str] = []
    reduce = tasks.reduce_frame

    def count(content: Any, *args: Any, **options: Any) -> Any:
        files.append(str(content.path))
        return reduce(content, *args, **options)

    monkeypatch.setattr(tasks, "reduce_frame", count)
    return files


@pytest.fixture
def bare(ingested: Lake) -> Lake:
    """A lake with a catalog and no frames."""
    ingested.rollback(1)
    return ingested


def interrupted(lake: Lake, profile: Profile, paths: list[Path], chunks: int, **options: Any) -> list[Path]:
    """Interrupt an ingest, and return the chunks that it leaves."""
    with pytest.raises(KeyboardInterrupt):
        ingest(lake, profile, paths, Inline(), IngestOptions(**options), Interrupt(chunks))
    return kept(lake)


def kept(lake: Lake) -> list[Path]:
    return sorted(note.parent for note in lake.layout.staging.glob("lasting-*/*/chunk.json"))


def content(lake: Lake) -> dict[tuple[str, str], str]:
    snapshot = lake.snapshot()
    tables = ("frames", "sources", "forced_sources")
    return {(table, name): part.checksum for table in tables for name, part in snapshot.parts(table).items()}


@pytest.mark.parametrize("chunks", [1, 3])
def test_frames_of_finished_chunks_are_not_reduced_again(
    bare: Lake, profile: Profile, frames: list[Path], counted: list[str], chunks: int
) -> None:
    left = interrupted(bare, profile, frames, chunks)
    assert len(left) == chunks
    done = [file for one in left for file, *_ in json.loads((one / "chunk.json").read_text())["files"]]
    assert done == counted and len(done) == 3 * chunks
    bare.vacuum()
    counted.clear()
    report = ingest(bare, profile, frames, Inline())
    assert report.counts == {"ok": 12}
    assert sorted(counted) == sorted({str(path) for path in frames} - set(done))
    assert list(bare.layout.staging.iterdir()) == []
    found = content(bare)
    bare.rollback(1)
    ingest(bare, profile, frames, Inline())
    assert content(bare) == found


@pytest.mark.slow
def test_with_targets_a_run_may_be_interrupted_again_and_again(
    ingested: Lake, profile: Profile, frames: list[Path], counted: list[str]
) -> None:
    make_targets(ingested, "small", TargetOptions("simcat", seen=0), Inline())
    for chunks in (1, 1, 2, 2):
        # What was taken up is stated first, as one: the second run is interrupted as soon as it has done so.
        interrupted(ingested, profile, frames, chunks, redo=True)
    report = ingest(ingested, profile, frames, Inline(), IngestOptions(redo=True))
    assert report.counts == {"ok": 12} and sorted(counted) == sorted(map(str, frames))
    found = content(ingested)
    assert ("forced_sources", "small-20241001") in found
    ingest(ingested, profile, frames, Inline(), IngestOptions(redo=True))
    assert content(ingested) == found


def spoil_rows(chunk: Path, frames: list[Path]) -> None:
    """As a loss of power may leave them: as long as they were, and empty."""
    path = chunk / "sources.arrow"
    path.write_bytes(bytes(path.stat().st_size))


def cut_note(chunk: Path, frames: list[Path]) -> None:
    note = chunk / "chunk.json"
    note.write_text(note.read_text()[:-9])


def other_code(chunk: Path, frames: list[Path]) -> None:
    note = chunk / "chunk.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"made_with": "0"}))


def change_file(chunk: Path, frames: list[Path]) -> None:
    os.utime(frames[1], (time.time() + 9,) * 2)


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [spoil_rows, cut_note, other_code, change_file])
def test_what_does_not_fit_is_dropped(
    bare: Lake, profile: Profile, frames: list[Path], counted: list[str],
    spoil: Callable[[Path, list[Path]], None],
) -> None:  # fmt: skip
    first, _ = interrupted(bare, profile, frames, 2)
    spoil(first, frames)
    counted.clear()
    assert ingest(bare, profile, frames, Inline()).counts == {"ok": 12}
    assert len(counted) == 9
    assert list(bare.layout.staging.iterdir()) == []


def test_a_chunk_of_another_configuration_or_catalog_is_dropped(
    bare: Lake, profile: Profile, frames: list[Path], counted: list[str], tmp_path: Path
) -> None:
    interrupted(bare, profile, frames, 2)
    path = tmp_path / "small.toml"
    path.write_text(Path(profile.source).read_text() + "gates.fwhm_px.max = 9.0\n")
    counted.clear()
    interrupted(bare, cameras.load(path), frames, 2)
    assert len(counted) == 6
    bare.set("catalog.solve", "")
    counted.clear()
    assert ingest(bare, cameras.load(path), frames, Inline()).counts == {"ok": 12}
    assert len(counted) == 12


def test_chunks_of_other_frames_wait_for_their_run(
    bare: Lake, profile: Profile, frames: list[Path], counted: list[str]
) -> None:
    interrupted(bare, profile, frames[:6], 1)
    ingest(bare, profile, frames[6:], Inline())
    ingest(bare, profile, frames, Inline(), IngestOptions(first_night=20241002))
    assert len(kept(bare)) == 1
    counted.clear()
    ingest(bare, profile, frames, Inline())
    assert 0 < len(counted) < 6 and kept(bare) == []


def test_chunks_of_old_are_swept_away(bare: Lake, profile: Profile, frames: list[Path]) -> None:
    (chunk,) = interrupted(bare, profile, frames, 1)
    os.utime(chunk.parent, (time.time() - 8 * 86400,) * 2)
    bare.vacuum()
    assert list(bare.layout.staging.iterdir()) == []


def test_of_a_chunk_with_a_copy_the_other_frames_are_kept(
    bare: Lake, profile: Profile, frames: list[Path], counted: list[str]
) -> None:
    """Which of two files stands for both is settled with all of them at hand."""
    frames[1].write_bytes(frames[0].read_bytes())
    assert len(interrupted(bare, profile, frames, 2)) == 2
    counted.clear()
    report = ingest(bare, profile, frames, Inline())
    assert report.repeated == [str(frames[1])] and report.counts == {"ok": 11}
    assert len(counted) == 7
    found = content(bare)
    bare.rollback(1)
    ingest(bare, profile, frames, Inline())
    assert content(bare) == found


def test_other_frames_of_a_retried_chunk_are_kept(
    bare: Lake, profile: Profile, frames: list[Path], counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here one that cannot be read for a while; the file itself does not change."""
    read, lost = tasks.read_file, True

    def fail(path: Any) -> Any:
        if lost and str(path) == str(frames[1]):
            raise FrameFailed(Reason.UNREADABLE, "the disk is away")
        return read(path)

    monkeypatch.setattr(tasks, "read_file", fail)
    assert len(interrupted(bare, profile, frames, 2)) == 2
    lost = False
    counted.clear()
    assert ingest(bare, profile, frames, Inline()).counts == {"ok": 12}
    assert counted == [str(frames[1]), *map(str, frames[6:])]
    found = content(bare)
    bare.rollback(1)
    ingest(bare, profile, frames, Inline())
    assert content(bare) == found


def test_frames_of_a_night_may_have_a_filter_or_none(
    ingested: Lake, profile: Profile, frames: list[Path]
) -> None:
    make_targets(ingested, "small", TargetOptions("simcat", seen=0), Inline())
    reduction = Reduction.in_force(ingested, ingested.snapshot(), profile)
    assert reduction.forcing is not None
    [(key, psf)] = pool_psfs({20241001: [str(path) for path in frames[:2]]}, profile, Inline()).items()
    psfs = {PsfKey(key.night, name, key.size): psf for name in ("V", None)}

    def digest(order: list[PsfKey]) -> str:
        forcing = replace(reduction.forcing, psfs={one: psfs[one] for one in order})
        return made_with(replace(reduction, forcing=forcing), key.night, [])

    assert digest(list(psfs)) == digest(list(psfs)[::-1])
