"""Light curves of many stars on the same frames, as matrices with gaps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.robust import BIWEIGHT_CUT, MAD_TO_SIGMA

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Memory of the largest array that one step of a fit makes, bytes.
CHUNK_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class CurveBlock:
    """Magnitudes of the stars of a camera and band on the same frames.

    Attributes
    ----------
    time : ndarray, shape (n_frames,)
        Days, ascending.
    mag, mag_err : ndarray, shape (n_stars, n_frames)
        Magnitudes and their random errors; NaN where there is no good measurement.
    """

    time: Floats
    mag: Floats
    mag_err: Floats

    @property
    def is_good(self) -> npt.NDArray[np.bool_]:
        """Where a magnitude counts: it and its error are finite, and the error is positive."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.isfinite(self.mag) & np.isfinite(self.mag_err) & (self.mag_err > 0))

    @property
    def weight(self) -> Floats:
        """Inverse variances, 0 where there is no measurement; shape (n_stars, n_frames)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.is_good, self.mag_err**-2, 0.0)

    def of(self, stars: slice | Integers) -> CurveBlock:
        """Return the curves of some of the stars."""
        return CurveBlock(self.time, self.mag[stars], self.mag_err[stars])


def star_chunks(n_stars: int, bytes_per_star: int, most: int = CHUNK_BYTES) -> Iterator[slice]:
    """Yield slices of stars whose arrays take no more than `most` bytes."""
    step = max(most // max(bytes_per_star, 1), 1)
    for start in range(0, n_stars, step):
        yield slice(start, min(start + step, n_stars))


def row_medians(values: Floats) -> Floats:
    """Return the median of the finite values of each row, NaN for a row without any.

    Sorting puts NaN last, so rows with gaps need no loop.
    """
    ordered = np.sort(np.where(np.isfinite(values), values, np.nan), axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    rows, at = np.arange(len(values)), np.maximum(count, 1)
    middle = 0.5 * (ordered[rows, (at - 1) // 2] + ordered[rows, at // 2])
    return np.where(count > 0, middle, np.nan)


def row_sigmas(residuals: Floats) -> Floats:
    """Return 1.4826 times the median absolute value of each row, NaN for a row without finite values."""
    return MAD_TO_SIGMA * row_medians(np.abs(residuals))


def outlier_weights(residuals: Floats, errors: Floats, cut: float = BIWEIGHT_CUT) -> Floats:
    """Return the share of its weight that each value keeps, by Tukey's biweight.

    Parameters
    ----------
    residuals, errors : ndarray, shape (n_stars, n_frames)
        NaN has no weight. Errors that are too small for the scatter of their star are scaled up to it.
    cut : float
        Standard deviations at which a value has no weight.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        pulls = residuals / errors
        scale = np.maximum(row_sigmas(pulls), 1.0)[:, None]
        off = np.nan_to_num(pulls / (cut * scale), nan=np.inf, posinf=np.inf, neginf=np.inf)
    return np.where(np.abs(off) < 1.0, (1.0 - np.minimum(np.abs(off), 1.0) ** 2) ** 2, 0.0)
