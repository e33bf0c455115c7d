"""Store the PSF sums of frames of the last nights, so that a growing night reads each frame once.

The file lies beside the profile of the camera. It may be deleted at any time: its frames are then measured again, with
the same result.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from skylake.cameras import Profile
from skylake.durable import content_of, replacing
from skylake.errors import cannot_be_written
from skylake.image.masters.master_library import Library
from skylake.image.psf.psf_model import N_BASIS, N_FIELD, PsfSums
from skylake.revision import code_version

#: Nights that are kept: the present one, and those that may still get late frames.
_NIGHTS = 3
_N_TERMS = N_BASIS * N_FIELD
_UPPER = np.triu_indices(_N_TERMS)


class HeaderSummary(NamedTuple):
    """Columns of the header of a science frame: time (MJD, UTC), filter, height and width."""

    mjd: float
    filter: str | None
    size: tuple[int, int]


Stamp = tuple[int, int]
"""Size and time of modification of a file."""


@dataclass(slots=True)
class PsfMemory:
    """Headers and PSF sums of the files of one night.

    Attributes
    ----------
    headers : dict
        File to its stamp and header; None for the header of a file that is not a science frame.
    sums : dict
        File to its stamp and the sums of its stars; None where these give nothing.
    changed : bool
        Whether something was added since it was read.
    """

    headers: dict[str, tuple[Stamp, HeaderSummary | None]] = field(default_factory=dict)
    sums: dict[str, tuple[Stamp, PsfSums | None]] = field(default_factory=dict)
    changed: bool = False

    def of(self, files: Sequence[str]) -> PsfMemory:
        """Return the entries of files that have not changed since."""
        now = {file: stamp_of(file) for file in files}
        headers = {file: header for file, header in self.headers.items() if header[0] == now.get(file)}
        return PsfMemory(
            headers, {file: psf_sum for file, psf_sum in self.sums.items() if psf_sum[0] == now.get(file)}
        )

    def note_header(self, file: str, peeked: HeaderSummary | None) -> None:
        """Remember what a header says."""
        now = stamp_of(file)
        if now is not None:
            self.headers[file], self.changed = (now, peeked), True

    def note_sums(self, file: str, sums: PsfSums | None) -> None:
        """Remember what stars give."""
        now = stamp_of(file)
        if now is not None:
            self.sums[file], self.changed = (now, sums), True


def stamp_of(file: str) -> Stamp | None:
    """Return the stamp of a file; None if there is none."""
    try:
        state = Path(file).stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def made_with(profile: Profile, library: Library | None) -> str:
    """Return a digest of all but the frames from which what they give follows from."""
    checksums = {} if library is None else library.checksums
    content = json.dumps([code_version(), profile.sha256, sorted(checksums.items())])
    return hashlib.sha256(content.encode()).hexdigest()


def recall(folder: Path, night: int, digest: str, files: Sequence[str]) -> PsfMemory:
    """Return what is remembered of the files of a night; nothing if it was made with something else, or is damaged."""
    try:
        content = io.BytesIO(content_of(_path(folder, night)))
        with np.load(content, allow_pickle=False) as held:
            stored = json.loads(bytes(held["index"]))
            if stored["made_with"] != digest:
                return PsfMemory()
            numbers, sizes = held["numbers"], held["sizes"]
    except (OSError, ValueError, KeyError, BadZipFile):
        return PsfMemory()
    memory = PsfMemory()
    for file, *stamp, peeked in stored["headers"]:
        known = None if peeked is None else HeaderSummary(peeked[0], peeked[1], (peeked[2][0], peeked[2][1]))
        memory.headers[file] = (stamp[0], stamp[1]), known
    for file, *stamp, place in stored["sums"]:
        memory.sums[file] = (
            (stamp[0], stamp[1]),
            None if place is None else _sums(numbers[place], sizes[place]),
        )
    return memory.of(files)


def remember(folder: Path, night: int, digest: str, memory: PsfMemory) -> None:
    """Keep what the files of a night gave, and forget nights that are long over.

    Raises
    ------
    LakeError
        If the lake cannot be written.
    """
    if not memory.changed:
        return
    known = [(file, psf_sum) for file, psf_sum in memory.sums.items() if psf_sum[1] is not None]
    places = {file: place for place, (file, _) in enumerate(known)}
    content = {
        "made_with": digest,
        "headers": [(file, *stamp, peeked) for file, (stamp, peeked) in memory.headers.items()],
        "sums": [(file, *stamp, places.get(file)) for file, (stamp, _) in memory.sums.items()],
    }
    sums = [psf_sums for _, (_, psf_sums) in known if psf_sums is not None]
    buffer = io.BytesIO()
    np.savez(
        buffer,
        index=np.frombuffer(json.dumps(content).encode(), np.uint8),
        numbers=np.array([_numbers(psf_sum) for psf_sum in sums]),
        sizes=np.array([psf_sum.size for psf_sum in sums], np.int64).reshape(len(sums), 2),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(_path(folder, night), durable=False) as stream:
            stream.write(buffer.getvalue())
        # By the time of use: an old night may be the one that is done again.
        for old in sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)[:-_NIGHTS]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_be_written(folder, error) from error


def _path(folder: Path, night: int) -> Path:
    return folder / f"{night}.npz"


def _numbers(sums: PsfSums) -> npt.NDArray[np.float64]:
    """Return sums as one row; their matrix is symmetric, to the last bit once it is made so."""
    counts = [sums.square, float(sums.n_pixels), float(sums.n_stars), float(sums.n_frames)]
    return np.concatenate([sums.matrix[_UPPER], sums.vector, counts, sums.shape])


def _sums(numbers: npt.NDArray[np.float64], size: Any) -> PsfSums:
    matrix = np.zeros((_N_TERMS, _N_TERMS))
    n = len(_UPPER[0])
    matrix[_UPPER] = numbers[:n]
    matrix[_UPPER[1], _UPPER[0]] = numbers[:n]
    vector, counts, shape = np.split(numbers[n:], [_N_TERMS, _N_TERMS + 4])
    return PsfSums(
        matrix,
        vector,
        float(counts[0]),
        int(counts[1]),
        int(counts[2]),
        int(counts[3]),
        shape,
        (int(size[0]), int(size[1])),
    )
