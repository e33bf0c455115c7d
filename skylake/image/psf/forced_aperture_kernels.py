"""The kernel that sums pixels around stars, before and after their neighbours are taken off."""

from __future__ import annotations

import numpy as np

from skylake.core.jit import kernel
from skylake.image.photometry.circle_kernels import coverage
from skylake.image.psf.pair_kernels import Bytes, Doubles, Places
from skylake.image.psf.psf_kernels import Single, draw, grid, padded_size
from skylake.image.psf.stamp_kernels import crosses, cut, misses, read_ahead

_ZERO = np.float32(0.0)
#: No pixel is quieter than this share of the variance of the sky.
LEAST_VARIANCE = np.float32(0.1)
#: Sums of overlaps are known to this share.
_ROUNDING = np.float32(1e-5)
#: What is held of the pixels of a stamp.
SEEN, REST, BEYOND, USE = range(4)


@kernel
def aperture_table(radius: float, half: int, phases: int) -> Single:
    """Return the parts of the pixels of a stamp within a circle, shape (phases, phases, padded size).

    The phases are those of the centre within its pixel, in y and x.
    """
    side = 2 * half + 1
    table = np.zeros((phases, phases, padded_size(half)), np.float32)
    for down in range(phases):
        y = (down + 0.5) / phases - 0.5
        for across in range(phases):
            x = (across + 0.5) / phases - 0.5
            for k in range(side * side):
                table[down, across, k] = coverage(k % side - half - x, k // side - half - y, radius)
    return table


@kernel(fastmath={"contract", "reassoc", "nsz"})
def _weigh(
    tables: Single, start: int, size: int, room: Single
) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Return the sums of signal, of what is left, of the square of the overlap times variance, and of the square."""
    plain, rest, noise, area = _ZERO, _ZERO, _ZERO, _ZERO
    for k in range(size):
        part = tables[np.uint64(start + k)]
        plain += part * room[SEEN, k]
        rest += part * room[REST, k]
        noise += part * part * room[BEYOND, k]
        area += part * part
    return plain, rest, noise, area


@kernel(fastmath={"contract", "reassoc", "nsz"})
def _weigh_light(
    tables: Single, start: int, size: int, seen: Single, rest: Single, photons: np.float32
) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Return what :func:`_weigh` does where all that the variance has beyond that of the sky is the photons' of light.

    That is done as the pixels are looked at, which is faster than to keep it.
    """
    plain, left, noise, area = _ZERO, _ZERO, _ZERO, _ZERO
    for k in range(size):
        part, one, two = tables[np.uint64(start + k)], seen[np.uint64(k)], rest[np.uint64(k)]
        plain += part * one
        left += part * two
        noise += part * part * max(one - two, _ZERO)
        area += part * part
    return plain, left, noise * photons, area


@kernel(fastmath={"contract", "reassoc", "nsz"})
def _own_light(
    tables: Single,
    start: int,
    size: int,
    half: int,
    stamps: Single,
    star: int,
    core: int,
    reach: int,
    drawn: Single,
) -> float:
    """Return how much of a star of flux 1 a circle holds, as far as it is subtracted.

    `drawn` is the star in a stamp of half size `half`, which is looked at where it is subtracted beyond its core.
    """
    side, small, total, edge = 2 * half + 1, 2 * core + 1, _ZERO, min(half, reach)
    if half == core:
        for k in range(size):
            total += tables[np.uint64(start + k)] * stamps[np.uint64(star), k]
        return float(total)
    for row in range(-edge, edge + 1):
        one, two = (row + half) * side + half, (row + core) * small + core
        for column in range(-edge, edge + 1):
            part = tables[np.uint64(start + one + column)]
            if reach > core and half > core:
                total += part * drawn[np.uint64(one + column)]
            else:
                total += part * stamps[np.uint64(star), np.uint64(two + column)]
    return float(total)


@kernel
def _fill(
    room: Single, half: int, flux: np.float32, stamps: Single, star: int, core: int, reach: int, drawn: Single
) -> None:
    """Let what was subtracted stand in for pixels that are not good; beyond the edge of the image, the star itself."""
    side, small = 2 * half + 1, 2 * core + 1
    for k in range(side * side):
        if room[USE, k] != _ZERO:
            continue
        row, column = k // side - half, k % side - half
        if room[SEEN, k] != room[REST, k]:
            room[SEEN, k] -= room[REST, k]
        elif abs(row) <= core and abs(column) <= core:
            room[SEEN, k] = flux * stamps[star, (row + core) * small + column + core]
        elif abs(row) <= reach and abs(column) <= reach:
            room[SEEN, k] = flux * drawn[k]
        else:
            room[SEEN, k] = _ZERO
        room[REST, k], room[BEYOND, k] = _ZERO, _ZERO


@kernel(fastmath={"contract", "reassoc", "nsz"})
def _noise(room: Single, size: int, planes: bool, scales: tuple[np.float32, np.float32, np.float32]) -> None:
    """Set what the variance of pixels has beyond that of the sky."""
    if planes:
        for k in range(size):
            room[BEYOND, k] = scales[1] * room[USE, k] + scales[2]
    else:
        for k in range(size):
            room[BEYOND, k] = max(room[SEEN, k] - room[REST, k], _ZERO) * scales[0]


@kernel
def _load(
    signal: Single,
    left: Single,
    plane: Single,
    good: Bytes,
    partial: bool,
    column: int,
    row: int,
    half: int,
    size: int,
    scales: tuple[np.float32, np.float32, np.float32],
    room: Single,
    rows: tuple[Single, ...],
) -> None:
    """Set the pixels of a stamp; `rows` are those of `room`.

    `scales` are what a unit of light adds to the variance, the factor of the plane of variances, and what that has to
    be raised by to be the variance beyond that of the sky.
    """
    planes = plane.shape[0] == signal.shape[0]
    if partial:
        room[:] = _ZERO
    cut(signal, column, row, half, rows[SEEN])
    cut(left, column, row, half, rows[REST])
    if planes:
        cut(plane, column, row, half, rows[USE])
    _noise(room, size, planes, scales)
    if partial:
        rows[USE][:] = _ZERO
        cut(good, column, row, half, rows[USE])


@kernel(error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})
def _rest(
    stamps: Single,
    star: int,
    whole: Single,
    room: Single,
    partial: bool,
    variance: np.float32,
    sky: np.float32,
) -> tuple[np.float32, np.float32, np.float32]:
    """Return the sum of stamp^2 x variance beyond that of the sky, the chi-square of the pixels, and that of stamp^2.

    The last is asked for where pixels are not good, and 0 elsewhere.
    `whole` is 1 for pixels of the stamp and 0 for padding.
    """
    noise, chi2, squares, i = _ZERO, _ZERO, _ZERO, np.uint64(star)
    # Padding has no variance.
    least = LEAST_VARIANCE * variance
    if partial:
        for k in range(len(whole)):
            if room[USE, k] * whole[k] != _ZERO:
                noise += stamps[i, k] * stamps[i, k] * room[BEYOND, k]
                squares += stamps[i, k] * stamps[i, k]
                rest = room[REST, k] - sky
                chi2 += rest * rest / max(variance + room[BEYOND, k], least)
        return noise, chi2, squares
    for k in range(len(whole)):
        rest = room[REST, k] - sky
        noise += stamps[i, k] * stamps[i, k] * room[BEYOND, k]
        chi2 += whole[k] * rest * rest / max(variance + room[BEYOND, k], least)
    return noise, chi2, squares


@kernel
def _made_up(
    tables: Single,
    start: int,
    half: int,
    room: Single,
    stamps: Single,
    star: int,
    core: int,
    reach: int,
    drawn: Single,
    variance: np.float32,
) -> tuple[np.float32, np.float32, np.float32]:
    """Return what follows from a circle's pixels that are not good.

    It is the part of the star in them, the square of their overlap, and for the good ones the sum of overlap x stamp x
    variance, by which an aperture goes with the fitted flux.
    """
    side, small = 2 * half + 1, 2 * core + 1
    share, lost, common = _ZERO, _ZERO, _ZERO
    for k in range(side * side):
        row, column, part = k // side - half, k % side - half, tables[start + k]
        inner, own = abs(row) <= core and abs(column) <= core, _ZERO
        if inner:
            own = stamps[star, (row + core) * small + column + core]
        elif abs(row) <= reach and abs(column) <= reach:
            own = drawn[k]
        if room[USE, k] == _ZERO:
            share += part * own
            lost += part * part
        elif inner:
            common += part * own * (variance + room[BEYOND, k])
    return share, lost, common


@kernel
def _stand_in(
    tables: Single,
    start: int,
    half: int,
    room: Single,
    stamps: Single,
    star: int,
    core: int,
    reach: int,
    drawn: Single,
    variance: np.float32,
    flux: np.float32,
    squares: np.float32,
    sums: Doubles,
) -> np.float32:
    """Set what sums have of pixels that are not good, and fill these; return the square of their overlap."""
    share, lost, common = _made_up(tables, start, half, room, stamps, star, core, reach, drawn, variance)
    sums[5], sums[6] = share, common / squares if squares > _ZERO else _ZERO
    _fill(room, half, flux, stamps, star, core, reach, drawn)
    return lost


@kernel
def _read_all(signal: Single, left: Single, plane: Single, done: int, row: int, sink: Single) -> int:
    """Bring the next rows of the images near; see :func:`read_ahead`."""
    if row < done:
        return done
    if plane.shape[0] == signal.shape[0]:
        read_ahead(plane, done, row, sink)
    read_ahead(left, done, row, sink)
    return read_ahead(signal, done, row, sink)


@kernel
def _count_bad(tables: Single, start: int, half: int, room: Single) -> int:
    bad = 0
    for k in range((2 * half + 1) ** 2):
        bad += 1 if room[USE, k] == _ZERO and tables[start + k] > _ZERO else 0
    return bad


@kernel
def _phase(dx: float, dy: float, phases: int) -> int:
    column, row = int((dx + 0.5) * phases), int((dy + 0.5) * phases)
    return min(row, phases - 1) * phases + min(column, phases - 1)


@kernel
def _held(light: Doubles, circle: int, square: int, coefficients: Single, star: int) -> float:
    held = 0.0
    for term in range(light.shape[2]):
        held += light[circle, square, term] * coefficients[star, term]
    return held


@kernel
def _is_partial(good: Bytes, clean: bool, column: int, row: int, outer: int, shape: tuple[int, ...]) -> bool:
    """Tell whether the image lacks pixels around a star, by its edge or as they are not good."""
    # One saturated star in a frame must not make all the others slow.
    return crosses(column, row, outer, shape) or (not clean and misses(good, column, row, outer))


@kernel
def sum_pixels(
    columns: Places,
    rows: Places,
    dx: Single,
    dy: Single,
    inverse: Single,
    coefficients: Single,
    stamps: Single,
    core: int,
    reach: Places,
    flux: Single,
    sky: Single,
    tables: Single,
    phases: Places,
    halves: Places,
    main: int,
    light: Doubles,
    signal: Single,
    left: Single,
    good: Bytes,
    clean: bool,
    rms: Single,
    gain: float,
    plane: Single,
    scale: float,
    excess: Single,
) -> tuple[Doubles, Places, Doubles, Doubles]:
    """Sum the pixels around each star, in circles and under its stamp.

    Parameters
    ----------
    columns, rows, dx, dy, coefficients, stamps, core, reach, flux
        The stars as they were subtracted, shape (n, ...), and the half size of their stamps.
    inverse : ndarray of float32, shape (2, 2)
    sky : ndarray of float32, shape (n,)
        Level of what is left where there is no star.
    tables : ndarray of float32
        What :func:`aperture_table` gives for each circle, one after the other.
    phases, halves : ndarray of int, shape (circles,)
        Its phases and half sizes.
    main : int
        The circle of which the last of the sums, and bad pixels, are asked for.
    light : ndarray, shape (circles, m, 26)
        Light that belongs to each coefficient within a circle, wherever in a pixel it is centred, and within squares
        of half sizes 0, 1, 2, ...; the last ones may be missing.
    signal, left : ndarray of float32, shape (height, width)
        With the stars, and without them. Where a pixel is not good, what was subtracted stands in for the signal.
    good : ndarray of uint8, shape (height, width)
    clean : bool
        Whether all pixels are good.
    rms : ndarray of float32, shape (n,)
        Noise of the sky per pixel.
    gain : float
    plane : ndarray of float32
        Variances of pixels, to be multiplied by `scale`; or empty, for photons of what was subtracted.
    excess : ndarray of float32, shape (n,)
        What is added to them at each star.

    Returns
    -------
    sums : ndarray, shape (n, circles, 7)
        The sum of the signal, that of what is left, the variance of sky and photons of good pixels, the part of the
        star as it was subtracted that such a circle holds in the mean over places within a pixel, the part that this
        one holds, the part of it in pixels that are not good, and the covariance of the good ones with the fitted
        flux.
    bad : ndarray, shape (n,)
        Pixels in the main circle that are not good, those beyond the edge of the image among them.
    noise, chi2 : ndarray, shape (n,)
        Sum of stamp^2 x variance beyond that of the sky, and chi-square of what is left under the stamp.
    """
    n, circles, outer = len(columns), len(halves), max(core, halves.max() if len(halves) else 0)
    sums, bad, noise, chi2 = np.zeros((n, circles, 7)), np.zeros(n, np.int64), np.zeros(n), np.zeros(n)
    room, drawn = np.zeros((4, padded_size(outer)), np.float32), np.zeros(padded_size(outer), np.float32)
    views = seen, rest, _, _ = room[SEEN], room[REST], room[BEYOND], room[USE]
    whole, sink = np.zeros(padded_size(core), np.float32), np.empty(1, np.float32)
    whole[: (2 * core + 1) ** 2] = np.float32(1.0)
    ahead, planes = 0, plane.shape[0] == signal.shape[0]
    for star in range(n):
        column, row, far, variance, first = columns[star], rows[star], reach[star], rms[star] * rms[star], 0
        scales = (np.float32(1.0 / gain), np.float32(scale), excess[star] - variance)
        ahead, loaded = _read_all(signal, left, plane, ahead, row + outer, sink), core
        partial = _is_partial(good, clean, column, row, outer, signal.shape)
        _load(signal, left, plane, good, partial, column, row, core, len(whole), scales, room, views)
        noise[star], chi2[star], squares = _rest(stamps, star, whole, room, partial, variance, sky[star])
        for circle in range(circles):
            half, size = halves[circle], padded_size(halves[circle])
            start = first + _phase(dx[star], dy[star], phases[circle]) * size
            if partial or (planes and half != loaded):
                _load(signal, left, plane, good, partial, column, row, half, size, scales, room, views)
            elif half != loaded:
                cut(signal, column, row, half, seen)
                cut(left, column, row, half, rest)
            loaded = half
            if far > core and half > core and (partial or circle == main):
                across, down = grid(half)
                draw(drawn[:size], across, down, dx[star], dy[star], inverse, coefficients[star])
            lost = _ZERO
            if partial:
                lost = _stand_in(
                    tables,
                    start,
                    half,
                    room,
                    stamps,
                    star,
                    core,
                    far,
                    drawn,
                    variance,
                    flux[star],
                    squares,
                    sums[star, circle],
                )
                bad[star] += _count_bad(tables, start, half, room) if circle == main else 0
            if partial or planes:
                plain, rested, beyond, area = _weigh(tables, start, size, room)
            else:
                plain, rested, beyond, area = _weigh_light(tables, start, size, seen, rest, scales[0])
            sums[star, circle, 0], sums[star, circle, 1] = plain, rested
            # Where hardly a pixel is good, what is left of their overlap is rounding.
            sky_noise = variance * max(area - lost, _ROUNDING * area)
            sums[star, circle, 2] = max(sky_noise + beyond, LEAST_VARIANCE * sky_noise)
            sums[star, circle, 3] = _held(light, circle, min(far, half), coefficients, star)
            if circle == main:
                sums[star, circle, 4] = _own_light(tables, start, size, half, stamps, star, core, far, drawn)
            first += phases[circle] * phases[circle] * size
    return sums, bad, noise, chi2
