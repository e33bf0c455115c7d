"""Kernels that sum the pixels of each source."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.image.detection.watershed_kernels import Significant

Pixels = npt.NDArray[np.float32]
Plane = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

#: The weight of a pixel in the centroid is the filtered image above this share of its peak: what is farther
#: out is noise and neighbours.
_WEIGHTLESS = 0.2
#: Columns of what :func:`sum_footprints` returns.
COUNT, FLUX, PEAK, ON_EDGE, BODY, BODY_FLUX, X, Y, XX, YY, XY = range(11)
WEIGHT, WX, WY, NOISE_X, NOISE_Y, PHOTONS_X, PHOTONS_Y = range(11, 18)
_COLUMNS = 18


@kernel
def sum_footprints(
    listed: Significant,
    source: Places,
    body: Plane,
    peak: Places,
    height: Pixels,
    segments: Places,
) -> Floats:
    """Return sums over the pixels of each source, and write the map of sources.

    Parameters
    ----------
    listed : Significant
        With basins.
    source : ndarray of int32, shape (b,)
        Source of each basin; -1 for none.
    body : ndarray of uint8, shape (b,)
        1 for basins that count for position and shape.
    peak : ndarray of int32, shape (m,)
        Index of the peak of each source in the image, from which moments are counted.
    height : ndarray of float32, shape (m,)
        The filtered image there.
    segments : ndarray of int32, shape (height, width)
        Zeros. Written: source plus one.

    Returns
    -------
    ndarray of float64, shape (m, 18)
        Number of pixels, sum of the signal, its first moments along x and y about the peak, second
        moments xx, yy, xy; sum of the signal weighted with the filtered image, its first moments, and
        second moments xx, yy of the square of the weight, and of that times the signal; largest pixel,
        and whether a pixel lies on the edge of the image.
    """
    place, value, light, basin = listed
    n_rows, width = segments.shape
    rows, columns = peak // width, peak % width
    sums = np.zeros((peak.size, _COLUMNS))
    sums[:, PEAK] = -np.inf
    y = 0
    for k in range(place.size):
        n = source[basin[k]]
        if n < 0:
            continue
        while place[k] >= (y + 1) * width:
            y += 1
        x = place[k] - y * width
        segments[y, x] = n + 1
        dx, dy = float(x - columns[n]), float(y - rows[n])
        flux = float(light[k])
        row = sums[n]
        row[COUNT] += 1.0
        row[FLUX] += flux
        row[PEAK] = max(row[PEAK], flux)
        if x == 0 or y == 0 or x == width - 1 or y == n_rows - 1:
            row[ON_EDGE] = 1.0
        if body[basin[k]] == 0:
            continue
        row[BODY] += 1.0
        row[BODY_FLUX] += flux
        row[X] += flux * dx
        row[Y] += flux * dy
        row[XX] += flux * dx * dx
        row[YY] += flux * dy * dy
        row[XY] += flux * dx * dy
        weight = float(value[k] - _WEIGHTLESS * height[n])
        if weight <= 0.0:
            continue
        along, across = (weight * dx) ** 2, (weight * dy) ** 2
        row[WEIGHT] += weight * flux
        row[WX] += weight * flux * dx
        row[WY] += weight * flux * dy
        row[NOISE_X] += along
        row[NOISE_Y] += across
        row[PHOTONS_X] += along * max(flux, 0.0)
        row[PHOTONS_Y] += across * max(flux, 0.0)
    return sums


@kernel
def sharpness(signal: Pixels, rms: Pixels, peak: Places, along: float, across: float) -> Floats:
    """Return how much light is beside the brightest pixel of each peak, compared with a star.

    Of the four lines through the pixel that with the least light counts: a star has some on all four, a
    hot pixel on none, the track of a particle on one.

    Parameters
    ----------
    signal, rms : ndarray of float32, shape (height, width)
    peak : ndarray of int32, shape (m,)
        Index of the peaks in the image.
    along, across : float
        What a star centred on a pixel has in the next pixel along x or y, and along the diagonals, as a
        share of its brightest; 0 for lines that are not to be judged.

    Returns
    -------
    ndarray of float64, shape (m,)
        Light beside the pixel in units of that of a star, plus three times its error; infinity at the
        edge.
    """
    height, width = signal.shape
    result = np.full(peak.size, np.inf)
    for i in range(peak.size):
        y, x = divmod(peak[i], width)
        y, x = _brightest(signal, y, x)
        if x == 0 or y == 0 or x == width - 1 or y == height - 1 or signal[y, x] <= 0.0:
            continue
        top = float(signal[y, x])
        noise = float(rms[y, x]) / top
        for dy, dx, share in ((0, 1, along), (1, 0, along), (1, 1, across), (1, -1, across)):
            if share > 0.0:
                beside = 0.5 * (signal[y - dy, x - dx] + signal[y + dy, x + dx]) / top
                error = noise * np.sqrt(0.5 + beside * beside)
                result[i] = min(result[i], (beside + 3.0 * error) / share)
    return result


@kernel
def _brightest(signal: Pixels, y: int, x: int) -> tuple[int, int]:
    """Return the brightest of a pixel and its neighbours."""
    best_y, best_x = y, x
    for row in range(max(0, y - 1), min(signal.shape[0], y + 2)):
        for column in range(max(0, x - 1), min(signal.shape[1], x + 2)):
            if signal[row, column] > signal[best_y, best_x]:
                best_y, best_x = row, column
    return best_y, best_x
