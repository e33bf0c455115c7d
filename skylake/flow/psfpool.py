"""The point spread functions of nights: frames of each filter and size, and the sums of what their stars tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import dask
import numpy as np

from skylake import logs
from skylake.cameras import Profile, read_header
from skylake.errors import FrameError, LakeError, reason_of
from skylake.flow.cluster import Workers
from skylake.flow.guard import guard
from skylake.flow.skyframes import SkyFrame, SkySource, sky_frames
from skylake.image.library import Library
from skylake.image.psf import PsfModel, PsfSums, solve_psf
from skylake.image.psfstars import sums_of_frame
from skylake.image.read import peek_header, read_file
from skylake.image.reduce import reduce_frame

_log = logs.get(__name__)

#: Frames of a night, filter and size from which its point spread function is made, at most; how often those that
#: tell nothing are replaced by others; frames in one task, and headers.
_FRAMES = 20
_ROUNDS = 3
_CHUNK = 4
_PEEK_CHUNK = 64


class PsfKey(NamedTuple):
    """What frames have in common that are measured with one point spread function; the size is height and width."""

    night: int
    filter: str | None
    size: tuple[int, int]


def psf_for(psfs: Mapping[PsfKey, PsfModel], key: PsfKey) -> PsfModel | None:
    """Return the point spread function of a frame: that of its filter, else the best of its night."""
    others = [one for name, one in psfs.items() if (name.night, name.size) == (key.night, key.size)]
    return psfs.get(key) or max(others, key=lambda one: one.quality.n_stars, default=None)


def pool_psfs(
    nights: Mapping[int, Sequence[str]],
    profile: Profile,
    workers: Workers,
    library: Library | None = None,
    scratch: Path | None = None,
    neighbours: Sequence[SkyFrame] | None = None,
) -> dict[PsfKey, PsfModel]:
    """Return the point spread functions of nights, from frames that are spread over them.

    A pass of its own over some twenty frames, rather than sums collected while all are reduced: all frames of a run
    are then measured with one and the same function, whichever worker has them, and no frame has to be read twice in
    a long night. The sums of a frame are small, and add up in the order of the frames. The files are to be those of
    the whole night, with what the lake holds: a frame that comes by itself would else have a function of one frame.
    Frames that tell nothing are replaced. Cameras that take the sky off keep frames of it in `scratch` while they are
    needed; `neighbours` are those that tell it, if they are known already.
    """
    if neighbours is None:
        neighbours = sky_frames(nights, profile, workers)
    shared = dask.delayed(_Camera(profile, library, tuple(neighbours), scratch), pure=False, traverse=False)
    left = _science_frames(nights, profile, workers)
    missing = dict.fromkeys(left, _FRAMES)
    sums: dict[PsfKey, PsfSums] = {}
    for _ in range(_ROUNDS):
        chosen = {group: _spread(files, missing[group]) for group, files in left.items()}
        left = {group: _without(files, chosen[group]) for group, files in left.items()}
        for group, one in _sum_groups(chosen, shared, workers):
            missing[group] -= 1
            key = PsfKey(group.night, group.filter, one.size)
            sums[key] = sums[key] + one if key in sums else one
    for night in sorted({group.night for group in left} - {key.night for key in sums}):
        _log.warning("no frame of %d tells the point spread function; a Moffat profile stands in", night)
    return {key: solve_psf(one) for key, one in sums.items()}


def _without(files: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """Return files without some of them, in their order."""
    taken = set(chosen)
    return [file for file in files if file not in taken]


def _spread(files: Sequence[str], count: int) -> list[str]:
    """Return so many of the files, from the first to the last."""
    places = np.linspace(0, len(files) - 1, max(min(len(files), count), 0)).round().astype(int)
    return [files[place] for place in np.unique(places)]


def _sum_groups(
    chosen: Mapping[PsfKey, Sequence[str]], shared: object, workers: Workers
) -> list[tuple[PsfKey, PsfSums]]:
    """Return what frames tell, those of each group in their order."""
    task = dask.delayed(sum_frames, pure=False)
    pieces = []
    for group, files in chosen.items():
        size = max(1, min(_CHUNK, -(-len(files) // workers.count)))
        pieces += [(group, files[start : start + size]) for start in range(0, len(files), size)]
    found = []
    results = workers.run([task(files, shared) for _, files in pieces]) if pieces else []
    for (group, _), result in zip(pieces, results, strict=True):
        if isinstance(result, BaseException):
            _log.warning(
                "some frames gave nothing to the point spread function of %d (%s)", group.night, result
            )
        else:
            found += [(group, one) for one in result]
    return found


def _science_frames(
    nights: Mapping[int, Sequence[str]], profile: Profile, workers: Workers
) -> dict[PsfKey, list[str]]:
    """Return the frames of each night, filter and size before reduction in the order of time, by their headers.

    Of files with one and the same time one is taken: they are copies of a frame, such as one that was moved.
    """
    peek = dask.delayed(peek_frames, pure=False)
    pieces = [
        (night, files[start : start + _PEEK_CHUNK])
        for night, files in nights.items()
        for start in range(0, len(files), _PEEK_CHUNK)
    ]
    results = workers.run([peek(files, profile) for _, files in pieces]) if pieces else []
    timed: dict[PsfKey, dict[float, str]] = {}
    for (night, files), result in zip(pieces, results, strict=True):
        if isinstance(result, BaseException):
            _log.warning("some headers of %d could not be read (%s)", night, result)
            continue
        for file, one in zip(files, result, strict=True):
            if one is not None:
                timed.setdefault(PsfKey(night, one.filter, one.size), {}).setdefault(one.mjd, file)
    order = sorted(timed, key=lambda key: (key.night, key.filter or "", key.size))
    return {key: [timed[key][mjd] for mjd in sorted(timed[key])] for key in order}


class _Peeked(NamedTuple):
    """What the header of a science frame tells: its time (MJD, UTC), filter, and height and width."""

    mjd: float
    filter: str | None
    size: tuple[int, int]


def peek_frames(paths: Sequence[str], profile: Profile) -> list[_Peeked | None]:
    """Return what the header of each file tells; None for those that are no science frame. Runs on a worker."""
    found = [guard(partial(_peek, path, profile)) for path in paths]
    return [None if isinstance(one, FrameError) else one for one in found]


def _peek(path: str, profile: Profile) -> _Peeked | None:
    header = peek_header(path, profile.base.header.extension)
    if header is None:
        return None
    reading = read_header(header, profile, Path(path).name)
    if reading.problem is not None or reading.mjd_mid is None:
        return None
    width, height = (int(header.get(f"ZNAXIS{axis}", header.get(f"NAXIS{axis}", 0))) for axis in (1, 2))
    return _Peeked(reading.mjd_mid, reading.filter, (height, width))


@dataclass(frozen=True, slots=True)
class _Camera:
    """What the frames of a camera are reduced with: masters, and neighbours for the sky if it is taken off."""

    profile: Profile
    library: Library | None
    neighbours: tuple[SkyFrame, ...]
    scratch: Path | None


def sum_frames(paths: Sequence[str], camera: _Camera) -> list[PsfSums]:
    """Return what the stars of some frames say of the point spread function; runs on a worker."""
    if not camera.neighbours:
        return _sum_frames(paths, camera, None)
    try:
        if camera.scratch is not None:
            camera.scratch.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=camera.scratch) as folder:
            sky = SkySource(camera.neighbours, camera.profile, camera.library, Path(folder))
            return _sum_frames(paths, camera, sky)
    except OSError as error:
        raise LakeError(
            f"{camera.scratch}: frames of the sky cannot be kept ({reason_of(error)}); free space and run again"
        ) from error


def _sum_frames(paths: Sequence[str], camera: _Camera, sky: SkySource | None) -> list[PsfSums]:
    found = []
    for path in paths:
        try:
            content = read_file(path)
        except FrameError:
            continue
        sums = reduce_frame(
            content, camera.profile, library=camera.library, sky=sky, finish=sums_of_frame
        ).finished
        if sums is not None:
            found.append(sums)
    return found
