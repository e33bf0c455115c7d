"""Frames by themselves, as an ingest would reduce them: rows, planes for pictures, and completeness."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skylake.cameras import HeaderReading, Profile, read_header
from skylake.core.camera import Site
from skylake.core.frame import Image, SkyPlane
from skylake.core.frame_step import Step
from skylake.errors import FrameError, FrameRejected, LakeError, reason_of
from skylake.flow.discover_files import frames_beside
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.task_guard import guard
from skylake.flow.forced.forced_stage import Forcing
from skylake.flow.forced.psf_pool import pool_psfs
from skylake.flow.ingest.frame_tasks import Reduction, peek_nights
from skylake.flow.ingest.known_files import Known
from skylake.flow.ingest.neighbour_pass import prior_from_lake
from skylake.flow.sky.sky_frames import SkySource, sky_frames, takes_sky
from skylake.image.detection.background import Background, estimate_background, refine_background
from skylake.image.detection.detect_sources import detect_sources
from skylake.image.detrend.detrend_chain import detrend_image
from skylake.image.detrend.frame_conditions import conditions_of
from skylake.image.fitsio.read_fits import open_stored, read_file
from skylake.image.photometry.growth_curves import aperture_corrections
from skylake.image.photometry.measure_sources import measure_sources
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.quality.completeness import Completeness
from skylake.image.quality.star_injection import Frame, InjectionTrial, inject
from skylake.image.reduction.frame_record import Finisher, ReducedFrame
from skylake.image.reduction.reduce_frame import reduce_frame
from skylake.image.solving.neighbour_frames import Prior
from skylake.lake import Lake, Snapshot
from skylake.scratch import scratch_folder
from skylake.table.forced_sources import forced_table
from skylake.table.frames import frames_table
from skylake.table.sources import sources_table, unplaced_table, whole_sky_site


@dataclass(frozen=True, slots=True)
class SingleFrame:
    """A frame that was reduced by itself.

    Attributes
    ----------
    reduced : ReducedFrame
        Its row and measurements.
    image : Image or None
        Calibrated pixels; None for a frame that failed.
    background : Background or None
    extracted : Extracted or None
        The measurements of a frame whose sources have positions on the sky.
    reading : HeaderReading or None
        The header, for a frame whose sources have no positions on the sky.
    """

    reduced: ReducedFrame
    image: Image | None = None
    background: Background | None = None
    extracted: Extracted | None = None
    reading: HeaderReading | None = None

    @property
    def sources(self) -> pa.Table | None:
        """Sources as rows of the table ``sources``, without positions on the sky if these are not known, or None."""
        found = self.reduced
        if found.sources is None:
            return None
        if found.ra_deg is None or found.dec_deg is None:
            return unplaced_table(found.row, found.sources)
        return sources_table(found.row, found.sources, found.ra_deg, found.dec_deg, self._site)

    @property
    def forced(self) -> pa.Table | None:
        """Targets as rows of the table ``forced_sources``; None where none were measured."""
        found = self.reduced
        return None if found.finished is None else forced_table(found.row, found.finished, self._site)

    @property
    def _site(self) -> Site | None:
        """The site of a camera that sees the whole sky."""
        return None if self.extracted is None else whole_sky_site(self.extracted.camera)

    @property
    def frame(self) -> pa.Table:
        """The row of ``frames``."""
        return frames_table([self.reduced.row])


@dataclass(frozen=True, slots=True)
class Bench:
    """What single frames are reduced with; see :func:`bench_for`."""

    reduction: Reduction
    sky: SkySource | None
    finish: Finisher | None
    snapshot: Snapshot | None = None
    catalog: str = ""

    def reduce(self, path: Path) -> SingleFrame:
        """Reduce one frame.

        Raises
        ------
        FrameError
            If the file cannot be opened, or for an error of skylake; all other failures are in the row.
        """
        file, profile = str(path.absolute()), self.reduction.profile
        kept = _SingleFrameFinisher(self.finish)
        content = read_file(file)
        work = partial(reduce_frame, content, profile, self.reduction.params(self.sky, kept))
        reduced = guard(work)
        if isinstance(reduced, FrameError):
            raise reduced
        prior = self._prior(reduced)
        if prior is not None:
            placed = guard(partial(work, prior=prior))
            reduced = reduced if isinstance(placed, FrameError) else placed
        if kept.extracted is not None:
            return SingleFrame(reduced, kept.extracted.image, kept.extracted.background, kept.extracted)
        if reduced.row.get("width_px") is None:
            return SingleFrame(reduced)
        raw = open_stored(content, profile.base.header.extension)
        reading = read_header(raw.header, profile, path.name)
        conditions, _ = conditions_of(raw, reading, self.reduction.library, self.sky, file)
        image = detrend_image(raw, reading.camera, conditions)
        background = estimate_background(image, reading.camera.extraction)
        return SingleFrame(reduced, image, background, reading=reading)

    def _prior(self, reduced: ReducedFrame) -> Prior | None:
        """Return where the frames of its night in the lake put a lost frame; None without a lake."""
        if self.snapshot is None or self.reduction.catalog is None:
            return None
        return prior_from_lake(reduced.row, self.snapshot, self.reduction.profile, Inline())

    def sky_of(self, path: Path) -> SkyPlane | None:
        """Return the sky to subtract from a frame; None for a camera without that step.

        Raises
        ------
        FrameError
            If there is none.
        """
        file, profile = str(path.absolute()), self.reduction.profile
        raw = open_stored(read_file(file), profile.base.header.extension)
        reading = read_header(raw.header, profile, path.name)
        if self.sky is None or "sky" not in reading.camera.reduction.steps:
            return None
        conditions, _ = conditions_of(raw, reading, self.reduction.library, None, file)
        return self.sky(file, detrend_image(raw, reading.camera, conditions, until="sky"))

    def zeropoint(self, frame: SingleFrame) -> float | None:
        """Return the zeropoint of a frame that is in force in the lake; None if there is none."""
        if self.snapshot is None:
            return None
        row = frame.reduced.row
        rows = self.snapshot.read(
            "zeropoints",
            ["zp", "version"],
            lambda part: part.camera == row["camera"] and part.night == row["night"],
            filter=(pc.field("frame_id") == row["frame_id"]) & (pc.field("catalog") == self.catalog),
        ).to_pylist()
        found = max(rows, key=lambda one: int(one["version"]), default=None)
        return None if found is None else found["zp"]


class _SingleFrameFinisher:
    """Keeps the measurements of a frame, and measures its targets if it has some."""

    def __init__(self, finish: Finisher | None) -> None:
        self._finish = finish
        self.extracted: Extracted | None = None

    def __call__(self, extracted: Extracted) -> Step[Any]:
        # The pixels with their sky are no longer in memory, and the signal may change.
        pixels = extracted.signal + extracted.background.level
        self.extracted = replace(extracted, image=replace(extracted.image, pixels=pixels))
        return Step(None) if self._finish is None else self._finish(extracted)


@contextmanager
def bench_for(paths: Sequence[Path], profile: Profile, lake: Lake | None = None) -> Iterator[Bench]:
    """Give what single frames are reduced with, the same as in an ingest of their folders into a lake.

    The catalog that the pointing is checked with, the masters and the targets are those of the lake. For a camera
    whose sky is subtracted, the sky comes from the frames of the same nights, and so does the point spread function
    that targets are measured with: from frames in the same folders, and from those of the lake.

    Parameters
    ----------
    paths : sequence of Path
        The frames.
    profile : Profile
    lake : Lake or None
        Only read. Without a lake there are no masters, no catalog and no targets.

    Raises
    ------
    LakeError
        If frames of the sky cannot be kept while they are needed.
    """
    snapshot = None if lake is None else lake.snapshot()
    reduction = Reduction(profile)
    if lake is not None and snapshot is not None:
        reduction = Reduction.in_force(lake, snapshot, profile)
    forcing = reduction.forcing
    files: dict[int, list[str]] = {}
    if forcing is not None or takes_sky(profile):
        files = _nights(paths, profile, lake)
    with ExitStack() as held:
        try:
            scratch = held.enter_context(scratch_folder("frames"))
        except OSError as error:
            raise LakeError(f"frames cannot be kept while they are needed ({reason_of(error)})") from error
        sky, finish = None, None
        neighbours = sky_frames(files, profile, Inline())
        if takes_sky(profile):
            sky = SkySource(neighbours, profile, reduction.library, scratch / "sky")
        if forcing is not None:
            folders = scratch / "psf", _memory(lake, profile, scratch / "memory")
            psfs = pool_psfs(files, profile, Inline(), reduction.library, *folders, neighbours)
            forcing = Forcing(forcing.targets, psfs)
            reduction, finish = (
                replace(reduction, forcing=forcing),
                forcing.finisher(forcing.targets.finder()),
            )
        catalog = "" if lake is None else lake.calibrating_catalog(profile.name, profile)
        yield Bench(reduction, sky, finish, snapshot, catalog)


def _memory(lake: Lake | None, profile: Profile, folder: Path) -> Path:
    """Return a copy of the stored point spread functions of a camera, so that those in the lake do not change."""
    if lake is not None:
        # Files may change meanwhile, or not exist: missing ones are measured again.
        with suppress(OSError):
            shutil.copytree(lake.layout.psf_memory(profile.name), folder, symlinks=True)
    return folder


def _nights(paths: Sequence[Path], profile: Profile, lake: Lake | None) -> dict[int, list[str]]:
    """Return the files of the nights of some frames, from their folders and from a lake."""
    wanted = set(peek_nights([str(path.absolute()) for path in paths], profile))
    beside = frames_beside(paths)
    nights: dict[int, list[str]] = {night: [] for night in sorted(wanted)}
    for file, night in zip(beside, peek_nights(beside, profile), strict=True):
        if night in wanted:
            nights[night].append(file)
    return nights if lake is None else Known.read(lake, profile.name).whole(nights)


def completeness_of(frame: SingleFrame, trial: InjectionTrial) -> Completeness | None:
    """Return the completeness of a frame from injected stars; None without sources. The pointing may be unknown."""
    known = frame.extracted
    measured = _unplaced(frame)
    if known is not None:
        measured = Frame(
            known.image,
            known.background,
            known.measured,
            known.camera,
            known.gain,
            known.exposure_s,
            known.corrections.factor,
        )
    return None if measured is None or len(measured.measured) == 0 else inject(measured, trial)


def _unplaced(frame: SingleFrame) -> Frame | None:
    """Return the measurements of a frame without positions on the sky; None for a frame without sources."""
    image, background, reading = frame.image, frame.background, frame.reading
    if image is None or background is None or reading is None:
        return None
    camera, signal = reading.camera, image.pixels - background.level
    try:
        found = detect_sources(
            signal,
            background.rms,
            image.mask,
            camera.extraction,
            reading.image_gain,
            image.variance,
            image.read_variance,
        )
    except FrameRejected:
        return None
    background = refine_background(image, background, found, camera.extraction, signal)
    measured = measure_sources(
        image, background, signal, found, camera, reading.image_gain, reading.exposure_s
    )
    corrections = aperture_corrections(image, background, signal, found, measured, camera.apertures)
    return Frame(
        image, background, measured, camera, reading.image_gain, reading.exposure_s, corrections.factor
    )
