"""How images of stars differ over the field: width and ellipticity in 3 x 3 cells."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from skylake.core.flags import FrameFlag
from skylake.core.frame_row import FrameRow
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.quality.source_metrics import ellipticity_vectors, judged_stars, star_widths

Floats = npt.NDArray[np.float64]

#: Cells along each axis.
SIDE = 3
#: A cell needs so many stars.
_FEWEST_STARS = 8
#: A cell stands out by this share of the mean width, or by this ellipticity, at least …
_LEAST_WIDER, _LEAST_LONGER = 0.1, 0.05
#: … and by so many standard errors of its median.
_SIGNIFICANT = 3.0
#: It stands out from the best cell by so many times as much.
_FROM_BEST = 2.0
#: Standard error of a median in units of the standard deviation over the root of the number.
_MEDIAN_ERROR = 1.2533


def cell_of(x: Floats, y: Floats, shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Return the cells of an image, of a height and width, in which pixels lie: from 0 along x, then y."""
    height, width = shape[:2]
    column = np.clip((x + 0.5) / width * SIDE, 0, SIDE - 1).astype(np.intp)
    line = np.clip((y + 0.5) / height * SIDE, 0, SIDE - 1).astype(np.intp)
    return np.asarray(line * SIDE + column, np.intp)


def cell_columns(measured: Measurements, shape: tuple[int, ...]) -> FrameRow:
    """Return median width and ellipticity of stars in the cells of an image, and how many stand out.

    A cell stands out if it is above the mean of the cells by more than their standard deviation, and by more than its
    noise; or if it is far above the best cell, as all others are where only the middle is sharp. The frame then has
    the flag UNEVEN_IMAGES. Cells are numbered from 1 along x, then y; a cell of too few stars is NaN.

    Parameters
    ----------
    measured : Measurements
        Sources of the image.
    shape : tuple of int
        Height and width of the image.
    """
    stars = judged_stars(measured)
    cell = cell_of(measured.x[stars], measured.y[stars], shape)
    widths, width_errors = _medians(star_widths(measured)[stars], cell)
    parts = ellipticity_vectors(measured.a[stars], measured.b[stars], measured.theta[stars])
    (along, along_err), (across, across_err) = (_medians(part, cell) for part in parts)
    length, error = np.hypot(along, across), np.maximum(along_err, across_err)
    uneven = _stand_out(widths, width_errors, _LEAST_WIDER * widths) | _stand_out(
        length, error, np.full(length.size, _LEAST_LONGER)
    )
    columns: dict[str, float] = {}
    for number in range(SIDE * SIDE):
        columns[f"fwhm_cell{number + 1}_px"] = float(widths[number])
        columns[f"ellipticity_cell{number + 1}"] = float(length[number])
    counts: FrameRow = {
        "n_uneven_cells": int(np.count_nonzero(uneven)),
        "flags": FrameFlag.UNEVEN_IMAGES if uneven.any() else FrameFlag(0),
    }
    return cast("FrameRow", columns) | counts


def _medians(values: Floats, cell: npt.NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Return medians over cells and their standard errors; NaN for cells of too few values."""
    median, error = np.full((2, SIDE * SIDE), np.nan)
    for number in range(SIDE * SIDE):
        mine = values[(cell == number) & np.isfinite(values)]
        if mine.size >= _FEWEST_STARS:
            median[number] = np.median(mine)
            low, high = np.quantile(mine, [0.1587, 0.8413])
            error[number] = _MEDIAN_ERROR * 0.5 * (high - low) / np.sqrt(mine.size)
    return median, error


def _stand_out(values: Floats, errors: Floats, least: Floats) -> npt.NDArray[np.bool_]:
    """Return which cells are above the mean of all by their standard deviation, by so much, and beyond noise.

    So do those that are above the best cell by twice as much, and beyond the noise of both.
    """
    known = np.isfinite(values)
    if np.count_nonzero(known) < SIDE:
        return np.zeros(values.size, bool)
    above = values - values[known].mean()
    limit = np.maximum(np.maximum(values[known].std(ddof=1), least), _SIGNIFICANT * errors)
    best = int(np.nanargmin(values))
    far = np.maximum(_FROM_BEST * least, _SIGNIFICANT * np.hypot(errors, errors[best]))
    return np.asarray(known & ((above > limit) | (values - values[best] > far)))
