"""What a lake knows of the files of a camera: their frames, and which hold the same bytes as another."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from skylake.cameras import Profile
from skylake.core.reasons import Reason
from skylake.errors import FrameError, cannot_be_written
from skylake.flow.heldframes import COLUMNS, HeldFrames, Seen
from skylake.image.read import read_file
from skylake.image.reduce import new_row
from skylake.lake import Lake

#: What may go better another time; such frames are taken up again by the next run.
_RETRIED = {
    Reason.UNREADABLE.value, Reason.WORKER_LOST.value, Reason.ERROR.value, Reason.NO_MASTER.value,
    Reason.BAD_MASTER.value, Reason.NO_SKY_FRAME.value, Reason.TARGETS_FAILED.value,
}  # fmt: skip


def is_retried(reason: str | None) -> bool:
    """Tell whether a frame may go better another time."""
    return reason in _RETRIED


Repeat = tuple[int, int | None, int | None]
"""frame_id, size and time of modification of a file whose content is that of another."""

#: Names of files may hold bytes that are no text.
_REPEATS = pa.schema(
    {"file": pa.binary(), "frame_id": pa.int64(), "file_bytes": pa.int64(), "file_modified_ns": pa.int64()}
)


@dataclass(frozen=True, slots=True)
class Known:
    """The files of a camera that the lake knows.

    Attributes
    ----------
    frames : HeldFrames
        Frames of the lake.
    repeats : dict
        File to :data:`Repeat`, of files that have no row since another with the same bytes has it.
    seen : Seen
        Every frame that is not to be taken in again under another name: those of the lake, unless they are done anew,
        and those of this run.
    """

    frames: HeldFrames
    repeats: dict[str, Repeat]
    seen: Seen

    @classmethod
    def read(cls, lake: Lake, camera: str, redo: bool = False) -> Known:
        """Read them; with `redo` no frame counts as seen."""
        frames = HeldFrames(lake.snapshot().read("frames", COLUMNS, lambda part: part.camera == camera))
        repeats = {
            file: one
            for file, one in read_repeats(lake, camera).items()
            if frames.file_of(one[0]) is not None
        }
        return cls(frames, repeats, Seen(None if redo else frames))

    def holds(self, path: Path) -> bool:
        """Tell whether a file is known and has not changed, and another try is of no use."""
        known, repeat = self.frames.of_file(str(path)), self.repeats.get(str(path))
        try:
            status = path.stat()
        except OSError:
            return False
        now = (status.st_size, status.st_mtime_ns)
        if known is not None and known.reason not in _RETRIED and known[1:3] == now:
            return True
        return repeat is not None and repeat[1:] == now

    def of_nights(self, nights: Iterable[int]) -> dict[int, str]:
        """Return the frames of some nights, frame_id to file.

        A copy of a frame has its header, and so its night: these are all that a worker needs to know to
        leave copies alone. The few that escape it, as when the site of the camera has moved, are found by
        :attr:`seen`.
        """
        return {
            frame: file
            for night in nights
            for frame, file in self.frames.of_night(night).items()
            if frame in self.seen
        }

    def whole(self, nights: Mapping[int, Sequence[str]]) -> dict[int, list[str]]:
        """Return the files of nights with those that the lake holds of them, so that it is all one what is new."""
        return {
            night: sorted({*files, *self.frames.of_night(night).values()}) for night, files in nights.items()
        }


def identify(paths: Sequence[str], profile: Profile) -> list[Repeat | None]:
    """Return what is remembered of files with known content; None for those that cannot be read any more."""
    found: list[Repeat | None] = []
    for path in paths:
        try:
            content = read_file(path)
        except FrameError:
            found.append(None)
            continue
        row = new_row(profile, content.path, content)
        found.append((row["frame_id"], row["file_bytes"], row["file_modified_ns"]))
    return found


def _path(lake: Lake, camera: str) -> Path:
    return lake.layout.profile(camera).with_suffix(".repeats.parquet")


def read_repeats(lake: Lake, camera: str) -> dict[str, Repeat]:
    """Return the files of a camera that are remembered as repeating another."""
    try:
        rows = pq.read_table(_path(lake, camera), schema=_REPEATS, partitioning=None)
    except (OSError, pa.ArrowInvalid):
        # Nothing is lost: such files are read once more.
        return {}
    names, *values = (rows[name].to_pylist() for name in _REPEATS.names)
    return {os.fsdecode(name): one for name, one in zip(names, zip(*values, strict=True), strict=True)}


def write_repeats(lake: Lake, camera: str, repeats: dict[str, Repeat]) -> None:
    """Remember the files of a camera that repeat another.

    Raises
    ------
    LakeError
        If the lake cannot be written.
    """
    path = _path(lake, camera)
    rows = sorted(repeats.items())
    columns = [[os.fsencode(file) for file, _ in rows], *zip(*(one for _, one in rows), strict=True)]
    table = pa.table(
        [pa.array(values, kind) for values, kind in zip(columns, _REPEATS.types, strict=True)], _REPEATS
    )
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        pq.write_table(table, temporary, compression="zstd")
        temporary.replace(path)
    except OSError as error:
        raise cannot_be_written(lake.root, error) from error
