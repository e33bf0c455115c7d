"""Files that hold the same bytes as another: found once, remembered, and reported again when that is due."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from skylake import cameras
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Silent
from skylake.flow.ingest.frame_tasks import peek_nights
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.known_files import read_repeats, write_repeats
from skylake.lake import Lake

Run = Callable[..., Any]
Digests = Callable[[Path], dict[str, str]]


class Lines(Silent):
    """Progress that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


class Sent(Inline):
    """Tasks run in this process; what would be sent to workers for them is kept, by the task's function."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def run(self, tasks: Sequence[Any], done: Any = None) -> list[Any]:
        self.sent.append(b"".join(cloudpickle.dumps(dict(task.__dask_graph__())) for task in tasks))
        return super().run(tasks, done)


def test_a_file_that_repeats_another_is_read_once(
    ingested: Lake, archive: Any, profile: Any, digests: Digests, tmp_path: Path
) -> None:
    copy = Path(shutil.copy2(archive.frames[4], tmp_path / "copy.fits"))
    lines = Lines()
    assert ingest(ingested, profile, [copy], Inline(), progress=lines).repeated == [str(copy)]
    assert lines.lines == [], "nothing was gathered"
    before = digests(ingested.root)
    workers = Sent()
    again = ingest(ingested, profile, [copy], workers, progress=lines)
    assert (again.n_known, again.repeated, again.counts) == (1, [], {})
    assert not any(workers.sent), "no worker had anything to do"
    assert lines.lines == []
    assert digests(ingested.root) == before


def test_frames_that_have_moved_are_read_once(lake: Lake, frames: list[Path], run: Run) -> None:
    run(lake, frames[:2])
    folder = frames[0].parent / "elsewhere"
    folder.mkdir()
    moved = [path.rename(folder / path.name) for path in frames[:2]]
    number = lake.snapshot().number
    assert sorted(run(lake, moved).repeated) == sorted(map(str, moved))
    again = run(lake, moved)
    assert (again.n_known, again.repeated) == (2, [])
    assert lake.snapshot().number == number


def test_a_copy_that_is_written_anew_is_looked_at_again(lake: Lake, frames: list[Path], run: Run) -> None:
    run(lake, frames[0])
    copy = Path(shutil.copy2(frames[0], frames[0].with_name("copy.fits")))
    assert run(lake, copy).repeated == [str(copy)]
    shutil.copyfile(frames[1], copy)
    os.utime(copy, ns=(5, 5))
    assert run(lake, copy).counts == {"ok": 1}
    assert run(lake, copy).n_known == 1


def test_a_copy_comes_in_when_the_lake_has_lost_the_frame(lake: Lake, frames: list[Path], run: Run) -> None:
    """The first file is another frame now, and the copy the only one with these bytes."""
    run(lake, frames[0])
    copy = Path(shutil.copy2(frames[0], frames[0].with_name("copy.fits")))
    assert run(lake, copy).repeated == [str(copy)]
    shutil.copyfile(frames[1], frames[0])
    os.utime(frames[0], ns=(5, 5))
    assert run(lake, frames[0]).counts == {"ok": 1}
    assert run(lake, copy).counts == {"ok": 1}
    assert {Path(row["file"]).name for row in lake.snapshot().read("frames").to_pylist()} == {
        frames[0].name, "copy.fits",
    }  # fmt: skip


def test_a_copy_among_frames_of_another_night_takes_nothing(lake: Lake, frames: list[Path], run: Run) -> None:
    run(lake, frames[0])
    copy = Path(shutil.copy2(frames[0], frames[0].with_name("copy.fits")))
    report = run(lake, [copy, frames[6]])
    assert [batch["night"] for batch in report.batches] == [20241002]
    assert report.repeated == [str(copy)]


def test_workers_get_the_frames_of_their_nights_alone(
    ingested: Lake, archive: Any, profile: Any, tmp_path: Path
) -> None:
    copy = Path(shutil.copy2(archive.frames[4], tmp_path / "copy.fits"))
    workers = Sent()
    assert ingest(ingested, profile, [copy], workers).repeated == [str(copy)]
    sent = b"".join(workers.sent)
    nights = {path.name: path.parent.name for path in archive.frames}
    told = {name for name in nights if name.encode() in sent}
    assert told == {name for name, night in nights.items() if night == "20241001"}


def test_a_copy_that_escapes_the_worker_is_found_all_the_same(
    lake: Lake, frames: list[Path], run: Run, profile: Any, tmp_path: Path
) -> None:
    """The camera is said to stand far in the east now, so the copy seems of another night."""
    run(lake, frames[5])
    copy = Path(shutil.copy2(frames[5], frames[5].with_name("copy.fits")))
    path = tmp_path / "small.toml"
    path.write_text(Path(profile.source).read_text() + "site.longitude_deg = 175.0\n")
    elsewhere = cameras.load(path)
    assert peek_nights([str(copy)], elsewhere) != [20241001]
    assert run(lake, copy, profile=elsewhere).repeated == [str(copy)]
    assert lake.snapshot().n_rows("frames") == 1
    assert run(lake, copy, profile=elsewhere).n_known == 1


def test_names_that_are_no_text_are_remembered(lake: Lake) -> None:
    (lake.layout.profile("small").parent).mkdir()
    repeats = {os.fsdecode(b"/d/\xff\xfe.fits"): (7, 10, 20), "/d/ä.fits": (2**62, None, None)}
    write_repeats(lake, "small", repeats)
    assert read_repeats(lake, "small") == repeats
    assert read_repeats(lake, "other") == {}


def test_a_memory_that_is_damaged_is_none(lake: Lake) -> None:
    path = lake.layout.profile("small").with_suffix(".repeats.parquet")
    path.parent.mkdir()
    path.write_bytes(b"PAR1 no more")
    assert read_repeats(lake, "small") == {}


@pytest.mark.parametrize("redo", [True, False])
def test_a_copy_is_reported_once_and_again_with_redo(
    lake: Lake, frames: list[Path], run: Run, redo: bool
) -> None:
    copy = Path(shutil.copy2(frames[0], frames[0].with_name("zcopy.fits")))
    assert run(lake, [frames[0], copy]).repeated == [str(copy)]
    again = run(lake, [frames[0], copy], redo=redo)
    assert again.repeated == ([str(copy)] if redo else [])
