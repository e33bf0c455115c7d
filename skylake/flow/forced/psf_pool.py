"""Fit the point spread functions of nights from the stars of some frames of each filter and size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import dask

from skylake import logs
from skylake.cameras import Profile, read_header
from skylake.core.batch import UNDATED
from skylake.core.frame_step import Step
from skylake.errors import FrameError, LakeError, reason_of
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.read_ahead import ahead
from skylake.flow.execution.task_guard import guard
from skylake.flow.execution.task_pieces import shared_out
from skylake.flow.forced.detection_files import DetectionFiles
from skylake.flow.forced.psf_history import HeaderSummary, PsfMemory, made_with, recall, remember
from skylake.flow.sky.sky_frames import FileDigests, SkyFrame, SkySource, sky_frames, takes_sky
from skylake.image.fitsio.read_fits import peek_header, peeked_size, read_file
from skylake.image.masters.master_library import Library
from skylake.image.psf.psf_model import PsfModel, PsfSums, solve_psf
from skylake.image.psf.psf_stars import sums_of_frame
from skylake.image.reduction.frame_record import ReduceParams
from skylake.image.reduction.reduce_frame import reduce_frame

_log = logs.get(__name__)

#: Frames of a night, filter and size from which its point spread function is made, at most; how often frames that
#: give nothing are replaced by others; frames in one task, and headers.
_FRAMES = 20
_ROUNDS = 3
_CHUNK = 4
_PEEK_CHUNK = 64
#: Binary digits of the time of day by which frames are chosen: a tenth of a second.
_RANK_BITS = 20


class PsfKey(NamedTuple):
    """What the frames share that are measured with one point spread function.

    The filter is as the camera calls it, whatever names headers have for it; the size is height and width.
    """

    night: int
    filter: str | None
    size: tuple[int, int]


def psf_for(psfs: Mapping[PsfKey, PsfModel], key: PsfKey) -> PsfModel | None:
    """Return the point spread function of a frame: that of its filter, else the best of its night."""
    others = [psf for name, psf in psfs.items() if (name.night, name.size) == (key.night, key.size)]
    return psfs.get(key) or max(others, key=lambda psf: psf.quality.n_stars, default=None)


def pool_psfs(
    nights: Mapping[int, Sequence[str]],
    profile: Profile,
    workers: Workers,
    library: Library | None = None,
    scratch: Path | None = None,
    keep: Path | None = None,
    neighbours: Sequence[SkyFrame] | None = None,
    detections: Path | None = None,
) -> dict[PsfKey, PsfModel]:
    """Return the point spread functions of nights, from frames that are spread over them.

    This is a pass of its own over some twenty frames, instead of sums collected while all frames are reduced. So all
    frames of a run are measured with the same function, whichever worker reduces them. The sums of a frame are small,
    and add up in the order in which frames are chosen. The files must be those of the whole night, including those in
    the lake; otherwise a frame that comes by itself would have a function from one frame. Frames that give nothing are
    replaced. If the sky is subtracted, frames of it are kept in `scratch` while they are needed; `neighbours` are the
    frames it is made from, if they are known already.

    The choice of frames depends on their times alone, and a frame that comes later replaces few of them. With a folder
    `keep`, in which the sums of the last nights are stored, a night that comes frame by frame reduces each frame once
    for this, and ends with the same functions as a night that comes as a whole. If the sky is subtracted, the sums of
    a frame depend on its neighbours too, and nothing is stored.

    The folder `detections` gets a file for each of some frames with the detections on it, so that these frames are
    not searched twice (:class:`~skylake.flow.forced.detection_files.DetectionFiles`).
    """
    if neighbours is None:
        neighbours = sky_frames(nights, profile, workers)
    files = None if detections is None or takes_sky(profile) else DetectionFiles(detections, may_add=True)
    camera = _ReductionOfCamera(profile, library, tuple(neighbours), scratch, files)
    shared = dask.delayed(camera, pure=False, traverse=False)
    digest, folder = made_with(profile, library), None if takes_sky(profile) else keep
    memories = {
        night: PsfMemory() if folder is None else recall(folder, night, digest, files)
        for night, files in nights.items()
    }
    left = _science_frames(nights, profile, workers, memories)
    missing = dict.fromkeys(left, _FRAMES)
    sums: dict[PsfKey, PsfSums] = {}
    for _ in range(_ROUNDS):
        chosen = {group: files[: max(missing[group], 0)] for group, files in left.items()}
        left = {group: files[len(chosen[group]) :] for group, files in left.items()}
        _ask_frames(chosen, shared, workers, memories)
        for group, psf_sums in _sums_of_frames(chosen, memories):
            missing[group] -= 1
            key = PsfKey(group.night, group.filter, psf_sums.size)
            sums[key] = sums[key] + psf_sums if key in sums else psf_sums
    if folder is not None:
        for night, memory in memories.items():
            remember(folder, night, digest, memory)
    _warn_of(left, sums)
    return {key: solve_psf(psf_sum) for key, psf_sum in sums.items()}


def _warn_of(asked: Iterable[PsfKey], measured: Iterable[PsfKey]) -> None:
    """Log the nights without a point spread function; targets are not measured on frames without a time."""
    for night in sorted({group.night for group in asked} - {key.night for key in measured} - {UNDATED}):
        names = sorted({group.filter or "no filter" for group in asked if group.night == night})
        _log.warning(
            "no frame of the night %d (%s) gives the point spread function: none can be used, or bright lonely stars "
            "are too few; a Moffat profile is used for those that do not give it themselves",
            night,
            ", ".join(names),
        )


def _sums_of_frames(
    chosen: Mapping[PsfKey, Sequence[str]], memories: Mapping[int, PsfMemory]
) -> Iterator[tuple[PsfKey, PsfSums]]:
    """Yield the sums of frames, those of each group in their order."""
    for group, files in chosen.items():
        for file in files:
            _, sums = memories[group.night].sums.get(file, (None, None))
            if sums is not None:
                yield group, sums


def _ask_frames(
    chosen: Mapping[PsfKey, Sequence[str]],
    shared: object,
    workers: Workers,
    memories: Mapping[int, PsfMemory],
) -> None:
    """Reduce the frames whose sums are not stored yet, and store these."""
    task = dask.delayed(sum_frames, pure=False)
    pieces = []
    for group, files in chosen.items():
        asked = [file for file in files if file not in memories[group.night].sums]
        pieces += [(group, some) for some in shared_out(asked, workers.count, _CHUNK)]
    results = workers.run([task(files, shared) for _, files in pieces]) if pieces else []
    for (group, files), result in zip(pieces, results, strict=True):
        if isinstance(result, BaseException):
            _log.warning(
                "some frames gave nothing to the point spread function of %d (%s)", group.night, result
            )
            continue
        for file, psf_sums in zip(files, result, strict=True):
            memories[group.night].note_sums(file, psf_sums)


def _science_frames(
    nights: Mapping[int, Sequence[str]], profile: Profile, workers: Workers, memories: Mapping[int, PsfMemory]
) -> dict[PsfKey, list[str]]:
    """Return the frames of each night, filter and size before reduction, in the order in which they are wanted."""
    _ask_headers(nights, profile, workers, memories)
    timed: dict[PsfKey, dict[float, list[str]]] = {}
    for night, files in nights.items():
        for file in files:
            _, known = memories[night].headers.get(file, (None, None))
            if known is not None:
                timed.setdefault(PsfKey(night, known.filter, known.size), {}).setdefault(
                    known.mjd, []
                ).append(file)
    order = sorted(timed, key=lambda key: (key.night, key.filter or "", key.size))
    return {key: _ranked(timed[key]) for key in order}


def _ranked(moments: Mapping[float, Sequence[str]]) -> list[str]:
    """Return the first file of each moment by the rank of its time, then further ones as long as they may be wanted.

    Those that are copies of a frame of their moment, such as one that was moved, are left out; others are frames of a
    series that is faster than the times in the headers.
    """
    ranks, contents = sorted(moments, key=_rank), FileDigests()
    taken = {mjd: [moments[mjd][0]] for mjd in ranks}
    files = [moments[mjd][0] for mjd in ranks]
    for number in range(1, max(map(len, moments.values()))):
        for mjd in ranks:
            if len(files) >= _FRAMES * _ROUNDS:
                return files
            if number < len(moments[mjd]) and contents.is_new(moments[mjd][number], taken[mjd]):
                taken[mjd].append(moments[mjd][number])
                files.append(moments[mjd][number])
    return files


def _ask_headers(
    nights: Mapping[int, Sequence[str]], profile: Profile, workers: Workers, memories: Mapping[int, PsfMemory]
) -> None:
    """Read the headers that are not stored yet, and store them."""
    peek = dask.delayed(peek_frames, pure=False)
    pieces = []
    for night, files in nights.items():
        asked = [file for file in files if file not in memories[night].headers]
        pieces += [(night, some) for some in shared_out(asked, workers.count, _PEEK_CHUNK)]
    results = workers.run([peek(files, profile) for _, files in pieces]) if pieces else []
    for (night, files), result in zip(pieces, results, strict=True):
        if isinstance(result, BaseException):
            _log.warning("some headers of %d could not be read (%s)", night, result)
            continue
        for file, summary in zip(files, result, strict=True):
            memories[night].note_header(file, summary)


def _rank(mjd: float) -> tuple[int, float]:
    """Return the rank of a time: those of the smallest ranks are spread evenly over any part of a day.

    The binary digits of the time of day in reverse order (van der Corput 1935): first one per day, then the one half
    a day later, then those between, and so on. So a frame has its rank whatever the others are.
    """
    ticks = int((mjd % 1.0) * (1 << _RANK_BITS))
    return int(f"{ticks:0{_RANK_BITS}b}"[::-1], 2), mjd


def peek_frames(paths: Sequence[str], profile: Profile) -> list[HeaderSummary | None]:
    """Return the header of each file; None for files that are not science frames. Runs on a worker."""
    headers = [guard(partial(_peek, path, profile)) for path in paths]
    return [None if isinstance(header, FrameError) else header for header in headers]


def _peek(path: str, profile: Profile) -> HeaderSummary | None:
    header = peek_header(path, profile.base.header.extension)
    if header is None:
        return None
    reading = read_header(header, profile, Path(path).name)
    if reading.problem is not None or reading.mjd_mid is None:
        return None
    return HeaderSummary(reading.mjd_mid, reading.camera.called_filter(reading.filter), peeked_size(header))


@dataclass(frozen=True, slots=True)
class _ReductionOfCamera:
    """What the frames of a camera are reduced with: masters, and neighbours for the sky if it is taken off."""

    profile: Profile
    library: Library | None
    neighbours: tuple[SkyFrame, ...]
    scratch: Path | None
    detections: DetectionFiles | None = None


def sum_frames(paths: Sequence[str], camera: _ReductionOfCamera) -> list[PsfSums | None]:
    """Return the sums of the stars of each frame for the point spread function, or None; runs on a worker."""
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


def _sum_frames(
    paths: Sequence[str], camera: _ReductionOfCamera, sky: SkySource | None
) -> list[PsfSums | None]:
    params = ReduceParams(
        library=camera.library,
        sky=sky,
        finish=lambda extracted: Step(sums_of_frame(extracted)),
        unplaced=True,
        keeper=camera.detections,
    )
    sums: list[PsfSums | None] = []
    for path in ahead(paths):
        try:
            content = read_file(path)
        except FrameError:
            sums.append(None)
            continue
        sums.append(reduce_frame(content, camera.profile, params).finished)
    return sums
