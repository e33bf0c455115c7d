"""The sky around each source: a clipped mean of the clean pixels of its annulus."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.frame import Mask, Pixels

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.intp]

_CLIP_SIGMA = 3.0
_CLIP_ROUNDS = 2
#: A Gaussian that is cut at three sigma has this part of its standard deviation.
_CLIPPED_SHARE = 0.98658
#: These quantiles of a Gaussian are a standard deviation below and above the median.
_QUANTILES = (0.158655, 0.841345)
#: Pixels that are held at a time.
_CHUNK = 2_000_000


def annulus_sky(
    signal: Pixels, clean: Mask, x: Floats, y: Floats, inner: float, outer: float
) -> tuple[Floats, Floats, Floats]:
    """Return the mean of the clean pixels in annuli, clipped twice at three sigma.

    The first clip is about the median with the width of the narrower side, so that a bright trail does not
    widen it; the second about the mean of what is left. A pixel belongs to an annulus if its centre does.

    Parameters
    ----------
    signal : ndarray of float32, shape (height, width)
    clean : ndarray of bool, shape (height, width)
        Pixels that are sky.
    x, y : ndarray, shape (n,)
        Centres, 0-based pixels.
    inner, outer : float
        Radii, pixels.

    Returns
    -------
    level, error, number : ndarray, shape (n,)
        Mean, its standard error from the scatter of the pixels that are left, and how many pixels were
        clean before clipping; level and error are 0 where none was.
    """
    reach = int(np.ceil(outer)) + 1
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    # No source is farther than this from the centre of its nearest pixel.
    near = np.abs(np.hypot(dx, dy) - 0.5 * (inner + outer)) <= 0.5 * (outer - inner) + np.sqrt(0.5)
    offsets = dx[near], dy[near]
    size = max(1, _CHUNK // max(1, offsets[0].size))
    level, error, number = (np.zeros(len(x)) for _ in range(3))
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        values = _pixels(signal, clean, x[part], y[part], (inner, outer), offsets)
        level[part], error[part], number[part] = _clipped_mean(values)
    return level, error, number


def _pixels(
    signal: Pixels,
    clean: Mask,
    x: Floats,
    y: Floats,
    radii: tuple[float, float],
    offsets: tuple[npt.NDArray[Any], npt.NDArray[Any]],
) -> Floats:
    """Return the clean pixels of each annulus in ascending order, then infinity; shape (n, m)."""
    height, width = signal.shape
    column = np.rint(x).astype(np.intp)[:, None] + offsets[0]
    row = np.rint(y).astype(np.intp)[:, None] + offsets[1]
    distance = np.hypot(column - x[:, None], row - y[:, None])
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column, row = np.clip(column, 0, width - 1), np.clip(row, 0, height - 1)
    wanted = inside & (distance >= radii[0]) & (distance < radii[1]) & clean[row, column]
    return np.sort(np.where(wanted, signal[row, column].astype(float), np.inf), axis=1)


def _clipped_mean(values: Floats) -> tuple[Floats, Floats, Counts]:
    """Return mean, error and count of each row of ascending values, of which the finite ones count.

    What a clip keeps of an ordered row is a piece of it, so sums are differences of running sums.
    """
    finite = np.isfinite(values)
    number = finite.sum(axis=1)
    centre, sigma = _median_and_width(values, number)
    filled = np.where(finite, values - centre[:, None], 0.0)
    sums, squares = (np.pad(np.cumsum(part, axis=1), ((0, 0), (1, 0))) for part in (filled, filled**2))
    each = np.arange(len(values))
    mean = np.zeros(len(values))
    left = np.maximum(number, 1)
    for _ in range(_CLIP_ROUNDS):
        reach = _CLIP_SIGMA * sigma
        first = np.sum(filled < (mean - reach)[:, None], axis=1, where=finite)
        last = np.sum(filled <= (mean + reach)[:, None], axis=1, where=finite)
        left = np.maximum(last - first, 1)
        mean = (sums[each, last] - sums[each, first]) / left
        variance = (squares[each, last] - squares[each, first]) / left - mean**2
        sigma = np.sqrt(np.maximum(variance, 0.0)) / _CLIPPED_SHARE
    known = number > 0
    return np.where(known, centre + mean, 0.0), np.where(known, sigma / np.sqrt(left), 0.0), number


def _median_and_width(values: Floats, number: Counts) -> tuple[Floats, Floats]:
    """Return the median of each row and its distance from the nearer quantile; 0 where it is empty.

    What does not belong to the sky lies on one side, so the other tells the width.
    """
    each, top = np.arange(len(values)), np.maximum(number - 1, 0)
    low, high = (values[each, np.rint(share * top).astype(np.intp)] for share in _QUANTILES)
    middle = 0.5 * (values[each, top // 2] + values[each, (top + 1) // 2])
    known = number > 0
    with np.errstate(invalid="ignore"):
        return np.where(known, middle, 0.0), np.where(known, np.minimum(middle - low, high - middle), 0.0)
