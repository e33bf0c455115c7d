"""The smooth background and its noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import sep

from skylake.core.camera import Extraction
from skylake.core.frame import Image, Mask, Pixels

#: Light of a detected star is taken to end at so many radii of its footprint, and a few pixels.
_HALO_RADII = 2.5
_HALO_PX = 3.0
#: The mean sky is taken in cells of so many meshes, of pixels within so many standard deviations.
_CELL_MESHES = 4
_CELL_CLIP = 5.0
#: A cell needs this share of its pixels free of stars.
_CELL_MIN_CLEAR = 0.1
#: Every so many pixels in x and y are enough for a median over the image.
_SAMPLE_PX = 16
#: Smallest noise that is believed, as a share of the usual one of the image.
_MIN_NOISE = 0.1


@dataclass(frozen=True, slots=True)
class Background:
    """Background of an image.

    Attributes
    ----------
    level, rms : ndarray of float32
        Level and noise per pixel, ADU, of the shape of the image.
    median_level, median_rms : float
        Their representative values.
    """

    level: Pixels
    rms: Pixels
    median_level: float
    median_rms: float


class Footprints(Protocol):
    """Where detections are and how many pixels each covers; arrays of shape (n,)."""

    @property
    def x(self) -> npt.NDArray[np.float64]:
        """Column, 0-based pixels."""

    @property
    def y(self) -> npt.NDArray[np.float64]:
        """Row, 0-based pixels."""

    @property
    def n_pixels(self) -> npt.NDArray[np.int32]:
        """Pixels of the footprint."""


def estimate_background(image: Image, parameters: Extraction) -> Background:
    """Estimate the background on a mesh of clipped modes, median-filtered and splined.

    The estimator of each mesh cell is that of SExtractor (Bertin & Arnouts 1996, A&AS 117, 393):
    clipped to convergence, then 2.5 median - 1.5 mean where the cell is not crowded. Masked and
    saturated pixels take no part.
    """
    height, width = image.pixels.shape
    mesh = parameters.background_mesh_px
    background = sep.Background(
        image.pixels,
        mask=image.masked | image.saturated,
        bw=min(mesh, width),
        bh=min(mesh, height),
        fw=parameters.background_filter,
        fh=parameters.background_filter,
    )
    level = np.asarray(background.back(dtype=np.float32))
    rms = _positive(np.asarray(background.rms(dtype=np.float32)))
    return Background(level, rms, float(background.globalback), float(background.globalrms))


def _positive(rms: Pixels) -> Pixels:
    """Return the noise without what is too small to be noise.

    Where a part of the image is constant (padding, a dead amplifier), the spline swings below zero
    beside it, and everything there would be a detection.
    """
    some = rms[::_SAMPLE_PX, ::_SAMPLE_PX]
    usual = float(np.median(some[some > 0.0])) if np.any(some > 0.0) else 0.0
    return np.maximum(rms, np.float32(_MIN_NOISE * usual))


def refine_background(
    image: Image, background: Background, found: Footprints, parameters: Extraction
) -> Background:
    """Return the background with the mean light of stars too faint to be detected in it.

    The mode, which finds the sky between stars, leaves out the stars below the detection limit. An
    aperture does not: it holds their mean surface brightness like any other pixels, so every flux comes
    out too large by that mean times the area. Here the mean of all pixels outside the halos of detected
    stars is added to the background, in cells wide enough that its noise does not matter.

    Parameters
    ----------
    image : Image
    background : Background
        As estimated before detection.
    found : Footprints
        What was detected, and where.
    parameters : Extraction
    """
    covered = image.masked | image.saturated
    radius = _HALO_RADII * np.sqrt(found.n_pixels / np.pi) + _HALO_PX
    sep.mask_ellipse(covered, found.x, found.y, radius, radius, np.zeros(len(radius)), r=1.0)
    residual = image.pixels - background.level
    clear = ~covered & (np.abs(residual) <= _CELL_CLIP * background.rms)
    excess = _smooth_mean(residual, clear, _CELL_MESHES * parameters.background_mesh_px)
    level = background.level + excess
    return Background(
        level,
        background.rms,
        background.median_level + float(np.median(excess[::_SAMPLE_PX, ::_SAMPLE_PX])),
        background.median_rms,
    )


def _smooth_mean(values: Pixels, chosen: Mask, size: int) -> Pixels:
    """Return the means of chosen pixels in square cells, interpolated linearly between their centres."""
    height, width = values.shape
    rows, columns = _cells(height, size), _cells(width, size)
    total = _sums(np.where(chosen, values, 0.0), rows, columns)
    count = _sums(chosen.astype(np.float64), rows, columns)
    area = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))
    enough = count >= _CELL_MIN_CLEAR * area
    overall = total.sum() / count.sum() if enough.any() else 0.0
    means = np.where(enough, total / np.maximum(count, 1.0), overall)
    return np.asarray(_between(height, rows) @ means @ _between(width, columns).T, np.float32)


def _cells(length: int, size: int) -> npt.NDArray[np.intp]:
    """Return the starts of equal cells of about a size."""
    number = max(1, round(length / size))
    return np.linspace(0, length, number + 1).astype(np.intp)[:-1]


def _sums(
    values: npt.NDArray[Any], rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    return np.asarray(np.add.reduceat(np.add.reduceat(values, rows, axis=0, dtype=float), columns, axis=1))


def _between(length: int, starts: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Return the matrix (length, cells) that interpolates between the centres of cells."""
    centres = 0.5 * (starts + np.append(starts[1:], length) - 1)
    place = np.interp(np.arange(length), centres, np.arange(len(centres)))
    return np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(len(centres))[None, :]))
