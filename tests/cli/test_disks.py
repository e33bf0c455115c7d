"""Disks that are full or cannot be written: a sentence, the last snapshot intact, and all well once it is fixed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from skylake.cli.main import cli
from skylake.lake import Lake
from skylake.schema import table_names

Run = Callable[..., Any]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts disks")


def mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk."""
    place = tmp_path / "disk"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=96m,mode=0755", "tmpfs", str(place))
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def room(disk: Path, kilobytes: int) -> Iterator[None]:
    """Leave only so much room on a disk."""
    ballast = disk / "ballast"
    status = os.statvfs(disk)
    with ballast.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, status.f_bavail * status.f_frsize - 1024 * kilobytes)
    try:
        yield
    finally:
        ballast.unlink()


def content(lake: Lake) -> dict[str, Any]:
    snapshot = lake.snapshot()
    return {table: sorted(map(repr, snapshot.read(table).to_pylist())) for table in table_names()}


def litter(lake: Lake) -> list[Path]:
    """Return versions and snapshots that nothing leads to."""
    layout = lake.layout
    needed = {(path / table).resolve() for path in layout.snapshots.iterdir() for table in table_names()}
    current = lake.snapshot().number
    unfinished = [path for path in layout.snapshots.iterdir() if int(path.name) > current]
    return [path for path in layout.versions_of_tables() if path.resolve() not in needed] + unfinished


#: Command, what came last in the lake that it starts from, and the kilobytes that are left on the disk.
FULL = {
    "ingest": ("init", (0, 150, 350)),
    "calibrate": ("ingest", (0, 100)),
    "aggregate": ("calibrate", (0, 40, 100)),
    "compact": ("aggregate maps", (0, 60)),
    "mirror": ("aggregate maps", (0, 400, 20000)),
    "rollback": ("aggregate maps", (0,)),
    "vacuum": ("aggregate maps", (0,)),
}


def begun(lake: Path, last: str, root: Path) -> Lake:
    """Copy a lake, and roll it back to what it was after a stage."""
    subprocess.run(["cp", "-a", str(lake), str(root)], check=True)
    copy = Lake(root)
    copy.rollback(max(entry.snapshot for entry in copy.history() if entry.stage == last))
    return copy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "left"),
    [
        pytest.param(name, left, marks=[] if left == some[-1] else pytest.mark.slow)
        for name, (_, some) in FULL.items()
        for left in some
    ],
)
def test_a_full_disk_is_a_sentence_and_work_continues_later(
    name: str, left: int, disk: Path, lake: Path, sky: Path, camera: Path, skylake_command: Run, well: Run
) -> None:
    if name not in cli.commands:
        pytest.skip(f"skylake has no command {name}")
    mine = begun(lake, FULL[name][0], disk / "lake")
    more = {"ingest": ("--camera", camera, sky / "frames"), "rollback": (1,), "compact": ("--all",)}
    options = more.get(name, ())
    before, number = content(mine), mine.snapshot().number
    with room(disk, left):
        answer = skylake_command(name, mine.root, *options)
        if name == "vacuum":  # what makes room needs none
            assert answer.status == 0
            return
        assert answer.status == 3
        told = [line for line in answer.err.splitlines() if line.startswith("skylake: ")]
        assert len(told) == 1 and "No space left on device" in told[0] and "rrno" not in told[0], answer.err
        assert content(mine) == before or mine.snapshot().number > number
        assert not litter(mine), "what failed takes up no room"
    well(name, mine.root, *options)
    if name == "rollback":
        return
    expected, found = content(Lake(lake)), content(mine)
    assert {table: rows for table, rows in found.items() if rows} == {
        table: expected[table] for table in found if found[table]
    }
    assert {"ingest": "sources", "calibrate": "matches"}.get(name, "maps") in {
        table for table in found if found[table]
    }


def test_a_lake_that_does_not_fit_is_made_when_there_is_room(
    disk: Path, skylake_command: Run, well: Run
) -> None:
    with room(disk, 12):
        answer = skylake_command("init", disk / "lake")
        assert (answer.status, answer.sentence) == (
            3,
            f"{disk}/lake: the lake cannot be made (No space left on device)",
        )
    well("init", disk / "lake")


#: Commands that only read, on a lake that nobody can write.
READING = (
    ("status", "LAKE"),
    ("history", "LAKE"),
    ("path", "LAKE", "sources"),
    ("sql", "LAKE", "SELECT count(*) FROM calibrated_sources"),
    ("sql", "LAKE", "SELECT * FROM frames", "-o", "OUT/frames.csv"),
    ("cone", "LAKE", "sources", "RA", "DEC", "600"),
    ("lc", "LAKE", "--ra", "RA", "--dec", "DEC", "--radius", "3600"),
    ("map", "LAKE", "visits", "-o", "OUT/visits.fits"),
    ("catalog", "list", "LAKE"),
    ("report", "LAKE", "OUT/report"),
    ("ingest", "LAKE", "--camera", "CAMERA", "SKY/frames"),  # all of it is known
)
#: Commands that write.
WRITING = (
    ("ingest", "LAKE", "--camera", "CAMERA", "SKY/frames", "--redo"),
    ("calibrate", "LAKE", "--version", "2"),
    ("aggregate", "LAKE"),
    ("compact", "LAKE"),
    ("mirror", "LAKE"),
    ("rollback", "LAKE", "1"),
    ("vacuum", "LAKE", "--keep", "1"),
    ("report", "LAKE", "LAKE/report"),
    ("catalog", "import", "LAKE", "two", "--format", "table", "SKY/catalog.parquet", "--ra", "ra", "--dec", "dec"),
    ("init", "LAKE/other"),
)  # fmt: skip


@pytest.fixture(scope="module")
def read_only(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The lake on a disk that can only be read; root may write whatever permissions say."""
    place = tmp_path_factory.mktemp("read-only") / "disk"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=64m,mode=0755", "tmpfs", str(place))
    subprocess.run(["cp", "-a", str(lake), str(place / "lake")], check=True)
    mount("-o", "remount,ro", str(place))
    yield place / "lake"
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def words(read_only: Path, sky: Path, camera: Path, tmp_path: Path) -> dict[str, str]:
    """What the capital words in the commands stand for."""
    (star,) = Lake(read_only).snapshot().read("lightcurves", ["ra_deg", "dec_deg"]).slice(0, 1).to_pylist()
    return {
        "LAKE": str(read_only), "SKY": str(sky), "CAMERA": str(camera), "OUT": str(tmp_path),
        "RA": str(star["ra_deg"]), "DEC": str(star["dec_deg"]),
    }  # fmt: skip


def spelled(command: tuple[str, ...], words: dict[str, str]) -> list[str]:
    pieces = (word.partition("/") for word in command)
    return [words.get(first, first) + slash + rest for first, slash, rest in pieces]


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_lake_that_cannot_be_written_can_be_read(
    command: tuple[str, ...], words: dict[str, str], well: Run
) -> None:
    assert well(*spelled(command, words)).out or "OUT" in " ".join(command)


@pytest.mark.parametrize("command", WRITING, ids=" ".join)
def test_a_lake_that_cannot_be_written_says_so(
    command: tuple[str, ...], words: dict[str, str], skylake_command: Run
) -> None:
    if command[0] not in cli.commands:
        pytest.skip(f"skylake has no command {command[0]}")
    answer = skylake_command(*spelled(command, words))
    assert answer.status == 3
    assert "Read-only file system" in answer.sentence
