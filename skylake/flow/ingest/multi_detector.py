"""Ingest of a camera of several chips: each is a camera of its own, and chips with stars place those without."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np

from skylake.cameras import Profile
from skylake.cameras.chips import chip_of
from skylake.core.reasons import Reason
from skylake.core.sphere import ARCSEC_PER_RADIAN
from skylake.errors import LakeError, reason_of
from skylake.flow.astrometry.detector_frames import Frames, is_located
from skylake.flow.astrometry.learn_focal_plane import learn_focal_plane
from skylake.flow.discover_files import find_frames
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.run_progress import Progress
from skylake.flow.ingest.ingest_report import IngestOptions, IngestReport
from skylake.flow.ingest.known_files import Known
from skylake.flow.ingest.neighbour_pass import changed_priors
from skylake.flow.masters.build_masters import BuildOptions, MasterBuildReport, build_masters
from skylake.image.distortion.focal_plane import attitude_from
from skylake.image.fitsio.read_fits import peek_header
from skylake.image.solving.expected_pointing import Attitude, PlacedChip, frame_matrix
from skylake.lake import Lake
from skylake.lake.cameras.stored_focal_planes import read_focal_plane

#: Headers read in one task.
_PEEK_CHUNK = 256
#: Reasons of frames that others can place.
LOST = {Reason.NO_WCS.value, Reason.BAD_WCS.value}
#: A frame with fewer stars does not place its siblings.
_LEAST_STARS = 6

#: Ingests files and folders of one chip.
IngestChip = Callable[[Profile, Iterable[str | Path], IngestOptions], IngestReport]


def ingest_chips(
    lake: Lake,
    chips: Sequence[Profile],
    paths: Iterable[str | Path],
    workers: Workers,
    options: IngestOptions,
    run: IngestChip,
) -> IngestReport:
    """Ingest frames of a camera, chip after chip; then place frames with too few stars of their own by their siblings.

    Parameters
    ----------
    lake : Lake
    chips : sequence of Profile
    paths : iterable of path
        Files and folders.
    workers : Workers
    options : IngestOptions
    run : callable
        Ingests some files of one chip.

    Raises
    ------
    LakeError
        If there is nothing to read, or as `run` does.
    """
    files, complaints = find_frames(paths)
    if not files:
        raise LakeError("; ".join(complaints) or "no files were named; name files or folders with frames")
    report = IngestReport(complaints=complaints)
    of_chip = _assigned(lake, chips, files, workers)
    # Siblings of an exposure place a frame better than the frames before and after, so they come first.
    alone = replace(options, neighbours=False)
    for profile, some in zip(chips, of_chip, strict=True):
        if some:
            report.add(run(profile, some, alone))
    nights = {int(batch["night"]) for batch in report.batches}
    if nights:
        learn_focal_plane(lake, chips)
        _place(lake, chips, nights, report, alone, run)
        if options.neighbours:
            again = replace(options, redo=True)
            _place_by_neighbours(lake, chips, nights, report, again, run, workers)
    return report


def build_camera_masters(
    lake: Lake,
    chips: Sequence[Profile],
    paths: Iterable[str | Path],
    workers: Workers,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> MasterBuildReport:
    """Make the masters of each chip of a camera; see :func:`skylake.flow.masters.build_masters.build_masters`."""
    options = options or BuildOptions()
    if len(chips) == 1:
        return build_masters(lake, chips[0], paths, workers, options, progress)
    files, complaints = find_frames(paths)
    whole = MasterBuildReport(warnings=complaints)
    for profile, some in zip(chips, _assigned(lake, chips, files, workers), strict=True):
        if some or not files:
            made = build_masters(lake, profile, some, workers, options, progress)
            whole.masters += made.masters
            whole.left_out += made.left_out
            whole.warnings += made.warnings
    return whole


def _assigned(lake: Lake, chips: Sequence[Profile], files: list[Path], workers: Workers) -> list[list[Path]]:
    """Return the files of each chip; files of no chip go to the first one, whose ingest reports what is wrong."""
    if not any(profile.base.place.has_own_files for profile in chips):
        return [files for _ in chips]
    found: dict[Path, int] = {}
    for number, profile in enumerate(chips):
        known = Known.read(lake, profile.name)
        found.update({path: number for path in files if path not in found and known.holds(path)})
    fresh = [str(path) for path in files if path not in found]
    pieces = [fresh[i : i + _PEEK_CHUNK] for i in range(0, len(fresh), _PEEK_CHUNK)]
    task = dask.delayed(chips_of_files, pure=False)
    results = workers.run([task(piece, chips) for piece in pieces])
    for piece, result in zip(pieces, results, strict=True):
        if isinstance(result, BaseException):
            raise LakeError(
                f"the headers could not be read ({reason_of(result, with_file=True)})"
            ) from result
        found.update({Path(name): number for name, number in zip(piece, result, strict=True)})
    return [[path for path in files if found[path] == number] for number in range(len(chips))]


def chips_of_files(files: Sequence[str], chips: Sequence[Profile]) -> list[int]:
    """Return the chip of each file by its name or header; 0 for a file of no chip."""
    cameras = [profile.base for profile in chips]
    by_card = any(camera.place.card is not None for camera in cameras)
    found = []
    for file in files:
        header = peek_header(file, cameras[0].header.extension) if by_card else None
        found.append(chip_of(cameras, header, Path(file).name) or 0)
    return found


def _place(
    lake: Lake,
    chips: Sequence[Profile],
    nights: set[int],
    report: IngestReport,
    options: IngestOptions,
    run: IngestChip,
) -> None:
    """Reduce frames again that their siblings can place."""
    placed = [read_focal_plane(lake.layout, profile.name) for profile in chips]
    frames = Frames.read(lake.snapshot(), chips, nights)
    attitudes = _attitudes(frames, placed)
    taken = {(problem["camera"], problem["file"]) for problem in report.problems if problem["reason"] in LOST}
    for number, profile in enumerate(chips):
        mine = {
            file: one
            for (chip, file), one in attitudes.items()
            if chip == number and (profile.name, file) in taken
        }
        if mine:
            again = run(profile, mine, replace(options, redo=True, attitudes=mine))
            report.replace(profile.name, again, mine)


def _place_by_neighbours(
    lake: Lake,
    chips: Sequence[Profile],
    nights: set[int],
    report: IngestReport,
    options: IngestOptions,
    run: IngestChip,
    workers: Workers,
) -> None:
    """Reduce frames again that neither their stars nor their siblings place, but frames before and after can."""
    for profile in chips:
        solves = profile.base.catalog.over(lake.settings.catalog).solve
        if not solves or profile.base.astrometry.neighbours == "never":
            continue
        asked = changed_priors({night: [] for night in nights}, lake.snapshot(), profile, workers)
        files = {file for some in asked.values() for _, file in some}
        if files:
            report.replace(profile.name, run(profile, sorted(files), options), files)


def _attitudes(frames: Frames, placed: Sequence[tuple[PlacedChip, ...]]) -> dict[tuple[int, str], Attitude]:
    """Return how the telescope pointed, for each lost frame with siblings that are placed."""
    found: dict[tuple[int, str], Attitude] = {}
    for rows in frames.exposures():
        lost = [row for row in rows if frames.rows[row]["reason"] in LOST]
        mjd = frames.rows[rows[0]]["mjd_mid"]
        here = [next((one for one in epochs if one.holds_at(mjd)), None) for epochs in placed]
        located = [row for row in rows if is_located(frames.rows[row], _LEAST_STARS)]
        located = [
            row
            for row in located
            if here[frames.chip[row]] is not None and frames.rows[row]["wcs_source"] != "mosaic"
        ]
        if not lost or not located:
            continue
        attitude = _attitude(frames.taken(located), here)
        found.update({(int(frames.chip[row]), frames.rows[row]["file"]): attitude for row in lost})
    return found


def _attitude(frames: Frames, placed: Sequence[PlacedChip | None]) -> Attitude:
    places, sigma = np.tile(np.eye(3), (len(placed), 1, 1)), np.zeros((len(placed), 3))
    for number, one in enumerate(placed):
        if one is not None:
            places[number] = frame_matrix(one.lens, one.shape)
            across = np.array([one.sigma_arcsec[1], one.sigma_arcsec[0]]) / ARCSEC_PER_RADIAN
            sigma[number] = *across, np.radians(one.sigma_angle_deg)
    known = next(one for one in placed if one is not None)
    scatter = known.scatter_arcsec / ARCSEC_PER_RADIAN, float(np.radians(known.scatter_deg))
    matrix, covariance = attitude_from(frames.orientations(), places, sigma, scatter)
    direction, angle = np.sqrt(np.diag(covariance)[:2].mean()), np.sqrt(covariance[2, 2])
    return Attitude(matrix, float(direction) * ARCSEC_PER_RADIAN, float(np.degrees(angle)))
