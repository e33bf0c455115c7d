"""The sky of frames from their neighbours, for cameras whose steps take it off; made on the worker, kept on disk."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skylake.cameras import Profile, read_header
from skylake.core.camera import SkyFrames
from skylake.core.frame import Image, Pixels
from skylake.core.reasons import Reason
from skylake.errors import FrameError, FrameFailed, LakeError, reason_of
from skylake.image.calibrate import calibrate
from skylake.image.conditions import conditions_of
from skylake.image.library import Library
from skylake.image.read import open_stored, peek_header, read_file
from skylake.image.skyframe import combined_sky, subtracted_sky, without_sources

_MINUTES_PER_DAY = 1440.0


@dataclass(frozen=True, slots=True)
class _Neighbour:
    """A frame that may show the sky of another: its file, time (MJD, UTC), filter and exposure."""

    file: str
    mjd: float
    filter: str | None
    exposure_s: float


def takes_sky(profile: Profile) -> bool:
    """Tell whether a camera takes the sky of a frame from its neighbours, at any time."""
    cameras = [profile.base, *(period.camera for period in profile.periods)]
    return any("sky" in camera.reduction.steps for camera in cameras)


class SkySource:
    """Gives the sky of frames of some nights.

    Frames as they are before the step `sky`, and the same without their sources, are kept in a folder: as many as the
    next frame may need, so neither memory nor disk grows with the night.

    Parameters
    ----------
    files : sequence of str
        Frames of the nights.
    profile : Profile
    library : Library or None
    folder : Path
    """

    def __init__(self, files: Sequence[str], profile: Profile, library: Library | None, folder: Path) -> None:
        self._files, self._profile, self._library, self._folder = tuple(files), profile, library, folder
        self._known: dict[str, _Neighbour] | None = None
        self._kept: OrderedDict[Path, float | None] = OrderedDict()

    def __call__(self, path: str, image: Image) -> Pixels:
        """Return what is to be subtracted from a frame.

        Raises
        ------
        FrameFailed
            ``no_sky_frame`` if too few frames were taken shortly before or after it.
        """
        params = self._params(path)
        chosen = self._neighbours(path)
        frames, levels = [], []
        for one in chosen:
            clean = self._clean(one)
            if clean is not None:
                frames.append(clean)
                levels.append(float(np.nanmedian(clean[::5])))
        if len(frames) < params.min_frames:
            raise _too_few(len(frames), params)
        sky = combined_sky(frames, levels)
        self._forget(6 * params.n_frames)
        return subtracted_sky(image, sky)

    def _params(self, path: str) -> SkyFrames:
        one = self._all().get(path)
        return self._profile.at(None if one is None else one.mjd).reduction.sky

    def _all(self) -> dict[str, _Neighbour]:
        """Return the frames of the sky among the files, by file; read once."""
        if self._known is None:
            self._known = {}
            for file in self._files:
                header = peek_header(file, self._profile.base.header.extension)
                reading = read_header(header if header is not None else {}, self._profile, Path(file).name)
                if reading.problem is None and reading.mjd_mid is not None:
                    self._known[file] = _Neighbour(file, reading.mjd_mid, reading.filter, reading.exposure_s)
        return self._known

    def _neighbours(self, path: str) -> list[_Neighbour]:
        """Return the nearest frames of the same filter and exposure, half before and half after where there are."""
        here = self._all().get(path)
        if here is None:
            return []
        params = self._params(path)
        span = params.within_minutes / _MINUTES_PER_DAY
        # Files of one moment are copies of a frame, such as one that was moved.
        moments = {
            one.mjd: one
            for one in self._all().values()
            if one.mjd != here.mjd
            and one.filter == here.filter
            and math.isclose(one.exposure_s, here.exposure_s, rel_tol=0.01)
            and abs(one.mjd - here.mjd) <= span
        }
        others = moments.values()
        before = sorted((one for one in others if one.mjd <= here.mjd), key=lambda one: -one.mjd)
        after = sorted((one for one in others if one.mjd > here.mjd), key=lambda one: one.mjd)
        half = params.n_frames // 2
        first = min(len(before), max(half, params.n_frames - len(after)))
        return before[:first] + after[: params.n_frames - first]

    def _plain(self, one: _Neighbour) -> Pixels | None:
        """Return a frame as it is before the step `sky`; None if it cannot be used."""
        path = self._path(one, "plain")
        if path not in self._kept:
            try:
                raw = open_stored(read_file(one.file), self._profile.base.header.extension)
                reading = read_header(raw.header, self._profile, Path(one.file).name)
                conditions, _ = conditions_of(raw, reading, self._library, None, one.file)
                image = calibrate(raw, reading.camera, conditions, until="sky")
            except FrameError:
                self._kept[path] = None
                return None
            self._save(path, np.where(image.masked | image.saturated, np.float32(np.nan), image.pixels))
        return self._open(path)

    def _clean(self, one: _Neighbour) -> Pixels | None:
        """Return a frame without its sources, which are found by the sky of its own neighbours."""
        path = self._path(one, "clean")
        if path not in self._kept:
            plain = self._plain(one)
            others = [pixels for pixels in map(self._plain, self._neighbours(one.file)) if pixels is not None]
            if plain is None or not others:
                self._kept[path] = None
                return None
            levels = [float(np.nanmedian(pixels[::5])) for pixels in others]
            first = combined_sky(others, levels, masked=False)
            self._save(path, without_sources(np.asarray(plain), first, self._params(one.file)))
        return self._open(path)

    def _path(self, one: _Neighbour, what: str) -> Path:
        name = hashlib.sha256(one.file.encode(errors="surrogateescape")).hexdigest()[:16]
        return self._folder / f"{name}-{what}.npy"

    def _save(self, path: Path, pixels: Pixels) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            np.save(path, pixels)
        except OSError as error:
            raise LakeError(
                f"{path}: a frame of the sky cannot be written ({reason_of(error)}); free space and run again"
            ) from error
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


def _too_few(count: int, params: SkyFrames) -> FrameFailed:
    return FrameFailed(
        Reason.NO_SKY_FRAME,
        f"only {count} usable frames of the same filter and exposure were taken within {params.within_minutes:g} "
        f"minutes, and the sky takes {params.min_frames}; ingest the night as a whole, or mend reduction.sky of the "
        "profile",
    )
