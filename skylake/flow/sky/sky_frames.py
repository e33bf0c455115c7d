"""Make the sky of a frame from its neighbours, on the worker, and cache it on disk."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import dask
import numpy as np
import pyarrow.compute as pc

from skylake import logs
from skylake.cameras import Profile, read_header
from skylake.cameras.frame_kinds import read_binning
from skylake.core.flags import FrameFlag
from skylake.core.frame import Image, Pixels, SkyPlane
from skylake.core.reasons import Reason, Status
from skylake.core.reduction_settings import SkyFrames
from skylake.errors import FrameError, FrameFailed
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.scratch_planes import keep_plane
from skylake.flow.sky.sky_files import read_sky
from skylake.image.combine.sky_frame import above_zero, combined_sky, subtracted_sky, without_sources
from skylake.image.detrend.detrend_chain import detrend_image
from skylake.image.detrend.frame_conditions import conditions_of
from skylake.image.fitsio.read_fits import open_stored, peek_header, peeked_size, read_file
from skylake.image.masters.master_library import Library
from skylake.lake import Snapshot

_log = logs.get(__name__)

MINUTES_PER_DAY = 1440.0
#: Exposures that differ by less than this share count as the same.
_SAME_EXPOSURE = 0.01
#: One of so many rows gives the level of a frame.
_STRIDE = 5
#: Headers read in one task.
_PEEK_CHUNK = 64
#: Columns of ``frames`` from which neighbours are known.
_FRAME_COLUMNS = ["mjd_mid", "filter", "exposure_s", "width_px", "height_px", "flags", "status", "file"]


class FileDigests:
    """Recognises copies of a frame by their bytes, decompressed; each file is read once, and only if asked for."""

    def __init__(self) -> None:
        self._digests: dict[str, bytes] = {}

    def is_new(self, file: str, others: Iterable[str]) -> bool:
        """Return whether a file is a copy of none of some others."""
        others = list(others)
        return not others or self._digest(file) not in {self._digest(other) for other in others}

    def _digest(self, file: str) -> bytes:
        """Return a digest of the content; what cannot be read is like nothing else."""
        if file not in self._digests:
            try:
                content = read_file(file).data
            except FrameError:
                content = file.encode(errors="surrogateescape")
            self._digests[file] = hashlib.blake2b(content, digest_size=16).digest()
        return self._digests[file]


class SkyFrame(NamedTuple):
    """A frame that may show the sky of another: its file, time (MJD, UTC), filter, exposure, size and binning.

    The filter is as the camera calls it, since headers may have several names for one. Height and width, and the
    binning, are None where nobody knows them.
    """

    file: str
    mjd: float
    filter: str | None
    exposure_s: float
    size: tuple[int, int] | None = None
    binning: str | None = None

    @property
    def order(self) -> tuple[float, str]:
        """Its place in time; frames of one moment, of a series faster than the clock, are in the order of names."""
        return self.mjd, self.file

    def is_like(self, other: SkyFrame) -> bool:
        """Return whether filter and exposure are those of another frame, and size and binning where both are known."""
        known = (self.size, other.size), (self.binning, other.binning)
        return (
            self.filter == other.filter
            and math.isclose(self.exposure_s, other.exposure_s, rel_tol=_SAME_EXPOSURE)
            and all(ours == theirs or ours is None or theirs is None for ours, theirs in known)
        )


def neighbours_of(
    here: SkyFrame, frames: Sequence[SkyFrame], params: SkyFrames, contents: FileDigests | None = None
) -> list[SkyFrame]:
    """Return the nearest frames of the same kind, half before and half after where there are.

    Parameters
    ----------
    here : SkyFrame
    frames : sequence of SkyFrame
        In their order.
    params : SkyFrames
    contents : FileDigests or None
        Recognises copies, such as a frame that was moved, among frames of one moment; None where there are none.
    """
    span = params.within_minutes / MINUTES_PER_DAY
    first = bisect_left(frames, here.mjd - span, key=_time)
    last = bisect_right(frames, here.mjd + span, key=_time)
    place = bisect_left(frames, here.order, first, last, key=_order)
    seen, sides = [here], []
    for side in (range(place - 1, first - 1, -1), range(place, last)):
        neighbours: list[SkyFrame] = []
        for frame in map(frames.__getitem__, side):
            if len(neighbours) == params.n_frames:
                break
            same = [other.file for other in seen if other.mjd == frame.mjd]
            is_new = frame.file not in same and (contents is None or contents.is_new(frame.file, same))
            if frame.is_like(here) and is_new:
                neighbours.append(frame)
                seen.append(frame)
        sides.append(neighbours)
    before, after = sides
    count = min(len(before), max(params.n_frames // 2, params.n_frames - len(after)))
    return before[:count] + after[: params.n_frames - count]


def _time(frame: SkyFrame) -> float:
    return frame.mjd


def _order(frame: SkyFrame) -> tuple[float, str]:
    return frame.order


def takes_sky(profile: Profile) -> bool:
    """Return whether a camera takes the sky of a frame from its neighbours, at any time."""
    cameras = [profile.base, *(period.camera for period in profile.periods)]
    return any("sky" in camera.reduction.steps for camera in cameras)


def sky_frames(
    nights: Mapping[int, Sequence[str]], profile: Profile, workers: Workers
) -> tuple[SkyFrame, ...]:
    """Return the frames among files that may show the sky of others, in the order of time; headers are read once.

    There are none if the camera does not take the sky from neighbours.

    Parameters
    ----------
    nights : mapping
        Files of each night.
    profile : Profile
    workers : Workers
        Read the headers.
    """
    if not takes_sky(profile):
        return ()
    peek, files = dask.delayed(peek_sky, pure=False), [file for some in nights.values() for file in some]
    pieces = [files[start : start + _PEEK_CHUNK] for start in range(0, len(files), _PEEK_CHUNK)]
    frames: list[SkyFrame] = []
    for result in workers.run([peek(piece, profile) for piece in pieces]) if pieces else []:
        if isinstance(result, BaseException):
            _log.warning("some headers could not be read, so these frames give no sky (%s)", result)
        else:
            frames += result
    return tuple(sorted(frames, key=_order))


def peek_sky(files: Sequence[str], profile: Profile) -> list[SkyFrame]:
    """Return the science frames among files, by their headers. Runs on a worker."""
    frames = []
    for file in files:
        header = peek_header(file, profile.base.header.extension)
        reading = read_header(header if header is not None else {}, profile, Path(file).name)
        if header is None or reading.problem is not None or reading.mjd_mid is None:
            continue
        size, binning = peeked_size(header), read_binning(header, reading.camera.header)
        called = reading.camera.called_filter(reading.filter)
        frames.append(SkyFrame(file, reading.mjd_mid, called, reading.exposure_s, size, binning))
    return frames


class SkySource:
    """Gives the sky of frames of some nights.

    Frames as they are before the step `sky`, and the same without their sources, are kept in a folder: as many as the
    next frame may need, so neither memory nor disk grows with the night.

    Parameters
    ----------
    frames : sequence of SkyFrame
        Of the nights, in the order of time.
    profile : Profile
    library : Library or None
    folder : Path
    """

    def __init__(
        self, frames: Sequence[SkyFrame], profile: Profile, library: Library | None, folder: Path
    ) -> None:
        self._frames, self._profile, self._library, self._folder = tuple(frames), profile, library, folder
        self._contents = FileDigests()
        self._known = {frame.file: frame for frame in self._frames}
        self._kept: OrderedDict[Path, float | None] = OrderedDict()

    def __call__(self, path: str, image: Image) -> SkyPlane:
        """Return what is to be subtracted from a frame.

        Raises
        ------
        FrameFailed
            ``no_sky_frame`` if too few frames were taken shortly before or after it, or their sky is not above zero.
        """
        params = self._params(path)
        if params.file is not None:
            return subtracted_sky(
                image, read_sky(params.file, (image.pixels.shape[0], image.pixels.shape[1]))
            )
        cleaned = [(neighbour, self._clean(neighbour)) for neighbour in self._neighbours(path)]
        usable = [(one, clean) for one, clean in cleaned if clean is not None]
        if len(usable) < params.min_frames:
            raise _too_few(len(usable), params)
        levels = [_level(clean) for _, clean in usable]
        bright = above_zero(levels)
        if sum(bright) < params.min_frames:
            raise _too_dark(levels, sum(bright), params)
        chosen = [
            (one, clean, level)
            for (one, clean), level, is_bright in zip(usable, levels, bright, strict=True)
            if is_bright
        ]
        sky = combined_sky([clean for _, clean, _ in chosen], [level for _, _, level in chosen])
        self._forget(6 * params.n_frames)
        later = [one.order > self._known[path].order for one, _, _ in chosen]
        return subtracted_sky(image, sky, one_sided=all(later) or not any(later))

    def _params(self, path: str) -> SkyFrames:
        one = self._known.get(path)
        return self._profile.at(None if one is None else one.mjd).reduction.sky

    def _neighbours(self, path: str) -> list[SkyFrame]:
        here = self._known.get(path)
        return [] if here is None else neighbours_of(here, self._frames, self._params(path), self._contents)

    def _plain(self, frame: SkyFrame) -> Pixels | None:
        """Return a frame as it is before the step `sky`; None if it cannot be used."""
        path = self._path(frame, "plain")
        if path not in self._kept:
            try:
                raw = open_stored(read_file(frame.file), self._profile.base.header.extension)
                reading = read_header(raw.header, self._profile, Path(frame.file).name)
                conditions, _ = conditions_of(raw, reading, self._library, None, frame.file)
                image = detrend_image(raw, reading.camera, conditions, until="sky")
            except FrameError:
                self._kept[path] = None
                return None
            self._save(path, np.where(image.masked | image.saturated, np.float32(np.nan), image.pixels))
        return self._open(path)

    def _clean(self, frame: SkyFrame) -> Pixels | None:
        """Return a frame without its sources, which are found by the sky of its own neighbours."""
        path = self._path(frame, "clean")
        if path not in self._kept:
            plain = self._plain(frame)
            others = [
                pixels for pixels in map(self._plain, self._neighbours(frame.file)) if pixels is not None
            ]
            if plain is None or not others:
                self._kept[path] = None
                return None
            levels = [_level(pixels) for pixels in others]
            bright = above_zero(levels)
            if not any(bright):
                self._kept[path] = None
                return None
            chosen = [number for number, is_bright in enumerate(bright) if is_bright]
            some = [others[number] for number in chosen], [levels[number] for number in chosen]
            first = combined_sky(*some, masked=False).mean
            self._save(path, without_sources(np.asarray(plain), first, self._params(frame.file)))
        return self._open(path)

    def _path(self, frame: SkyFrame, what: str) -> Path:
        name = hashlib.sha256(frame.file.encode(errors="surrogateescape")).hexdigest()[:16]
        return self._folder / f"{name}-{what}.npy"

    def _save(self, path: Path, pixels: Pixels) -> None:
        keep_plane(path, pixels, "a frame of the sky")
        self._kept[path] = 0.0

    def _open(self, path: Path) -> Pixels | None:
        if self._kept[path] is None:
            return None
        self._kept.move_to_end(path)
        pixels: Pixels = np.load(path, mmap_mode="r")
        return pixels

    def _forget(self, count: int) -> None:
        """Remove the files that were not needed for longest."""
        while len(self._kept) > count:
            path, there = self._kept.popitem(last=False)
            if there is not None:
                path.unlink(missing_ok=True)


def _level(pixels: Pixels) -> float:
    """Return the level of a frame with gaps, ADU."""
    return float(np.nanmedian(pixels[::_STRIDE]))


def _too_dark(levels: Sequence[float], count: int, params: SkyFrames) -> FrameFailed:
    return FrameFailed(
        Reason.NO_SKY_FRAME,
        f"the sky takes {params.min_frames} frames with a level clearly above zero and only {count} of "
        f"{len(levels)} neighbours have one, the median being {float(np.median(levels)):.3g} ADU; see whether bias "
        "and dark take off too much, or take the step sky out of reduction.steps",
    )


def _too_few(count: int, params: SkyFrames) -> FrameFailed:
    return FrameFailed(
        Reason.NO_SKY_FRAME,
        f"only {count} usable frames of the same filter, exposure, size and binning were taken within "
        f"{params.within_minutes:g} minutes, and the sky takes {params.min_frames}; ingest the night as a whole, or "
        "fix reduction.sky of the profile",
    )


def nights_with_later_sky(snapshot: Snapshot, profile: Profile, nights: Collection[int]) -> list[int]:
    """Return the nights in which a frame would have a sky from both sides, but has one from one side alone.

    While a night is taken in frame by frame, the sky of each is that of the frames before; nothing is repeated by
    itself, and so these nights are reported. The neighbours are those that the frame would have now. Only good ones
    of these count, as nobody knows whether the others show a sky: a night that was done again is reported no more.

    Parameters
    ----------
    snapshot : Snapshot
    profile : Profile
    nights : collection of int
        Which nights are asked for.
    """
    if not takes_sky(profile):
        return []
    return [night for night in sorted(set(nights)) if _has_later_sky(snapshot, profile, night)]


def _has_later_sky(snapshot: Snapshot, profile: Profile, night: int) -> bool:
    rows = snapshot.read(
        "frames", _FRAME_COLUMNS, lambda part: part.camera == profile.name and part.night == night
    )
    flagged = pc.not_equal(pc.bit_wise_and(rows["flags"], int(FrameFlag.SKY_ONE_SIDED)), 0)
    halves = [_frame_of_row(row, profile) for row in rows.filter(flagged).to_pylist()]
    if not halves:
        return False
    shown = pc.and_(pc.is_valid(rows["mjd_mid"]), pc.not_equal(rows["status"], Status.SKIPPED.value))
    frames = sorted(
        (_frame_of_row(row, profile) for row in rows.filter(shown).to_pylist()), key=lambda frame: frame.order
    )
    good = set(rows.filter(pc.equal(rows["status"], Status.OK.value))["file"].to_pylist())
    for here in halves:
        near = neighbours_of(here, frames, profile.at(here.mjd).reduction.sky)
        if {frame.order > here.order for frame in near if frame.file in good} == {False, True}:
            return True
    return False


def _frame_of_row(row: dict[str, Any], profile: Profile) -> SkyFrame:
    size = None if row["width_px"] is None else (row["height_px"], row["width_px"])
    called = profile.at(row["mjd_mid"]).called_filter(row["filter"])
    return SkyFrame(row["file"], row["mjd_mid"], called, row["exposure_s"] or 0.0, size)
