"""The tasks of ``calib build`` that run on workers: read headers, prepare frames, combine their rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from skylake.cameras import HeaderReading, Profile, read_header
from skylake.cameras.frame_kinds import CalibrationKind, calibration_kind
from skylake.core.batch import UNDATED, night_of
from skylake.core.frame import Pixels, StoredImage
from skylake.core.reasons import Reason
from skylake.core.reduction_settings import SkyFrames
from skylake.errors import FrameError, FrameFailed
from skylake.flow.execution.scratch_planes import keep_plane
from skylake.flow.execution.task_guard import guard
from skylake.image.combine.combine_frames import Combined, CombineOptions, combine
from skylake.image.combine.flat_gradients import coarse_map
from skylake.image.combine.make_masters import normalised, prepare, steps_for
from skylake.image.combine.sky_frame import without_sources
from skylake.image.detrend.detrend_chain import Conditions
from skylake.image.detrend.frame_conditions import stated_exposure, wanted_masters
from skylake.image.detrend.mosaic_pattern import settle_pattern
from skylake.image.fitsio.read_fits import open_stored, read_file
from skylake.image.masters.master_file import load_master
from skylake.image.masters.master_library import Library, Master, MasterQuery, choose, needed, rules_of

#: Reasons of headers that do not matter for a calibration frame.
_HARMLESS = {Reason.NOT_SCIENCE, Reason.NO_TIME}


@dataclass(frozen=True, slots=True)
class Exposure:
    """A calibration frame, as its header describes it.

    Attributes
    ----------
    file : str
    kind : {'bias', 'dark', 'flat'}
    wanted : MasterQuery
        What masters that are used on it have to fit; the time is NaN where it is unknown.
    night : int
    gain : float
        Electrons per ADU.
    config_sha256 : str
        Of the camera in the period of the frame.
    """

    file: str
    kind: CalibrationKind
    wanted: MasterQuery
    night: int
    gain: float
    config_sha256: str


@dataclass(frozen=True, slots=True)
class PreparedFile:
    """A prepared frame on disk: its pixels as ADU in a .npy file, and what is known of it.

    ``used`` maps the masters that were used on it to their SHA-256; ``raw_size`` is width and height before trimming.
    """

    path: Path
    shape: tuple[int, int]
    offset: tuple[int, int]
    levels: tuple[float, ...]
    sha256: str
    used: Mapping[str, str]
    raw_size: tuple[int, int]

    @property
    def level(self) -> float:
        """Mean of the levels."""
        return sum(self.levels) / len(self.levels)

    def open(self) -> Pixels:
        """Return the pixels as a memory map."""
        pixels: Pixels = np.load(self.path, mmap_mode="r")
        return pixels


@dataclass(frozen=True, slots=True)
class Term:
    """A frame of a combination: its pixels, less those of another one, over levels.

    Attributes
    ----------
    path : Path
    levels : tuple of float
    less : Path or None
        The other one.
    weight : float
        Its weight, as one over the variance of its pixels.
    zero, seconds : float
        How often a zero level that was subtracted from all frames is in it, and for how many seconds a dark current,
        both divided by the level.
    """

    path: Path
    levels: tuple[float, ...] = (1.0,)
    less: Path | None = None
    weight: float = 1.0
    zero: float = 1.0
    seconds: float = 0.0

    def rows(self, start: int, end: int) -> Pixels:
        """Return some rows of the term."""
        return self._cut(slice(start, end), start)

    def sample(self, step: int) -> Pixels:
        """Return every n-th row; an odd step takes both kinds of rows of a Bayer mosaic in turn."""
        return self._cut(slice(None, None, step), 0)

    def _cut(self, rows: slice, first_row: int) -> Pixels:
        pixels = np.load(self.path, mmap_mode="r")[rows]
        if self.less is not None:
            pixels = pixels - np.load(self.less, mmap_mode="r")[rows]
        return normalised(pixels, self.levels, first_row)


def look_at(
    paths: Sequence[str], profile: Profile, kind: CalibrationKind | None
) -> list[Exposure | FrameError]:
    """Return the headers of some files, or why the files are left out.

    Parameters
    ----------
    paths : sequence of str
    profile : Profile
    kind : str or None
        The kind of all files; None takes it from their headers.
    """
    return [guard(lambda path=path: _look_at(path, profile, kind)) for path in paths]  # type: ignore[misc]


def _look_at(path: str, profile: Profile, kind: CalibrationKind | None) -> Exposure:
    raw = open_stored(read_file(path), profile.base.header.extension)
    reading = read_header(raw.header, profile, Path(path).name)
    if reading.problem is not None and reading.problem[0] not in _HARMLESS:
        raise FrameFailed(*reading.problem)
    header = reading.camera.header
    frame_kind = kind or calibration_kind(reading.kind, header)
    if frame_kind is None:
        stated = f"its header says {reading.kind!r}" if reading.kind else "no card says what it is"
        raise FrameFailed(
            Reason.BAD_CALIBRATION,
            f"the frame is no bias, dark or flat ({stated}); name the kind with --kind",
        )
    if frame_kind == "dark" and stated_exposure(reading) is None:
        raise FrameFailed(
            Reason.BAD_CALIBRATION, "the exposure of the dark is unknown; fix header.exposure of the profile"
        )
    mjd = reading.mjd_mid
    return Exposure(
        path,
        frame_kind,
        _wanted(raw, reading),
        UNDATED if mjd is None else night_of(mjd, reading.camera.site.longitude_deg),
        reading.gain,
        reading.camera.sha256,
    )


def _wanted(raw: StoredImage, reading: HeaderReading) -> MasterQuery:
    # Flats whose headers call one filter by several names make one master.
    return replace(wanted_masters(raw, reading), filter=reading.camera.called_filter(reading.filter))


def prepare_file(frame: Exposure, profile: Profile, library: Library, out: Path) -> PreparedFile | FrameError:
    """Prepare one frame and write its pixels to a file; return why it cannot be used if that is so.

    Raises
    ------
    LakeError
        If the file cannot be written.
    """
    made = guard(lambda: _prepare(frame, profile, library))
    if isinstance(made, FrameError):
        return made
    pixels, offset, levels, sha256, used, raw_size = made
    keep_plane(out, pixels, "a prepared frame")
    return PreparedFile(out, (pixels.shape[0], pixels.shape[1]), offset, levels, sha256, used, raw_size)


def _prepare(
    frame: Exposure, profile: Profile, library: Library
) -> tuple[Pixels, tuple[int, int], tuple[float, ...], str, dict[str, str], tuple[int, int]]:
    content = read_file(frame.file)
    raw = open_stored(content, profile.base.header.extension)
    reading = read_header(raw.header, profile, Path(frame.file).name)
    if frame.kind == "flat":
        settle_pattern(raw, reading)
    camera = reading.camera
    chosen: dict[str, Master] = {}
    for kind in needed(steps_for(frame.kind, camera.reduction)):
        named = camera.reduction.use.get(kind)
        choice = choose(library.masters, kind, frame.wanted, rules_of(camera.reduction), named)
        if isinstance(choice, str):
            advice = "give frames for one as well" if named is None else f"fix reduction.use.{kind}"
            raise FrameFailed(Reason.NO_MASTER, f"{choice}, which a {frame.kind} needs; {advice}")
        chosen[kind] = choice
    conditions = Conditions(
        reading.saturation_adu,
        reading.gain,
        reading.read_noise,
        frame.wanted.exposure_s,
        {kind: load_master(library.root, master) for kind, master in chosen.items()},
    )
    made = prepare(raw, camera, frame.kind, conditions)
    used = {master.name: master.sha256 for master in chosen.values()}
    digest, (height, width) = hashlib.sha256(content.data).hexdigest(), raw.shape
    return made.pixels, made.offset, made.levels, digest, used, (width, height)


def combine_rows(terms: Sequence[Term], rows: tuple[int, int], options: CombineOptions) -> Combined:
    """Combine some rows of all frames."""
    return combine(np.stack([term.rows(*rows) for term in terms]), options, [term.weight for term in terms])


def coarse_term(term: Term, step: int) -> Pixels:
    """Return a coarse sample of a term, from every n-th row."""
    return coarse_map(term.sample(step))


def hide_sources(path: Path, flat: Path, params: SkyFrames, out: Path) -> Path:
    """Write a frame of the sky without its sources, which are found by a flat in another file.

    Raises
    ------
    LakeError
        If the file cannot be written.
    """
    pixels = without_sources(np.load(path), np.load(flat), params)
    keep_plane(out, pixels, "a prepared frame")
    return out
