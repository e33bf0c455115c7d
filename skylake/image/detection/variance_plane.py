"""Agreement of a variance plane with the measured noise of the sky."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.flags import UNUSABLE_PIXEL
from skylake.core.frame import Image, MaskPlane, Pixels

Floats = npt.NDArray[np.float64]

#: Every so many pixels in x and y are enough to compare variances.
_SAMPLE_PX = 8
#: Side of the squares in which the sky has one variance, in samples, and how many samples of sky give it.
_SIDE = 8
_MIN_IN_SQUARE = 8
#: Fewer pixels of sky than that do not show how wrong a variance plane is.
_MIN_SAMPLE = 50


@dataclass(frozen=True, slots=True)
class Agreement:
    """What makes a plane of variances agree with the noise of the sky: ``scale * plane + excess``.

    Attributes
    ----------
    scale : float
        Factor of the plane, photons of stars included.
    squares : ndarray or None
        The plane times the factor between the stars, in squares of 64 pixels; None if nothing is added.
    """

    scale: float = 1.0
    squares: Floats | None = None

    def excess(self, x: npt.NDArray[Any], y: npt.NDArray[Any], rms: npt.NDArray[Any]) -> Floats:
        """Return what is to be added to the plane at places, from the measured noise of the sky there."""
        if self.squares is None:
            return np.zeros(len(x))
        return np.asarray(np.asarray(rms, float) ** 2 - _between(self.squares, x, y))

    def median_excess(self, rms: Pixels) -> float:
        """Return what is to be added in the middle of the places of an image."""
        if self.squares is None:
            return 0.0
        return float(np.median(sampled(rms)) ** 2 - np.median(self.squares))


def sampled(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return every eighth pixel of a plane in x and y."""
    return plane[_SAMPLE_PX // 2 :: _SAMPLE_PX, _SAMPLE_PX // 2 :: _SAMPLE_PX]


def agree(
    variance: Pixels, rms: Pixels, sky: npt.NDArray[np.bool_], read_variance: float | None
) -> Agreement:
    """Return what makes a plane of variances agree with the noise of the sky.

    Where the gain is known the photons in the plane are right, stars' too, and what the sky has beyond them is added
    everywhere: noise that neighbours share, a wrong read noise, light that no step accounts for. What the plane has
    too much is taken off as long as read noise explains it; beyond that the gain is wrong all the same. Where the gain
    is not known the whole plane is scaled.

    Parameters
    ----------
    variance, rms : ndarray of float32, shape (height, width)
    sky : ndarray of bool
        Where the sky can be seen, of the shape that :func:`sampled` gives.
    read_variance : float or None
        What read noise has of the plane, ADU^2; None where the gain is not known.
    """
    stated, measured = sampled(variance).astype(float), sampled(rms).astype(float) ** 2
    sky = sky & (stated > 0.0) & np.isfinite(stated)
    if np.count_nonzero(sky) < _MIN_SAMPLE:
        return Agreement()
    if read_variance is None:
        return Agreement(float(np.median(measured[sky] / stated[sky])))
    light = np.maximum(stated[sky] - read_variance, np.finfo(np.float32).tiny)
    scale = min(1.0, float(np.median(measured[sky] / light)))
    return Agreement(scale, scale * _square_medians(np.where(sky, stated, np.nan)))


def agreement_of(image: Image, rms: Pixels, segments: npt.NDArray[np.int32]) -> Agreement:
    """Return what makes the variances of an image agree with the noise of its sky; nothing without variances.

    Parameters
    ----------
    image : Image
    rms : ndarray of float32
        Noise of the background.
    segments : ndarray of int32
        Positive where a detection is.
    """
    if image.variance is None:
        return Agreement()
    return agree(image.variance, rms, _sky(image.mask, segments), image.read_variance)


def _sky(mask: MaskPlane, segments: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    usable = (sampled(mask) & np.uint8(UNUSABLE_PIXEL)) == 0
    return np.asarray((sampled(segments) == 0) & usable)


def _square_medians(values: Floats) -> Floats:
    """Return medians of squares of samples, those that are NaN left out; of all where too few are left."""
    rows, columns = (-(-size // _SIDE) for size in values.shape)
    padded = np.full((rows * _SIDE, columns * _SIDE), np.nan)
    padded[: values.shape[0], : values.shape[1]] = values
    squares = padded.reshape(rows, _SIDE, columns, _SIDE).swapaxes(1, 2).reshape(rows, columns, -1)
    # NaN come last.
    ordered, count = np.sort(squares, axis=-1), np.isfinite(squares).sum(axis=-1)
    middles = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, _SIDE**2 - 1)], axis=-1)
    middle = np.take_along_axis(ordered, middles, axis=-1).mean(axis=-1)
    overall = float(np.median(values[np.isfinite(values)]))
    return np.where(count >= _MIN_IN_SQUARE, middle, overall)


def _between(squares: Floats, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Floats:
    """Return values at places, interpolated between the centres of squares."""
    size = _SAMPLE_PX * _SIDE
    row, column = (
        np.clip((position + 0.5) / size - 0.5, 0, count - 1)
        for position, count in zip((y, x), squares.shape, strict=True)
    )
    i, j = np.floor(row).astype(np.intp), np.floor(column).astype(np.intp)
    lower, right = np.minimum(i + 1, squares.shape[0] - 1), np.minimum(j + 1, squares.shape[1] - 1)
    t, s = row - i, column - j
    upper = squares[i, j] * (1.0 - s) + squares[i, right] * s
    return np.asarray(upper * (1.0 - t) + (squares[lower, j] * (1.0 - s) + squares[lower, right] * s) * t)
