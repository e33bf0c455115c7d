"""Read and write files of skies for sky subtraction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from skylake.core.frame import FileContent, Pixels, SkyPlane
from skylake.core.reasons import Reason
from skylake.errors import FrameError, FrameFailed, FrameUnavailable, reason_of
from skylake.image.combine.combine_frames import own_noise
from skylake.image.combine.make_masters import median_level
from skylake.image.detrend.linear_pass import open_image
from skylake.image.fitsio.read_fits import read_file
from skylake.image.masters.master_file import read_master, write_master

#: Skies that a worker caches: of some filters.
_CACHED = 4


@dataclass(frozen=True, slots=True)
class StoredSky:
    """A sky of unit level and its error; NaN where it is not known."""

    mean: Pixels
    error: Pixels


def write_sky(path: Path, sky: SkyPlane) -> None:
    """Write the sky of a frame over its level, for other frames to take.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    mean, error = (plane / np.float32(sky.level) for plane in (sky.pixels, sky.error))
    for plane in (mean, error):
        plane[sky.unknown] = np.nan
    write_master(path, {"KIND": "sky", "LEVEL": (sky.level, "of the sky it was made for, ADU")}, mean, error)


def read_sky(path: str, shape: tuple[int, int]) -> StoredSky:
    """Return the sky of a file: one that :func:`write_sky` wrote, or the image of any FITS file.

    Parameters
    ----------
    path : str
    shape : tuple of int
        Height and width of the frames that take it.

    Raises
    ------
    FrameFailed
        ``no_sky_frame`` if the file is none, or of another size.
    FrameUnavailable
        If it cannot be read at the moment.
    """
    sky = _load(path)
    if sky.mean.shape != shape:
        height, width = sky.mean.shape
        raise FrameFailed(
            Reason.NO_SKY_FRAME,
            f"{path}: the sky has {width} x {height} pixels and the frame {shape[1]} x {shape[0]}; "
            "name another file in reduction.sky.file of the profile",
        )
    return sky


@lru_cache(maxsize=_CACHED)
def _load(path: str) -> StoredSky:
    try:
        content = read_file(path)
        if content.failure is not None:
            raise content.failure
    except FrameError as error:
        raise FrameUnavailable(
            Reason.NO_SKY_FRAME,
            f"{path}: the sky cannot be read ({reason_of(error)}); fix reduction.sky.file",
        ) from error
    try:
        master = read_master(content.data, path)
    except FrameError:
        return _of_any_image(content)
    if master.pixels is None:
        raise FrameFailed(Reason.NO_SKY_FRAME, f"{path}: the file holds no sky; fix reduction.sky.file")
    return StoredSky(master.pixels, np.zeros_like(master.pixels) if master.error is None else master.error)


def _of_any_image(content: FileContent) -> StoredSky:
    """Return an image over its median as a sky; what single pixels of it differ by is its error."""
    pixels = np.asarray(open_image(content).pixels, np.float32)
    level = median_level(pixels)
    if not level > 0.0:
        raise FrameFailed(
            Reason.NO_SKY_FRAME,
            f"{content.path}: the sky has a median of {level:.3g}, and has to be above zero; fix reduction.sky.file",
        )
    mean = pixels / np.float32(level)
    return StoredSky(mean, np.full(mean.shape, own_noise(mean), np.float32))
