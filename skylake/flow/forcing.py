"""The parts of ingest that measure targets: the point spread function of each night, then forced photometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask
import numpy as np

from skylake import logs
from skylake.cameras import Profile
from skylake.errors import FrameError, LakeError, reason_of
from skylake.flow.cluster import Workers
from skylake.flow.skyframes import SkySource, takes_sky
from skylake.flow.targetlist import TargetList
from skylake.image.extracted import Extracted
from skylake.image.forced import ForcedMeasurements, force_targets
from skylake.image.library import Library
from skylake.image.placing import TargetFinder
from skylake.image.psf import PsfModel, PsfSums, solve_psf
from skylake.image.psfstars import sums_of_frame
from skylake.image.read import read_file
from skylake.image.reduce import Finisher, reduce_frame

_log = logs.get(__name__)

#: Frames of a night from which its point spread function is made, at most, and frames in one task.
_FRAMES = 20
_CHUNK = 4


@dataclass(frozen=True, slots=True)
class Forcing:
    """What forced photometry needs: the targets, and the point spread function of each night."""

    targets: TargetList
    psfs: Mapping[int, PsfModel] = field(default_factory=dict)

    def finisher(self, find_targets: TargetFinder) -> Finisher:
        """Return what measures the targets of a frame."""

        def finish(extracted: Extracted) -> ForcedMeasurements | None:
            forced = force_targets(extracted, find_targets, self.psfs.get(int(extracted.row["night"])))
            extracted.row.update(_frame_row(self.targets.version, forced))
            return forced

        return finish


def _frame_row(version: int, forced: ForcedMeasurements | None) -> dict[str, Any]:
    """Return what ``frames`` tells of the targets of a frame."""
    row: dict[str, Any] = {"targets_version": version, "n_targets": 0 if forced is None else len(forced)}
    if forced is not None:
        row |= {"targets_dx_px": forced.shift_px[0], "targets_dy_px": forced.shift_px[1]}
        row |= {"psf_stars": forced.quality.n_stars, "psf_chi2": forced.quality.chi2}
    return row


def pool_psfs(
    nights: Mapping[int, Sequence[str]],
    profile: Profile,
    workers: Workers,
    library: Library | None = None,
    scratch: Path | None = None,
) -> dict[int, PsfModel]:
    """Return the point spread function of each night, from frames that are spread over it.

    A pass of its own over some twenty frames, rather than sums collected while all are reduced: all frames of a run
    are then measured with one and the same function, whichever worker has them, and no frame has to be read twice in
    a long night. The sums of a frame are small, and add up in the order of the frames. The files are to be those of
    the whole night, with what the lake holds: a frame that comes by itself would else have a function of one frame.
    Cameras that take the sky off keep frames of it in `scratch` while they are needed.
    """
    task = dask.delayed(sum_frames, pure=False)
    pieces: list[tuple[int, list[str]]] = []
    for night, files in nights.items():
        ordered = sorted(files)
        places = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), _FRAMES)).round().astype(int))
        chosen = [ordered[place] for place in places]
        size = max(1, min(_CHUNK, -(-len(chosen) // workers.count)))
        pieces += [(night, chosen[start : start + size]) for start in range(0, len(chosen), size)]
    neighbours = [file for files in nights.values() for file in files] if takes_sky(profile) else []
    shared = dask.delayed(_Camera(profile, library, tuple(neighbours), scratch), pure=False, traverse=False)
    results = workers.run([task(files, shared) for _, files in pieces])
    sums: dict[int, PsfSums] = {}
    for (night, _), result in zip(pieces, results, strict=True):
        if isinstance(result, BaseException):
            _log.warning("some frames gave nothing to the point spread function of %d (%s)", night, result)
            continue
        for one in result:
            if night in sums and sums[night].size != one.size:
                continue
            sums[night] = sums[night] + one if night in sums else one
    for night in sorted(set(nights) - set(sums)):
        _log.warning(
            "no frame of %d tells the point spread function; a Moffat profile stands in for it", night
        )
    return {night: solve_psf(one) for night, one in sums.items()}


@dataclass(frozen=True, slots=True)
class _Camera:
    """What the frames of a camera are reduced with: masters, and neighbours for the sky if it is taken off."""

    profile: Profile
    library: Library | None
    neighbours: tuple[str, ...]
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
