"""Combination of frames into a master, pixel by pixel, with an error for each pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from skylake.core.frame import Pixels
from skylake.image.combine.combine_kernels import combine_stack
from skylake.image.combine.quantised_scatter import KEPT_STEPS, spread_of, step_of

Counts = npt.NDArray[np.uint16]

#: How many values the expected variance is worth against the scatter of a pixel's own values.
_PRIOR_WEIGHT = 5.0
#: Pixels of a tile over which the scatter of single pixels is pooled.
_TILE = 32
#: A variance this many times the expected one is that of an outlier.
_MANY_TIMES = 10.0
#: Pairs of frames of which the noise is measured, and rows of each that are read.
_PAIRS = 8
_SAMPLE_ROWS = 128
_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class CombineOptions:
    """How values are combined.

    Attributes
    ----------
    threshold : float
        Values farther from the centre are left out, in standard deviations.
    start : {'median', 'mode'}
        Where the centre is looked for first. The half-sample mode withstands more than half of outliers on one side,
        such as stars of a crowded field.
    constant, slope : float
        How the variance of a single value depends on it: as ``constant + slope * max(value, 0)``. How large it is
        shows in the values themselves.
    step : float
        Step in which single values go, if they are coarse: what is two steps from the centre is never left out.
    """

    threshold: float = 4.0
    start: Literal["median", "mode"] = "median"
    constant: float = 0.0
    slope: float = 0.0
    step: float = 0.0


@dataclass(frozen=True, slots=True)
class Combined:
    """What frames were combined to; arrays of one shape, those of floats NaN where no frame had a value.

    Attributes
    ----------
    mean, error : ndarray of float32
        Clipped mean and its standard error.
    scatter, expected : ndarray of float32
        Scatter of values of mean weight, by their range without the lowest and the highest, and the one that is
        expected of them.
    n_used, n_present : ndarray of uint16
        Values that were kept, and that there were.
    """

    mean: Pixels
    error: Pixels
    scatter: Pixels
    expected: Pixels
    n_used: Counts
    n_present: Counts

    @property
    def rejected_fraction(self) -> float:
        """Part of the values that was left out."""
        total = int(self.n_present.sum(dtype=np.int64))
        return 1.0 - int(self.n_used.sum(dtype=np.int64)) / total if total else 0.0


def combine(stack: Pixels, options: CombineOptions, weights: npt.ArrayLike | None = None) -> Combined:
    """Combine frames, or the same rows of all of them.

    Each value counts by the weight of its frame, which is to go as one over the variance of its pixels. Errors come
    from the scatter of the kept values. A few values say little about their scatter, so it is pooled with what the
    neighbourhood of the pixel shows for its level, which counts as five values.

    Parameters
    ----------
    stack : ndarray of float32, shape (n, rows, columns)
        NaN where a frame has no value.
    options : CombineOptions
    weights : array_like or None, shape (n,)
        Positive; None for frames that are alike.
    """
    stack = np.ascontiguousarray(stack, np.float32)
    weight = np.ones(len(stack)) if weights is None else np.asarray(weights, np.float64)
    weight = weight / weight.mean()
    # The expected scatter of a value follows from the neighbourhood of its pixel, which may include outliers.
    planes, counts = _run(stack, weight, np.inf, options.start, np.zeros(stack.shape[1:], np.float32))
    shown = planes[1] if options.start == "median" else planes[2] ** 2
    noise = np.sqrt(_pooled(shown, _model(planes[0], options), counts[0], options.step))
    noise = np.maximum(noise, np.float32(KEPT_STEPS * options.step / options.threshold))
    planes, (used, present) = _run(stack, weight, options.threshold, options.start, noise)
    mean, square, _, inner, n_used = planes
    square /= np.float32(_kept_variance(options.threshold))
    expected = _pooled(square, _model(mean, options), used, options.step)
    freedom = np.maximum(used.astype(np.float32) - 1.0, 0.0)
    own = np.where(used > 1, square, 0.0)
    variance = (freedom * own + _PRIOR_WEIGHT * expected) / (freedom + _PRIOR_WEIGHT)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(variance / n_used)
    error = np.where(used > 0, error, np.nan).astype(np.float32)
    scatter = inner / _inner_range(present)
    return Combined(mean, error, scatter, np.sqrt(expected).astype(np.float32), used, present)


def _run(
    stack: Pixels, weights: npt.NDArray[np.float64], threshold: float, start: str, noise: Pixels
) -> tuple[tuple[Pixels, Pixels, Pixels, Pixels, Pixels], tuple[Counts, Counts]]:
    shape = stack.shape[1:]
    mean, square, deviation, inner, n_used = (np.empty(shape, np.float32) for _ in range(5))
    planes = (mean, square, deviation, inner, n_used)
    counts = (np.empty(shape, np.uint16), np.empty(shape, np.uint16))
    noise = np.ascontiguousarray(noise, np.float32)
    combine_stack(stack, weights, float(threshold), start == "mode", noise, planes, counts)
    return planes, counts


def _model(mean: Pixels, options: CombineOptions) -> Pixels:
    """Return the variance that the level of each pixel leads one to expect."""
    model = options.constant + options.slope * np.maximum(np.nan_to_num(mean), 0.0)
    return np.asarray(np.maximum(model, 1e-20), np.float32)


def _pooled(square: Pixels, model: Pixels, used: Counts, step: float) -> Pixels:
    """Return the variance of single values that the neighbourhood of each pixel shows for its level.

    It is the model times the median ratio of sample variance to model in a tile, with what a median of variances of
    few values lacks made good (Wilson & Hilferty 1931).
    """
    height, width = model.shape
    pooled = np.empty(model.shape, np.float32)
    for y in range(0, height, _TILE):
        for x in range(0, width, _TILE):
            tile = (slice(y, min(y + _TILE, height)), slice(x, min(x + _TILE, width)))
            enough = used[tile] > 1
            factor = 1.0
            if np.count_nonzero(enough) >= _TILE:
                freedom = max(float(np.median(used[tile][enough])) - 1.0, 1.0)
                factor = _clipped_ratio(square[tile][enough], model[tile][enough], freedom, step)
            pooled[tile] = factor * model[tile]
    return pooled


def _clipped_ratio(square: Pixels, model: Pixels, freedom: float, step: float) -> float:
    """Return the mean ratio of sample variances to their model, without the outliers."""
    expected = float(np.median(model))
    if step**2 <= expected:
        return float(np.median(square / model)) / (1.0 - 2.0 / (9.0 * freedom)) ** 3
    # Most values of a pixel are equal, and a few one step off: the median of such variances says nothing.
    clipped = np.minimum(square, np.float32(max(step**2, _MANY_TIMES * expected)))
    return float(np.mean(clipped / model))


def _inner_range(n_present: Counts) -> Pixels:
    """Return the range that values of unit scatter have without the lowest and highest of them (Blom 1958)."""
    from scipy.special import ndtri

    count = np.maximum(n_present.astype(np.float64), 3.0)
    aside = np.maximum(1.0, count // 8)
    return np.asarray(np.maximum(2.0 * ndtri((count - aside - 0.375) / (count + 0.25)), 0.1), np.float32)


def _kept_variance(threshold: float) -> float:
    """Return the variance that clipping leaves of a unit normal distribution."""
    from math import erf, exp, pi, sqrt

    if threshold == float("inf"):
        return 1.0
    inside = erf(threshold / sqrt(2.0))
    return 1.0 - 2.0 * threshold * exp(-0.5 * threshold**2) / sqrt(2.0 * pi) / inside


def frame_noise(frames: Sequence[Pixels]) -> float:
    """Return the noise of a pixel of one frame, from the differences of frames that follow one another.

    Differences of pixels two columns apart are taken, so that neither pattern nor a gradient of light counts.

    Parameters
    ----------
    frames : sequence of ndarray, shape (height, width)
        Two or more; may be memory maps, of which some rows are read.
    """
    noises = []
    for first, second in list(pairwise(frames))[:_PAIRS]:
        step = first.shape[0] // _SAMPLE_ROWS * 2 + 1
        difference = np.asarray(first[::step], np.float64) - second[::step]
        noises.append(spread_of(difference[:, 2:] - difference[:, :-2]) / 2.0)
    return float(np.median(noises)) if noises else 0.0


def frame_step(frames: Sequence[Pixels]) -> float:
    """Return the step in which the values of frames go; 0 if it does not show.

    Parameters
    ----------
    frames : sequence of ndarray, shape (height, width)
    """
    if len(frames) < 2:
        return 0.0
    step = frames[0].shape[0] // _SAMPLE_ROWS * 2 + 1
    difference = np.asarray(frames[0][::step], np.float64) - frames[1][::step]
    return step_of(difference[:, 2:] - difference[:, :-2])


def own_noise(frame: Pixels) -> float:
    """Return the noise of a pixel of a frame that has none to be compared with, from second differences of its pixels.

    Of those along rows and along columns the smaller noise counts, so that patterns of rows or of columns are no part
    of it; what single pixels differ by for ever is.

    Parameters
    ----------
    frame : ndarray, shape (height, width)
        May be a memory map, of which some rows are read. NaN where it has no value.
    """
    step = frame.shape[0] // _SAMPLE_ROWS * 2 + 1
    sample = np.asarray(frame[::step], np.float64)
    seen = (
        sample[:, 4:] - 2.0 * sample[:, 2:-2] + sample[:, :-4],
        sample[4:] - 2.0 * sample[2:-2] + sample[:-4],
    )
    noises = [
        spread_of(values) / np.sqrt(6.0)
        for values in (part[np.isfinite(part)] for part in seen)
        if values.size
    ]
    return float(min(noises, default=0.0))


def block_rows(n_frames: int, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the ranges of rows in which frames are combined, so that memory does not grow with their number.

    Blocks are whole tiles high, except the last one, if memory allows.
    """
    height, width = shape
    rows = max(1, _BLOCK_BYTES // max(4 * n_frames * width, 1))
    rows = max(_TILE, rows // _TILE * _TILE) if rows >= _TILE else rows
    return [(start, min(start + rows, height)) for start in range(0, height, rows)]


def combine_in_blocks(
    read: Callable[[int, int], Pixels], n_frames: int, shape: tuple[int, int], options: CombineOptions
) -> Combined:
    """Combine frames block by block.

    Parameters
    ----------
    read : callable
        Gives the rows from one to another of all frames, shape (n, rows, columns).
    n_frames : int
    shape : tuple of int
        Height and width.
    options : CombineOptions
    """
    return join([combine(read(start, end), options) for start, end in block_rows(n_frames, shape)])


def join(pieces: Sequence[Combined]) -> Combined:
    """Return blocks of rows as one."""
    names = ("mean", "error", "scatter", "expected", "n_used", "n_present")
    return Combined(*(np.concatenate([getattr(piece, name) for piece in pieces]) for name in names))
