"""The kernel that sums pixels in circular apertures at given places, before and after neighbours are taken off."""

from __future__ import annotations

import numba
import numpy as np

from skylake.image.kernels.normal_equations import Bytes, Doubles, Places, crosses, cut
from skylake.image.kernels.shapes import Single, draw, grid, padded_size

#: The circle cuts a pixel a little inside of where its tangent does: the mean of length^2 / 24 along the circle.
_SAGITTA = 1.0 / 24.0
#: Apertures are centred to a fraction 1 / PHASES of a pixel. What a symmetric star loses by that is of second order in
#: the offset of 1/64 px at most: below 2e-4.
PHASES = 32
_ZERO = np.float32(0.0)


@numba.njit(cache=True, nogil=True)
def coverage(dx: float, dy: float, radius: float) -> float:
    """Return the part of a pixel within a circle.

    Parameters
    ----------
    dx, dy : float
        Offset of the middle of the pixel from the centre of the circle.
    radius : float
        Not small against a pixel: the arc is taken for a straight line at the mean distance, which gives the area of
        the circle to 1e-3 for radii of 2 and more.
    """
    distance = np.sqrt(dx * dx + dy * dy)
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
    return float(part if inside > 0.0 else 1.0 - part)


@numba.njit(cache=True, nogil=True)
def aperture_table(radii: Doubles, half: int) -> Single:
    """Return the parts of the pixels of a stamp within circles, shape (phases, phases, circles, padded size).

    The phases are those of the centre within its pixel, in y and x.
    """
    side = 2 * half + 1
    size = padded_size(half)
    table = np.zeros((PHASES, PHASES, len(radii), size), np.float32)
    for down in range(PHASES):
        y = (down + 0.5) / PHASES - 0.5
        for across in range(PHASES):
            x = (across + 0.5) / PHASES - 0.5
            for number in range(len(radii)):
                for k in range(side * side):
                    table[down, across, number, k] = coverage(
                        k % side - half - x, k // side - half - y, radii[number]
                    )
    return table


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz", "arcp"})
def _noise(seen: Single, left: Single, noise: np.float32, inverse_gain: np.float32, variance: Single) -> None:
    for k in range(len(seen)):
        variance[k] = noise + max(seen[k] - left[k], _ZERO) * inverse_gain


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _weigh(
    part: Single, seen: Single, alone: Single, variance: Single
) -> tuple[np.float32, np.float32, np.float32]:
    plain, own, noise = _ZERO, _ZERO, _ZERO
    for k in range(len(part)):
        plain += part[k] * seen[k]
        own += part[k] * alone[k]
        noise += part[k] * part[k] * variance[k]
    return plain, own, noise


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _light(part: Single, seen: Single, left: Single, own: Single) -> tuple[np.float32, np.float32]:
    star, neighbours = _ZERO, _ZERO
    for k in range(len(part)):
        star += part[k] * own[k]
        neighbours += part[k] * (seen[k] - left[k] - own[k])
    return star, neighbours


@numba.njit(cache=True, nogil=True)
def _own_light(
    stamp: Single, core: int, flux: np.float32, half: int, reach: int, drawn: Single, own: Single
) -> None:
    """Put the light of a star into a stamp, as far as it was subtracted."""
    side, small = 2 * half + 1, 2 * core + 1
    own[:] = _ZERO
    if reach > core:
        for k in range(side * side):
            if abs(k // side - half) <= reach and abs(k % side - half) <= reach:
                own[k] = flux * drawn[k]
        return
    edge = min(core, half)
    for row in range(-edge, edge + 1):
        source = stamp[(row + core) * small + core - edge : (row + core) * small + core + edge + 1]
        target = own[(row + half) * side + half - edge : (row + half) * side + half + edge + 1]
        for k in range(len(source)):
            target[k] = flux * source[k]


@numba.njit(cache=True, nogil=True)
def sum_apertures(
    columns: Places, rows: Places, dx: Single, dy: Single, inverse: Single, coefficients: Single, stamps: Single,
    core: int, reach: Places, flux: Single, table: Single, half: int, main: int, signal: Single, left: Single,
    good: Bytes, clean: bool, rms: Single, gain: float,
) -> tuple[Doubles, Doubles, Doubles, Doubles, Places]:  # fmt: skip
    """Sum the pixels around each star.

    Parameters
    ----------
    columns, rows, dx, dy, coefficients, stamps, core, reach, flux
        The stars as they were subtracted, shape (n, ...), and the half size of their stamps.
    inverse : ndarray of float32, shape (2, 2)
    table : ndarray of float32
        As :func:`aperture_table` gives it for k circles and a stamp of half size `half`.
    half, main : int
        Half size of the stamps that hold the apertures; the one in which contamination and bad pixels are counted.
    signal, left : ndarray of float32, shape (height, width)
        With the stars, and without them. Where a pixel is not good, what was subtracted stands in for the signal.
    good : ndarray of uint8, shape (height, width)
    clean : bool
        Whether all pixels are good.
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
    n, circles, size = len(columns), table.shape[2], table.shape[3]
    across, down = grid(half)
    plain, alone, variance = np.zeros((n, circles)), np.zeros((n, circles)), np.zeros((n, circles))
    light, bad = np.zeros((n, 2)), np.zeros(n, np.int64)
    drawn, work = np.empty(size, np.float32), np.empty((3, size), np.float32)
    seen, rest, own = np.zeros(size, np.float32), np.zeros(size, np.float32), np.zeros(size, np.float32)
    use, noise = np.zeros(size, np.float32), np.zeros(size, np.float32)
    inverse_gain = np.float32(1.0 / gain)
    for star in range(n):
        edge = crosses(columns[star], rows[star], half, signal.shape)
        if edge:
            seen[:] = _ZERO
            rest[:] = _ZERO
            use[:] = _ZERO
        if reach[star] > core:
            draw(drawn, work, across, down, dx[star], dy[star], inverse, coefficients[star])
        _own_light(stamps[star], core, flux[star], half, reach[star], drawn, own)
        cut(signal, columns[star], rows[star], half, seen)
        cut(left, columns[star], rows[star], half, rest)
        y = min(int((dy[star] + 0.5) * PHASES), PHASES - 1)
        x = min(int((dx[star] + 0.5) * PHASES), PHASES - 1)
        parts = table[y, x]
        if edge or not clean:
            cut(good, columns[star], rows[star], half, use)
            for k in range(size):
                if use[k] == _ZERO:
                    # Beyond the edge nothing was subtracted, and the star itself stands in.
                    seen[k] = own[k] if seen[k] == rest[k] else seen[k] - rest[k]
                    rest[k] = _ZERO
                    bad[star] += 1 if parts[main, k] > _ZERO else 0
        _noise(seen, rest, rms[star] * rms[star], inverse_gain, noise)
        light[star, 0], light[star, 1] = _light(parts[main], seen, rest, own)
        for k in range(size):
            rest[k] += own[k]
        for number in range(circles):
            plain[star, number], alone[star, number], variance[star, number] = _weigh(
                parts[number], seen, rest, noise
            )
    return plain, alone, variance, light, bad
