"""The kernel that sums pixels in circular apertures at given places, before and after neighbours are taken off."""

from __future__ import annotations

import numba
import numpy as np

from skylake.image.psf_kernels import Single, draw, grid
from skylake.image.psffit_kernels import Bytes, Doubles, Places

#: The circle cuts a pixel a little inside of where its tangent does: the mean of length^2 / 24 along the circle.
_SAGITTA = 1.0 / 24.0


@numba.njit(cache=True, nogil=True)
def coverage(dx: float, dy: float, distance: float, radius: float) -> float:
    """Return the part of a pixel within a circle.

    Parameters
    ----------
    dx, dy : float
        Offset of the middle of the pixel from the centre of the circle.
    distance : float
        Length of that.
    radius : float
        Large against a pixel: the arc is taken for a straight line at the mean distance, which gives the area of the
        circle to 1e-3 for radii of 2 and more.
    """
    inside = radius - distance - _SAGITTA / radius
    if inside >= 0.7072:
        return 1.0
    if inside <= -0.7072:
        return 0.0
    along, across = abs(dx) / distance, abs(dy) / distance
    if along < across:
        along, across = across, along
    depth = abs(inside)
    if depth <= 0.5 * (along - across):
        part = 0.5 + depth / along
    elif depth >= 0.5 * (along + across):
        part = 1.0
    else:
        corner = 0.5 * (along + across) - depth
        part = 1.0 - corner * corner / (2.0 * along * across)
    return part if inside > 0.0 else 1.0 - part


@numba.njit(cache=True, nogil=True)
def sum_apertures(
    columns: Places, rows: Places, dx: Single, dy: Single, inverse: Single, coefficients: Single, reach: Places,
    flux: Single, radii: Doubles, main: int, signal: Single, left: Single, good: Bytes, rms: Single, gain: float,
) -> tuple[Doubles, Doubles, Doubles, Doubles, Places]:  # fmt: skip
    """Sum the pixels around each star.

    Parameters
    ----------
    columns, rows, dx, dy, coefficients, reach, flux
        The stars as they were subtracted, shape (n, ...).
    inverse : ndarray of float32, shape (2, 2)
    radii : ndarray, shape (k,)
        In ascending order.
    main : int
        The aperture in which contamination and bad pixels are counted.
    signal, left : ndarray of float32, shape (height, width)
        With the stars, and without them. Where a pixel is not good, what was subtracted stands in for the signal.
    good : ndarray of uint8, shape (height, width)
    rms : ndarray of float32, shape (n,)
        Noise of the sky per pixel.
    gain : float

    Returns
    -------
    plain, alone, variance : ndarray, shape (n, k)
        Sum of the signal; sum of what is left and the star itself; variance of both, of sky and photons.
    light : ndarray, shape (n, 2)
        Within the main aperture: light of the star as drawn, and that of its neighbours.
    bad : ndarray, shape (n,)
        Pixels in the main aperture that are not good, those beyond the edge of the image among them.
    """
    n, k = len(columns), len(radii)
    height, width = signal.shape
    outer = int(np.ceil(radii[k - 1] + 1.0))
    side = 2 * outer + 1
    across, down = grid(outer)
    stamp, work = np.empty(len(across), np.float32), np.empty((3, len(across)), np.float32)
    plain, alone, variance = np.zeros((n, k)), np.zeros((n, k)), np.zeros((n, k))
    light, bad = np.zeros((n, 2)), np.zeros(n, np.int64)
    far = (radii[k - 1] + 0.7072) ** 2
    for star in range(n):
        draw(stamp, work, across, down, dx[star], dy[star], inverse, coefficients[star])
        noise = float(rms[star]) ** 2
        for row in range(side):
            y = rows[star] - outer + row
            down_px = row - outer - float(dy[star])
            for column in range(side):
                across_px = column - outer - float(dx[star])
                square = across_px * across_px + down_px * down_px
                if square >= far:
                    continue
                x = columns[star] - outer + column
                own = 0.0
                if abs(row - outer) <= reach[star] and abs(column - outer) <= reach[star]:
                    own = float(flux[star] * stamp[row * side + column])
                inside = 0 <= x < width and 0 <= y < height
                seen, rest, drawn = own, 0.0, own
                use = False
                if inside:
                    drawn = float(signal[y, x] - left[y, x])
                    use = good[y, x] != 0
                    seen = float(signal[y, x]) if use else drawn
                    rest = float(left[y, x]) if use else 0.0
                distance = np.sqrt(square)
                noise_here = noise + max(drawn, 0.0) / gain
                for number in range(k - 1, -1, -1):
                    part = coverage(across_px, down_px, distance, radii[number])
                    if part <= 0.0:
                        break
                    plain[star, number] += part * seen
                    alone[star, number] += part * (rest + own)
                    variance[star, number] += part * part * noise_here
                    if number == main:
                        light[star, 0] += part * own
                        light[star, 1] += part * (drawn - own)
                        bad[star] += 0 if use else 1
    return plain, alone, variance, light, bad
