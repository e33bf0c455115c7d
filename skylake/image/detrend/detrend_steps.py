"""Detrending steps: trimming, overscan, reference pixels, linearity and others, as functions of arrays."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Camera, Detector
from skylake.core.frame import Pixels, StoredImage
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed
from skylake.image.detrend.bayer_planes import bayer_cells
from skylake.image.detrend.linear_pass import decode

Floats = npt.NDArray[np.float64]

#: Rows over which the side columns of reference pixels are averaged: a row alone has too few of them.
_REFERENCE_ROWS = 11
#: Rows that are made linear at a time: what is worked out on the way is larger than they are.
_ROWS = 128
_NEWTON_STEPS = 30
#: Rows over which levels of the overscan are smoothed at most, and how many there have to be at least.
_SMOOTH_ROWS, _FEWEST_ROWS = 201, 64
#: Rows that together show whether levels differ more than noise does, by so many standard errors of its square.
_LOCAL_ROWS, _SIGNIFICANT = 31, 4.0
#: Levels are means of what is so many standard deviations from the median; noise is given by what is within more.
_NEAR, _CLIP = 3.5, 4.0
#: Differences of so few steps from the usual value count as noise, however small the noise is.
_KEPT_STEPS = 4.0


def trim_window(shape: tuple[int, int], detector: Detector) -> tuple[slice, slice]:
    """Return the rows and columns that trimming leaves.

    Raises
    ------
    FrameFailed
        ``wrong_size`` if nothing is left.
    """
    height, width = shape
    y0, y1 = detector.trim_y or (0, height)
    x0, x1 = detector.trim_x or (0, width)
    rows, columns = slice(max(0, y0), min(height, y1)), slice(max(0, x0), min(width, x1))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise FrameFailed(
            Reason.WRONG_SIZE, "nothing is left after trimming; correct detector.trim_x and trim_y"
        )
    return rows, columns


def image_grid(shape: tuple[int, int], camera: Camera) -> tuple[tuple[float, float], int]:
    """Return the raw pixel (x, y) of the first pixel of an image after all steps, and raw pixels from one to the next.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the raw image.
    camera : Camera

    Raises
    ------
    FrameFailed
        ``wrong_size`` if nothing is left after trimming.
    """
    steps, detector = camera.reduction.steps, camera.detector
    x, y = 0.0, 0.0
    if "trim" in steps:
        rows, columns = trim_window(shape, detector)
        x, y = columns.start, rows.start
    if "bayer" not in steps:
        return (x, y), 1
    cells = bayer_cells(detector.bayer_pattern or "", camera.reduction.colour, (x, y))
    within = [sum(values) / len(cells) for values in zip(*cells, strict=True)]
    return (x + within[0], y + within[1]), 2


@dataclass(frozen=True, slots=True)
class ZeroLevel:
    """The zero level as the overscan gives it.

    Attributes
    ----------
    levels : ndarray of float32, shape (height,)
        Of each raw row, ADU; NaN for a row whose overscan holds no number.
    error : float
        Standard error of one of them, ADU.
    own_error : float
        That which each row has for itself, ADU; what neighbouring rows share passes for sky.
    """

    levels: Pixels
    error: float
    own_error: float = 0.0


def overscan_level(source: StoredImage, detector: Detector) -> ZeroLevel | None:
    """Return the zero level of each raw row: the clipped mean of its overscan, or of all where that is rows.

    A median of whole numbers is one of them, however many there are, so that of a detector with a read noise of few
    ADU rows would differ for that alone. What is wrong with the level of a row is wrong with all its pixels, and many
    times worse for a star than as much in single pixels. So levels of rows that differ no more than noise explains
    are smoothed.

    Returns
    -------
    ZeroLevel or None
        None for a detector without overscan.

    Raises
    ------
    FrameFailed
        ``wrong_size`` if the overscan lies outside the image.
    """
    if detector.overscan_x is None and detector.overscan_y is None:
        return None
    height, width = source.shape
    y = slice(*slice(*(detector.overscan_y or (0, height))).indices(height)[:2])
    x = slice(*slice(*(detector.overscan_x or (0, width))).indices(width)[:2])
    if y.start >= y.stop or x.start >= x.stop:
        raise FrameFailed(
            Reason.WRONG_SIZE, "the overscan lies outside the image; correct detector.overscan_x"
        )
    strip = decode(source, (y, x))
    strip = np.where(np.isfinite(strip), strip, np.nan)
    by_row = detector.overscan_y is None
    step = _step_of(source, strip)
    noise = _noise_of(strip, step)
    level = _clipped_mean(strip if by_row else strip.reshape(1, -1), noise, step)
    levels = np.ascontiguousarray(np.broadcast_to(level, (height,)), np.float32)
    error = float(np.nan_to_num(noise)) / np.sqrt(strip.shape[1] if by_row else strip.size)
    if not by_row:
        return ZeroLevel(levels, error)
    # With one or two columns, noise cannot be distinguished from rows that differ.
    return _smoothed(levels, error) if strip.shape[1] >= 3 else ZeroLevel(levels, error, error)


def _smoothed(levels: Pixels, error: float) -> ZeroLevel:
    """Return levels of rows with less noise, where they are as smooth as that noise allows.

    A parabola is fitted to the rows about each (Savitzky & Golay 1964, Anal. Chem. 36, 1627). Where these differ from
    it by more than their errors, as at a ramp, a row keeps its own level; and so do all if the others together do.
    """
    from scipy.ndimage import uniform_filter1d
    from scipy.signal import savgol_filter

    known = np.isfinite(levels)
    number = int(np.count_nonzero(known))
    if number < _FEWEST_ROWS or not error > 0.0:
        return ZeroLevel(levels, error, error)
    window = min(_SMOOTH_ROWS, number // 4 * 2 - 1)
    seen = levels[known].astype(float)
    smooth = savgol_filter(seen, window, 2)
    square = ((seen - smooth) / error) ** 2
    structured = uniform_filter1d(square, _LOCAL_ROWS, mode="nearest") > 1.0 + _SIGNIFICANT * np.sqrt(
        2.0 / _LOCAL_ROWS
    )
    others = int(np.count_nonzero(~structured))
    if others and np.mean(square[~structured]) > 1.0 + _SIGNIFICANT * np.sqrt(2.0 / others):
        structured[:] = True
    made = levels.copy()
    made[known] = np.where(structured, seen, smooth)
    own = error**2 * float(np.mean(structured))
    # The variance of the middle of a parabola through that many rows.
    shared = error**2 * 2.25 / window * float(np.mean(~structured))
    return ZeroLevel(made, float(np.sqrt(own + shared)), float(np.sqrt(own)))


def unlit_level(source: StoredImage, detector: Detector) -> ZeroLevel:
    """Return zero level and dark current of an image in one: the clipped mean of areas that see no light.

    The error is that of the mean, or what the levels of the areas differ by if that is more.

    Raises
    ------
    FrameFailed
        ``wrong_size`` if the areas lie outside the image, or hold no number.
    """
    height, width = source.shape
    areas = []
    for x0, x1, y0, y1 in detector.unlit:
        y, x = slice(*slice(y0, y1).indices(height)[:2]), slice(*slice(x0, x1).indices(width)[:2])
        if y.start < y.stop and x.start < x.stop:
            pixels = decode(source, (y, x))
            areas.append(pixels[np.isfinite(pixels)])
    areas = [area for area in areas if area.size]
    if not areas:
        raise FrameFailed(
            Reason.WRONG_SIZE, "the unlit areas hold no pixel of the image; correct detector.unlit"
        )
    every = np.concatenate(areas)
    # An area into which light falls may differ from the others, and is no noise.
    step = _step_of(source, every)
    noise = float(np.median([_spread(area, step) for area in areas]))
    level, *levels = (_clipped_mean(area[None], noise, step)[0] for area in (every, *areas))
    error = noise / np.sqrt(every.size)
    if len(areas) > 1:
        error = max(error, float(np.std(levels, ddof=1)) / np.sqrt(len(areas)))
    return ZeroLevel(np.full(height, level, np.float32), float(error))


def _step_of(source: StoredImage, pixels: Pixels) -> float:
    """Return the step in which values of an image go, ADU; 0 for numbers that are not whole."""
    if source.stored.dtype.kind in "iu":
        return abs(source.scale)
    finite = pixels[np.isfinite(pixels)]
    return float(np.array_equal(finite, np.rint(finite)))


def _spread(values: Pixels, step: float) -> float:
    """Return the standard deviation of values in steps, without their outliers; NaN without a finite one.

    The median deviation is a number of steps, and up to a tenth off for a noise of a few; the mean square of what it
    says is no outlier is not.
    """
    away = np.abs(values[np.isfinite(values)] - np.float32(np.nanmedian(values)))
    sigma = 1.4826 * float(np.median(away))
    near = away[away <= max(_CLIP * sigma, _KEPT_STEPS * step)].astype(float)
    return float(np.sqrt(np.mean(near**2)))


def _noise_of(strip: Pixels, step: float) -> float:
    """Return the noise of a pixel of an overscan, zero where too few of them give it.

    It is that of second differences along rows, which neither levels of rows nor a slope of the bias get into; where
    there are too few columns for them, along columns.
    """
    lines = strip if strip.shape[1] >= 3 else strip.T
    if lines.shape[1] < 3:
        return 0.0
    differences = lines[:, 2:] - 2.0 * lines[:, 1:-1] + lines[:, :-2]
    if not np.isfinite(differences).any():
        return 0.0
    return _spread(differences, step) / float(np.sqrt(6.0))


def _clipped_mean(lines: Pixels, noise: float, step: float) -> Floats:
    """Return the mean of each line about its median, without what noise does not explain; NaN of a line of NaN.

    The second time it is taken about the first, since a median of whole numbers may be half a step off.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        centre = np.nanmedian(lines, axis=1).astype(float)
    most = max(_NEAR * noise, _KEPT_STEPS / 2.0 * step)
    for _ in range(2):
        away = lines - centre[:, None]
        with np.errstate(invalid="ignore"):
            near = np.abs(away) <= most
        # Nothing is near the median of an even number of two kinds of values.
        centre = centre + np.sum(away, axis=1, where=near) / np.maximum(near.sum(axis=1), 1)
    return np.asarray(centre)


def reference_correction(raw: Pixels, border: int, channels: int) -> Pixels:
    """Return the zero level of each pixel of a near-infrared array by its border of reference pixels.

    Each channel takes the level that runs linearly from its reference rows at the bottom to those at the top; what
    the side columns then still show, smoothed over some rows, is common to all channels. NaN counts as missing.

    Parameters
    ----------
    raw : ndarray of float32, shape (height, width)
        The whole array, in ADU.
    border : int
        Width of the border.
    channels : int
        Readout channels, of equal width, side by side.

    Returns
    -------
    ndarray of float32, shape (height, width)
    """
    height, width = raw.shape
    if 2 * border >= min(height, width) or channels > width:
        raise FrameFailed(
            Reason.WRONG_SIZE,
            "the image is all border; correct detector.reference_border_px or reference_channels",
        )
    level = np.empty(raw.shape, np.float32)
    position = np.clip((np.arange(height) - 0.5 * (border - 1)) / (height - border), 0.0, 1.0)[:, None]
    for part in np.array_split(np.arange(width), channels):
        columns = slice(int(part[0]), int(part[-1]) + 1)
        bottom, top = (
            _level(raw[rows, columns]) for rows in (slice(0, border), slice(height - border, height))
        )
        level[:, columns] = bottom + (top - bottom) * position
    sides = np.concatenate(
        [raw[:, :border] - level[:, :border], raw[:, -border:] - level[:, -border:]], axis=1
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        rows = np.nan_to_num(np.nanmedian(sides, axis=1))
    padded = np.pad(rows, _REFERENCE_ROWS // 2, mode="edge")
    smooth = np.convolve(padded, np.full(_REFERENCE_ROWS, 1.0 / _REFERENCE_ROWS), mode="valid")
    level += smooth[:, None].astype(np.float32)
    return level


def _level(pixels: Pixels) -> float:
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        return float("nan")
    step = float(np.array_equal(finite, np.rint(finite)))
    return float(_clipped_mean(finite[None], _spread(finite, step), step)[0])


def linearise(pixels: Pixels, variance: Pixels | None, coefficients: tuple[float, ...]) -> None:
    """Undo the response of a detector in place: x + c2 x^2 + c3 x^3 …, x being the signal in ADU.

    The variance follows by the slope of the curve. Signals below zero are noise, and stay.
    """
    for start in range(0, len(pixels), _ROWS):
        rows = slice(start, start + _ROWS)
        signal = np.maximum(pixels[rows], np.float32(0.0))
        for power, coefficient in enumerate(coefficients, start=2):
            pixels[rows] += np.float32(coefficient) * signal**power
        if variance is not None:
            slope = np.ones_like(signal)
            for power, coefficient in enumerate(coefficients, start=2):
                slope += np.float32(power * coefficient) * signal ** (power - 1)
            variance[rows] *= slope * slope


def delinearised(signal: npt.ArrayLike, coefficients: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Return which signals :func:`linearise` turns into the given ones, by Newton's method.

    Returns
    -------
    ndarray of float64, shape of the signal
        NaN where the curve does not reach them.
    """
    wanted = np.asarray(signal, np.float64)
    raw = wanted.copy()
    polynomial = np.polynomial.Polynomial([0.0, 1.0, *coefficients])
    slope = polynomial.deriv()
    with np.errstate(all="ignore"):
        for _ in range(_NEWTON_STEPS):
            raw -= (polynomial(raw) - wanted) / slope(raw)
        missed = ~(np.abs(polynomial(raw) - wanted) <= 1e-6 * np.abs(wanted) + 1e-6) | ~(slope(raw) > 0.0)
    return np.where(wanted <= 0.0, wanted, np.where(missed, np.nan, raw))
