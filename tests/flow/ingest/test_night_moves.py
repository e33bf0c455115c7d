"""Frames that move to another night are in the lake once, whenever one looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake import cameras
from skylake.cameras import Profile
from skylake.errors import LakeError
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.chunk_rows import Chunk
from skylake.flow.ingest.commit_nights import Moves
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.ingest.known_files import COLUMNS, HeldFrames, Known, Seen
from skylake.lake import Lake, Snapshot

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def astray(profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """The same camera at a wrong longitude, where most frames belong to the night after."""
    path = tmp_path_factory.mktemp("profiles") / "small.toml"
    path.write_text(Path(profile.source).read_text() + "site.longitude_deg = 175.0\n")
    return cameras.load(path)


@pytest.fixture
def misplaced(lake: Lake, frames: list[Path], run: Run, astray: Profile) -> Lake:
    run(lake, frames, profile=astray)
    assert len(lake.snapshot().parts("frames")) == 3
    return lake


def ids_of(snapshot: Snapshot) -> list[int]:
    return sorted(snapshot.read("frames", ["frame_id"])["frame_id"].to_pylist())


def nights_of(snapshot: Snapshot) -> dict[int, int]:
    rows = snapshot.read("frames", ["frame_id", "night"])
    return dict(zip(rows["frame_id"].to_pylist(), rows["night"].to_pylist(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("to_earlier", [True, False])
def test_every_snapshot_has_each_frame_once_while_frames_move(
    lake: Lake, frames: list[Path], run: Run, profile: Profile, astray: Profile, to_earlier: bool
) -> None:
    first, second = (astray, profile) if to_earlier else (profile, astray)
    run(lake, frames, profile=first)
    before = lake.snapshot()
    run(lake, frames, profile=second, redo=True)
    after = lake.snapshot()
    assert after.number > before.number and nights_of(after) != nights_of(before)
    for number in range(before.number, after.number + 1):
        snapshot = Snapshot(lake.layout, number)
        assert ids_of(snapshot) == sorted(nights_of(before)), number
        assert set(snapshot.read("sources", ["frame_id"])["frame_id"].to_pylist()) == set(ids_of(before))


def test_nights_in_several_windows_exchange_frames(
    misplaced: Lake, frames: list[Path], profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skylake.flow.ingest.ingest_frames._WINDOW", 1)
    before = misplaced.snapshot()
    ingest(misplaced, profile, frames, Inline(), IngestOptions(redo=True))
    after = misplaced.snapshot()
    for number in range(before.number, after.number + 1):
        assert ids_of(Snapshot(misplaced.layout, number)) == ids_of(before)
    assert set(after.parts("frames")) == {"small-20241001", "small-20241002"}


def test_frames_whose_files_were_renamed_move_too(
    misplaced: Lake, frames: list[Path], run: Run, tmp_path: Path
) -> None:
    before = ids_of(misplaced.snapshot())
    (tmp_path / "elsewhere").mkdir()
    moved = [path.rename(tmp_path / "elsewhere" / path.name) for path in frames]
    run(misplaced, moved, redo=True)
    after = misplaced.snapshot()
    assert ids_of(after) == before and set(after.parts("frames")) == {"small-20241001", "small-20241002"}
    assert set(after.read("frames", ["file"])["file"].to_pylist()) == {str(path) for path in moved}


def test_a_failed_night_keeps_its_exchange_partners_waiting(
    misplaced: Lake, frames: list[Path], run: Run
) -> None:
    """The last night gives up a frame and keeps others, which cannot be read."""
    before = misplaced.snapshot()
    last = before.read("frames", ["file"], lambda part: part.night == 20241003)["file"].to_pylist()
    for one in before.slices("sources", lambda part: part.night == 20241003):
        one.path.unlink()
        one.path.write_bytes(b"PAR1 no more")
    chosen = [path for path in frames if str(path) not in last[1:]]
    with pytest.raises(LakeError, match=r"small-20241003: the night could not be gathered .*, nor 2 others"):
        run(misplaced, chosen, redo=True)
    assert nights_of(misplaced.snapshot()) == nights_of(before)


def known_of(nights: dict[int, dict[int, str]]) -> Known:
    rows = [(file, one, 1, 1, None, night) for night, held in nights.items() for one, file in held.items()]
    kinds = (pa.string(), pa.int64(), pa.int64(), pa.int64(), pa.string(), pa.int32())
    columns = [pa.array([row[place] for row in rows], kind) for place, kind in enumerate(kinds)]
    return Known(HeldFrames(pa.table(columns, list(COLUMNS))), {}, Seen(None))


@given(
    old=st.dictionaries(st.integers(1, 12), st.integers(1, 6)),
    new=st.dictionaries(st.integers(1, 12), st.integers(1, 6)),
    renamed=st.sets(st.integers(1, 12)),
)
def test_groups_are_the_finest_between_which_nothing_moves(
    old: dict[int, int], new: dict[int, int], renamed: set[int]
) -> None:
    held: dict[int, dict[int, str]] = {}
    for frame, night in old.items():
        held.setdefault(night, {})[frame] = f"{frame}.fits"
    chunks: dict[int, list[Chunk]] = {}
    for frame, night in new.items():
        file = f"{'new' if frame in renamed else ''}{frame}.fits"
        chunks.setdefault(night, []).append(Chunk(pa.table({"frame_id": [frame], "file": [file]}), None))
    moves = Moves.find(chunks, known_of(held))
    moved = {frame for frame in old.keys() & new.keys() if old[frame] != new[frame]}
    assert moves.origins == {old[frame] for frame in moved}
    for night in range(1, 7):
        assert moves.leaving(night) == {frame for frame in moved if old[frame] == night}
    nights = sorted({*new.values(), *moves.origins})
    groups = moves.together(nights)
    assert sorted(night for group in groups for night in group) == nights
    group_of = {night: number for number, group in enumerate(groups) for night in group}
    assert all(group_of[old[frame]] == group_of[new[frame]] for frame in moved)
    assert sum(len(group) - 1 for group in groups) <= len({frozenset((old[one], new[one])) for one in moved})
