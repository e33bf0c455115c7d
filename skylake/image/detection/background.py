"""Background of an image and its noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import sep

from skylake.core.camera import Extraction
from skylake.core.flags import UNUSABLE_PIXEL, PixelFlag
from skylake.core.frame import Image, MaskPlane, Pixels
from skylake.image.detection.background_kernels import tile_statistics
from skylake.image.detection.background_mesh import Edges, mesh_edges, shift_by_cells, spline_surfaces
from skylake.image.detection.surface_kernels import sum_cells

#: Light of a detected star is taken to end at so many radii of its footprint, and a few pixels; where too little is
#: left free of stars, nearer.
_HALOS = ((2.5, 3.0), (2.0, 2.0), (1.5, 2.0))
#: The mean sky is taken in cells of so many meshes, of pixels within so many standard deviations.
CELL_MESHES = 4
_CELL_CLIP = 5.0
#: A cell needs this share of its pixels free of stars.
_CELL_MIN_CLEAR = 0.04
#: A tile needs this share of its pixels; if no tile has it, any will do.
_TILE_MIN_CLEAR = 0.5
#: The sky is steep if this share of neighbouring tiles differ by more than their noise.
_STEEP_SHARE = 0.02
#: Every so many pixels in x and y are enough for a median over the image.
_SAMPLE_PX = 16
#: Smallest noise that is believed, as a share of the usual one of the image.
_MIN_NOISE = 0.1
Floats = npt.NDArray[np.float64]

#: Pixels with any of these bits say nothing about the background.
_EXCLUDED = np.uint8(UNUSABLE_PIXEL | PixelFlag.SATURATED)


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

    The estimator of each tile of the mesh is that of SExtractor (Bertin & Arnouts 1996, A&AS 117, 393):
    clipped to convergence at three standard deviations about the median, then 2.5 median - 1.5 mean where
    the tile is not crowded. Masked and saturated pixels take no part, and a tile that is left with less
    than half of its pixels is filled from its neighbours. The engine of the profile does it.

    Parameters
    ----------
    image : Image
    parameters : Extraction
    """
    return _by_sep(image, parameters) if parameters.engine == "sep" else _by_tiles(image, parameters)


def _by_tiles(image: Image, parameters: Extraction) -> Background:
    edges = mesh_edges(image.pixels.shape, parameters.background_mesh_px)
    tiles, noise = _tiles(image.pixels, image.mask, edges, parameters.background_filter)
    level, rms = spline_surfaces(tiles, noise, edges, _least_noise(noise))
    if _steep(tiles, noise):
        # In a steep sky a tile has no one level: what is left of it is judged once more.
        rest, noise = _tiles(image.pixels - level, image.mask, edges, parameters.background_filter)
        tiles = tiles + rest
        more, rms = spline_surfaces(rest, noise, edges, _least_noise(noise))
        level += more
    return Background(level, rms, float(np.median(tiles)), float(np.median(noise)))


def _tiles(pixels: Pixels, mask: MaskPlane, edges: tuple[Edges, Edges], size: int) -> tuple[Floats, Floats]:
    """Return level and noise of tiles, each with a value, median-filtered."""
    for least in (_TILE_MIN_CLEAR, 0.0):
        level, noise = tile_statistics(pixels, mask, _EXCLUDED, *edges, least)
        if np.isfinite(level).any():
            return _median_filtered(_filled(level), size), _median_filtered(_filled(noise), size)
    # Every pixel is masked or saturated.
    return np.zeros_like(level), np.zeros_like(noise)


def _steep(tiles: Floats, noise: Floats) -> bool:
    """Return whether many neighbouring tiles differ by more than their noise."""
    steps = [np.abs(np.diff(tiles, axis=axis)) > np.delete(noise, -1, axis) for axis in (0, 1)]
    number = sum(step.size for step in steps)
    return number > 0 and bool(sum(np.count_nonzero(step) for step in steps) > _STEEP_SHARE * number)


def _least_noise(noise: Floats | Pixels) -> float:
    """Return the smallest noise that is believed."""
    some = noise[noise > 0.0]
    return _MIN_NOISE * float(np.median(some)) if some.size else 0.0


def _filled(tiles: Floats) -> Floats:
    """Return tiles of which those without a value have the mean of their nearest neighbours."""
    while np.isnan(tiles).any():
        around = np.lib.stride_tricks.sliding_window_view(np.pad(tiles, 1, constant_values=np.nan), (3, 3))
        known = np.isfinite(around).sum(axis=(2, 3))
        means = np.nansum(around, axis=(2, 3)) / np.maximum(known, 1)
        tiles = np.where(np.isnan(tiles) & (known > 0), means, tiles)
    return tiles


def _median_filtered(tiles: Floats, size: int) -> Floats:
    """Return tiles as medians of squares of them.

    Beyond the edges tiles are mirrored in value too, or a gradient would be flat there.
    """
    if size <= 1:
        return tiles
    half = size // 2
    wide = np.pad(tiles, half, mode="reflect", reflect_type="odd")
    windows = np.lib.stride_tricks.sliding_window_view(wide, (2 * half + 1, 2 * half + 1))
    return np.asarray(np.median(windows, axis=(2, 3)))


def _by_sep(image: Image, parameters: Extraction) -> Background:
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
    return np.maximum(rms, np.float32(_least_noise(rms[::_SAMPLE_PX, ::_SAMPLE_PX])))


def refine_background(
    image: Image,
    background: Background,
    detections: Footprints,
    parameters: Extraction,
    signal: Pixels | None = None,
) -> Background:
    """Return the background with the mean light of stars too faint to be detected in it.

    The mode, which finds the sky between stars, leaves out the stars below the detection limit. An
    aperture does not: it holds their mean surface brightness like any other pixels, so every flux comes
    out too large by that mean times the area. Here the mean of all pixels outside the halos of detected
    stars is added to the background, in cells wide enough that its noise does not matter. In crowded fields it is
    the other way round: the mode is that of the wings of stars, and what is left between them is darker.

    Parameters
    ----------
    image : Image
    background : Background
        As estimated before detection.
    detections : Footprints
        What was detected, and where.
    parameters : Extraction
    signal : ndarray of float32 or None
        Image minus background. If it is given, it and the level of the background are changed in place.
    """
    level = background.level
    if signal is None:
        signal, level = image.pixels - level, level.copy()
    size = CELL_MESHES * parameters.background_mesh_px
    edges = mesh_edges(image.pixels.shape, size)
    excess = mean_between_stars(signal, image.mask, background.rms, detections, edges)
    before = level[::_SAMPLE_PX, ::_SAMPLE_PX].copy()
    shift_by_cells(level, signal, excess, edges)
    shift = level[::_SAMPLE_PX, ::_SAMPLE_PX] - before
    return Background(
        level,
        background.rms,
        background.median_level + float(np.median(shift)),
        background.median_rms,
    )


def mean_between_stars(
    signal: Pixels,
    mask: MaskPlane,
    noise: Pixels,
    detections: Footprints,
    edges: tuple[Edges, Edges],
    step: int = 1,
) -> Floats:
    """Return the mean signal between the stars in each cell; that of the others where a cell is full of stars.

    Parameters
    ----------
    signal : ndarray of float32, shape (height, width)
    mask : ndarray of uint8, shape (height, width)
    noise : ndarray of float32, shape (height, width)
        Standard deviation of each pixel; what is far above or below it is left out.
    detections : Footprints
        Their halos are left out.
    edges : tuple of ndarray of int64, shapes (n + 1,) and (m + 1,)
        Of the cells along y and along x, pixels.
    step : int
        Size of the pixels in those that the numbers of the footprints count; places are in the former.

    Returns
    -------
    ndarray, shape (n, m)
    """
    area = np.outer(*(np.diff(part) for part in edges))
    mean = np.full(area.shape, np.nan)
    given = signal, mask, _EXCLUDED
    for radii, pixels in _HALOS:
        radius = (radii * np.sqrt(detections.n_pixels / np.pi) + pixels) / step
        discs = tuple(np.ascontiguousarray(values, float) for values in (detections.x, detections.y, radius))
        total, number = sum_cells(*given, discs, noise, np.float32(_CELL_CLIP), *edges)
        fresh = np.isnan(mean) & (number >= _CELL_MIN_CLEAR * area)
        mean[fresh] = total[fresh] / number[fresh]
        if not np.isnan(mean).any():
            return mean
    known = mean[~np.isnan(mean)]
    return np.where(np.isnan(mean), known.mean() if known.size else 0.0, mean)
