"""The files of a camera that a lake knows: their frames, and files that hold the same bytes as another."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skylake.cameras import Profile
from skylake.core.flags import FrameFlag
from skylake.core.ids import config_sha256
from skylake.core.reasons import Reason
from skylake.durable import content_of, replace_text
from skylake.errors import FrameError, cannot_be_written
from skylake.flow.ingest.frame_tasks import Reduction
from skylake.image.fitsio.read_fits import read_file
from skylake.image.reduction.frame_record import new_row
from skylake.lake import Lake
from skylake.lake.cameras.camera_state import damage_of, replace_rows
from skylake.sky.asterism_index import index_name

Ints = npt.NDArray[np.int64]

#: Columns of ``frames`` that are read.
COLUMNS = ("file", "frame_id", "file_bytes", "file_modified_ns", "reason", "night")
#: Names that are converted to Python strings at a time.
_BLOCK = 65536


#: Reasons that may be gone another time; the next run tries such frames again.
_RETRIED = {
    Reason.UNREADABLE.value,
    Reason.WORKER_LOST.value,
    Reason.ERROR.value,
    Reason.BAD_MASTER.value,
    Reason.NO_SKY_FRAME.value,
    Reason.TARGETS_FAILED.value,
}


def is_retried(reason: str | None) -> bool:
    """Return whether a frame should be tried again by the next run."""
    return reason in _RETRIED


Repeat = tuple[int, int | None, int | None]
"""frame_id, size and time of modification of a file whose content is that of another."""

#: Names of files may hold bytes that are no text.
_REPEATS = pa.schema(
    {"file": pa.binary(), "frame_id": pa.int64(), "file_bytes": pa.int64(), "file_modified_ns": pa.int64()}
)


#: Columns that show whether the WCS of a header was checked.
_CHECKED = ("flags", "wcs_expected")


def _unchecked(frames: pa.Table) -> frozenset[str]:
    """Return the files of good frames whose WCS was not checked, as there was no catalog."""
    flagged = pc.not_equal(pc.bit_wise_and(frames["flags"], int(FrameFlag.WCS_UNCHECKED)), 0)
    # A frame that was checked with too few stars of a catalog has their number.
    unchecked = pc.and_(pc.and_(flagged, pc.is_null(frames["wcs_expected"])), pc.is_null(frames["reason"]))
    return frozenset(frames.filter(unchecked)["file"].to_pylist())


class Held(NamedTuple):
    """A frame of the lake: identifier, size and time of modification of its file, reason, night."""

    frame_id: int
    n_bytes: int | None
    modified_ns: int | None
    reason: str | None
    night: int


class HeldFrames:
    """Frames of the lake, in about 100 bytes each; a dictionary would take 600.

    Parameters
    ----------
    frames : pyarrow.Table
        With the :data:`COLUMNS`.
    """

    def __init__(self, frames: pa.Table) -> None:
        order = np.argsort(frames["night"].to_numpy(), kind="stable")
        table = frames.select(list(COLUMNS)).take(pa.array(order)).combine_chunks()
        self._nights: Ints = table["night"].to_numpy().astype(np.int64)
        self._ids: Ints = table["frame_id"].to_numpy()
        self._by_id: Ints = np.argsort(self._ids, kind="stable")
        # Names are found by their hash, which differs from process to process, and then compared.
        hashes = _hashes(table["file"])
        self._by_hash: Ints = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._by_hash]
        self._table = table

    def __reduce__(self) -> tuple[type[HeldFrames], tuple[pa.Table]]:
        """Build it again in another process, where hashes differ."""
        return (HeldFrames, (self._table,))

    def of_file(self, name: str) -> Held | None:
        """Return the frame of a file, the one of the latest night if there are several; None if there is none."""
        wanted = hash(name)
        place = int(np.searchsorted(self._hashes, wanted, "right")) - 1
        while place >= 0 and self._hashes[place] == wanted:
            row = int(self._by_hash[place])
            if self._table["file"][row].as_py() == name:
                return Held(*(self._table[column][row].as_py() for column in COLUMNS[1:]))
            place -= 1
        return None

    def of_night(self, night: int) -> dict[int, str]:
        """Return the frames of a night, frame_id to file."""
        first, end = np.searchsorted(self._nights, [night, night + 1])
        files = self._table["file"].slice(first, end - first).to_pylist()
        return dict(zip(self._ids[first:end].tolist(), files, strict=True))

    def file_of(self, frame_id: int) -> str | None:
        """Return the file of a frame, the one of the latest night if there are several; None if there is none."""
        found = self._rows_of(np.array([frame_id]))
        return None if not found.size else str(self._table["file"][int(found.max())].as_py())

    def nights_of(self, frame_ids: Iterable[int]) -> dict[int, set[int]]:
        """Return the nights that hold some of the frames, each with these frames."""
        found: dict[int, set[int]] = {}
        rows = self._rows_of(np.array(sorted(frame_ids), np.int64))
        for night, frame in zip(self._nights[rows].tolist(), self._ids[rows].tolist(), strict=True):
            found.setdefault(night, set()).add(frame)
        return found

    def _rows_of(self, frame_ids: Ints) -> Ints:
        """Return the rows of some frames; a frame that is in two nights has two."""
        held = self._by_id
        first, end = (np.searchsorted(self._ids, frame_ids, side, sorter=held) for side in ("left", "right"))
        return np.concatenate([held[:0], *(held[a:b] for a, b in zip(first, end, strict=True) if a < b)])


def _hashes(names: pa.ChunkedArray) -> Ints:
    """Return the hash of each text; only few texts at a time are converted to Python strings."""
    found = np.empty(len(names), np.int64)
    for start in range(0, len(names), _BLOCK):
        found[start : start + _BLOCK] = [hash(name) for name in names.slice(start, _BLOCK).to_pylist()]
    return found


class Seen:
    """Files of frames that are not ingested again under another name: those of the lake and of this run.

    Parameters
    ----------
    held : HeldFrames or None
        Frames of the lake; None if all of them are reduced again.
    """

    def __init__(self, held: HeldFrames | None) -> None:
        self._held = held
        self._new: dict[int, str] = {}

    def __contains__(self, frame_id: int) -> bool:
        return self.get(frame_id) is not None

    def get(self, frame_id: int, default: str | None = None) -> str | None:
        """Return the file of a frame, or the default if none was seen."""
        found = self._new.get(frame_id)
        if found is None and self._held is not None:
            found = self._held.file_of(frame_id)
        return default if found is None else found

    def setdefault(self, frame_id: int, file: str) -> str:
        """Return the file of a frame; if none was seen, record and return the given one."""
        found = self.get(frame_id)
        if found is None:
            found = self._new[frame_id] = file
        return found


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
        Frames that are not ingested again under another name: those of the lake, unless they are reduced again, and
        those of this run.
    again : frozenset of str
        Reasons of frames to try again.
    inputs : dict
        Reason to a digest of the present inputs that frames with this reason lacked (:func:`inputs_by_reason`).
    tried : dict
        File to the same digest when the frame was last tried.
    unchecked : frozenset of str
        Files whose WCS was not checked because there was no catalog, and can be checked now.
    """

    frames: HeldFrames
    repeats: dict[str, Repeat]
    seen: Seen
    again: frozenset[str] = frozenset()
    inputs: Mapping[str, str] = field(default_factory=dict)
    tried: dict[str, str] = field(default_factory=dict)
    unchecked: frozenset[str] = frozenset()

    @classmethod
    def read(
        cls,
        lake: Lake,
        camera: str,
        redo: bool = False,
        again: Iterable[str] = (),
        inputs: Mapping[str, str] | None = None,
        has_catalog: bool = False,
    ) -> Known:
        """Read the known files of a camera from a lake.

        With `redo` no frame counts as seen. Without `inputs` no frame is tried again because it lacked one.
        """
        rows = lake.snapshot().read("frames", [*COLUMNS, *_CHECKED], lambda part: part.camera == camera)
        frames = HeldFrames(rows)
        repeats = {
            file: one
            for file, one in read_repeats(lake, camera).items()
            if frames.file_of(one[0]) is not None
        }
        seen, inputs = Seen(None if redo else frames), inputs or {}
        tried = read_tried(lake, camera) if inputs else {}
        unchecked = _unchecked(rows) if has_catalog else frozenset[str]()
        return cls(frames, repeats, seen, frozenset(again), inputs, tried, unchecked)

    def holds(self, path: Path) -> bool:
        """Return whether a file is known, has not changed, and need not be tried again."""
        known, repeat = self.frames.of_file(str(path)), self.repeats.get(str(path))
        try:
            status = path.stat()
        except OSError:
            return False
        now = (status.st_size, status.st_mtime_ns)
        if known is not None and known[1:3] == now and not self._is_due(str(path), known.reason):
            return True
        return repeat is not None and repeat[1:] == now

    def _is_due(self, file: str, reason: str | None) -> bool:
        """Return whether a frame that ended with a reason is to be tried again."""
        if reason is None:
            return file in self.unchecked
        if reason in _RETRIED or reason in self.again:
            return True
        return reason in self.inputs and self.tried.get(file) != self.inputs[reason]

    def note_tried(self, problems: Iterable[Mapping[str, Any]], reduction: Reduction) -> None:
        """Note, for frames that were tried again without success, what the lake had at that time."""
        inputs = inputs_by_reason(reduction)
        for problem in problems:
            if problem["reason"] in inputs:
                self.tried[problem["file"]] = inputs[problem["reason"]]

    def of_nights(self, nights: Iterable[int]) -> dict[int, str]:
        """Return the frames of some nights, frame_id to file.

        A copy of a frame has the same header, and so the same night: workers need no other frames to recognise copies.
        The few that they miss, for example because the site of the camera has moved, are found by :attr:`seen`.
        """
        return {
            frame: file
            for night in nights
            for frame, file in self.frames.of_night(night).items()
            if frame in self.seen
        }

    def whole(self, nights: Mapping[int, Sequence[str]]) -> dict[int, list[str]]:
        """Return the files of nights, including those in the lake, so that it does not matter which are new."""
        return {
            night: sorted({*files, *self.frames.of_night(night).values()}) for night, files in nights.items()
        }


def inputs_by_reason(reduction: Reduction) -> dict[str, str]:
    """Return, by reason, a digest of the present inputs that frames with this reason lacked.

    The digest changes when a frame without a pointing or a master may get one: after an import, a new index, a new
    epoch of the geometry, new masters, or a change of the profile. New versions of a geometry do not change it, since
    there may be one every night.
    """
    catalog, way = reduction.catalog, reduction.profile.base.astrometry
    sky: dict[str, Any] = {
        "catalog": None if catalog is None else [catalog.name, catalog.checksum],
        "index": None if catalog is None or way.all_sky or not way.solve else index_name(catalog),
        "epochs": sorted({one.number for one in reduction.epochs}),
        "chips": sorted({one.period_mjd for one in reduction.guide.chips}),
        "geometries": sorted({one.number for one in reduction.guide.geometries}),
    }
    masters = {} if reduction.library is None else reduction.library.checksums
    placed, reduced = (
        config_sha256({"profile": reduction.profile.sha256, "has": has}) for has in (sky, masters)
    )
    return {Reason.NO_WCS: placed, Reason.BAD_WCS: placed, Reason.NO_MASTER: reduced}


def identify(paths: Sequence[str], profile: Profile) -> list[Repeat | None]:
    """Return the record of each file with known content; None for those that can no longer be read."""
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


def read_tried(lake: Lake, camera: str) -> dict[str, str]:
    """Return, by file, the digest of :func:`inputs_by_reason` when frames were last tried."""
    try:
        found: dict[str, str] = json.loads(content_of(_tried_path(lake, camera)))
    except (OSError, ValueError):
        # No data are lost: such frames are tried once more.
        return {}
    return found


def write_tried(lake: Lake, camera: str, tried: Mapping[str, str]) -> None:
    """Write, by file, the digest of :func:`inputs_by_reason` when frames were last tried.

    Raises
    ------
    LakeError
        If the lake cannot be written.
    """
    try:
        replace_text(_tried_path(lake, camera), json.dumps(tried, indent=0, sort_keys=True))
    except OSError as error:
        raise cannot_be_written(lake.root, error) from error


def _tried_path(lake: Lake, camera: str) -> Path:
    return lake.layout.profile(camera).with_suffix(".tried")


def _path(lake: Lake, camera: str) -> Path:
    return lake.layout.profile(camera).with_suffix(".repeats.parquet")


def read_repeats(lake: Lake, camera: str) -> dict[str, Repeat]:
    """Return the files of a camera that are recorded as repeating another."""
    try:
        content = content_of(_path(lake, camera))
        if damage_of(content):
            return {}
        rows = pq.read_table(pa.BufferReader(content), schema=_REPEATS)
    except (OSError, pa.ArrowInvalid):
        # No data are lost: such files are read once more.
        return {}
    names, *values = (rows[name].to_pylist() for name in _REPEATS.names)
    return {os.fsdecode(name): one for name, one in zip(names, zip(*values, strict=True), strict=True)}


def write_repeats(lake: Lake, camera: str, repeats: dict[str, Repeat]) -> None:
    """Write the files of a camera that repeat another.

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
    replace_rows(lake.layout, path, table)
