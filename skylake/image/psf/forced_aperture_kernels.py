"""Kernels that sum pixels in circles around stars, before and after their neighbours are subtracted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skylake.core.jit import kernel
from skylake.image.photometry.circle_kernels import coverage
from skylake.image.psf.psf_kernels import Single, draw, grid, padded_size
from skylake.image.psf.stamp_kernels import (
    Doubles,
    PlacedStars,
    Places,
    Stamps,
    SubtractedImage,
    crosses,
    cut,
    misses,
    read_ahead,
)

_ZERO = np.float32(0.0)
#: No pixel is quieter than this share of the variance of the sky.
LEAST_VARIANCE = np.float32(0.1)
#: Sums of overlaps are known to this share.
_ROUNDING = np.float32(1e-5)
#: What is held of the pixels of a stamp.
SEEN, REST, BEYOND, USE = range(4)


class CircleTables(NamedTuple):
    """Circles around stars.

    Attributes
    ----------
    tables : ndarray of float32
        What :func:`aperture_table` gives for each circle, one after the other.
    phases, halves : ndarray of int, shape (circles,)
        Its phases and half sizes.
    main : int
        The circle of which the last of the sums, and bad pixels, are asked for.
    light : ndarray, shape (circles, m, 26)
        Light that belongs to each coefficient within a circle, wherever in a pixel it is centred, and within squares
        of half sizes 0, 1, 2, ...; the last ones may be missing.
    """

    tables: Single
    phases: Places
    halves: Places
    main: int
    light: Doubles


class Subtracted(NamedTuple):
    """How n stars were subtracted.

    Attributes
    ----------
    reach : ndarray of int, shape (n,)
        Half sizes of the squares in which they were.
    flux, sky : ndarray of float32, shape (n,)
        ADU, and the level of what is left where there is no star.
    """

    reach: Places
    flux: Single
    sky: Single


class _Overlaps(NamedTuple):
    """The overlaps of pixels and one circle: where they start in the tables, half size and length of their stamp."""

    tables: Single
    start: int
    half: int
    size: int


class _Light(NamedTuple):
    """The light of one star of flux 1: its row of stamps of half size `core`, and `drawn` in the stamp of a circle.

    It is looked at in the latter where it was subtracted beyond its core, up to `reach`.
    """

    stamps: Single
    star: int
    core: int
    reach: int
    drawn: Single


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
        part, before, after = tables[np.uint64(start + k)], seen[np.uint64(k)], rest[np.uint64(k)]
        plain += part * before
        left += part * after
        noise += part * part * max(before - after, _ZERO)
        area += part * part
    return plain, left, noise * photons, area


@kernel(fastmath={"contract", "reassoc", "nsz"})
def _own_light(overlaps: _Overlaps, light: _Light) -> float:
    """Return how much of a star of flux 1 a circle holds, as far as it is subtracted."""
    tables, start, half, size = overlaps
    stamps, star, core, reach, drawn = light
    side, small, total, edge = 2 * half + 1, 2 * core + 1, _ZERO, min(half, reach)
    if half == core:
        for k in range(size):
            total += tables[np.uint64(start + k)] * stamps[np.uint64(star), k]
        return float(total)
    for row in range(-edge, edge + 1):
        outer, inner = (row + half) * side + half, (row + core) * small + core
        for column in range(-edge, edge + 1):
            part = tables[np.uint64(start + outer + column)]
            if reach > core and half > core:
                total += part * drawn[np.uint64(outer + column)]
            else:
                total += part * stamps[np.uint64(star), np.uint64(inner + column)]
    return float(total)


@kernel
def _fill(room: Single, half: int, flux: np.float32, light: _Light) -> None:
    """Replace pixels that are not good by what was subtracted; beyond the edge of the image, by the star itself."""
    stamps, star, core, reach, drawn = light
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
    image: SubtractedImage,
    partial: bool,
    column: int,
    row: int,
    half: int,
    scales: tuple[np.float32, np.float32, np.float32],
    room: Single,
    rows: tuple[Single, ...],
) -> None:
    """Set the pixels of a stamp; `rows` are those of `room`.

    `scales` are what a unit of light adds to the variance, the factor of the plane of variances, and what that has to
    be raised by to be the variance beyond that of the sky.
    """
    planes = image.plane.shape[0] == image.signal.shape[0]
    if partial:
        room[:] = _ZERO
    cut(image.signal, column, row, half, rows[SEEN])
    cut(image.left, column, row, half, rows[REST])
    if planes:
        cut(image.plane, column, row, half, rows[USE])
    _noise(room, padded_size(half), planes, scales)
    if partial:
        rows[USE][:] = _ZERO
        cut(image.good, column, row, half, rows[USE])


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
    overlaps: _Overlaps, light: _Light, room: Single, variance: np.float32
) -> tuple[np.float32, np.float32, np.float32]:
    """Return what follows from a circle's pixels that are not good.

    It is the part of the star in them, the square of their overlap, and for the good ones the sum of overlap x stamp x
    variance, the covariance of an aperture and the fitted flux.
    """
    tables, start, half, _ = overlaps
    stamps, star, core, reach, drawn = light
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
    overlaps: _Overlaps,
    light: _Light,
    room: Single,
    variance: np.float32,
    flux: np.float32,
    squares: np.float32,
    sums: Doubles,
) -> np.float32:
    """Set what sums have of pixels that are not good, and fill these; return the square of their overlap."""
    share, lost, common = _made_up(overlaps, light, room, variance)
    sums[5], sums[6] = share, common / squares if squares > _ZERO else _ZERO
    _fill(room, overlaps.half, flux, light)
    return lost


@kernel
def _read_all(image: SubtractedImage, done: int, row: int, sink: Single) -> int:
    """Bring the next rows of the images near; see :func:`read_ahead`."""
    signal, left, plane = image.signal, image.left, image.plane
    if row < done:
        return done
    if plane.shape[0] == signal.shape[0]:
        read_ahead(plane, done, row, sink)
    read_ahead(left, done, row, sink)
    return read_ahead(signal, done, row, sink)


@kernel
def _count_bad(overlaps: _Overlaps, room: Single) -> int:
    tables, start, half, _ = overlaps
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
def _is_partial(image: SubtractedImage, column: int, row: int, outer: int) -> bool:
    """Return whether the image lacks pixels around a star, by its edge or as they are not good."""
    # One saturated star in a frame must not make all the others slow.
    edge = crosses(column, row, outer, image.signal.shape)
    return edge or (not image.clean and misses(image.good, column, row, outer))


@kernel
def sum_pixels(
    stars: PlacedStars,
    stamps: Stamps,
    subtracted: Subtracted,
    circles: CircleTables,
    image: SubtractedImage,
    rms: Single,
    excess: Single,
) -> tuple[Doubles, Places, Doubles, Doubles]:
    """Sum the pixels around each star, in circles and under its stamp.

    Parameters
    ----------
    stars, stamps, subtracted
        The stars as they were subtracted.
    circles
        In which pixels are summed.
    image
        With the stars, and without them. Where a pixel is not good, what was subtracted stands in for the signal.
    rms : ndarray of float32, shape (n,)
        Noise of the sky per pixel.
    excess : ndarray of float32, shape (n,)
        What is added to the variances of pixels at each star.

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
    columns, rows, dx, dy, coefficients, inverse = stars
    core, halves, main = stamps.half, circles.halves, circles.main
    n, outer = len(columns), max(core, halves.max() if len(halves) else 0)
    sums, bad, noise, chi2 = np.zeros((n, len(halves), 7)), np.zeros(n, np.int64), np.zeros(n), np.zeros(n)
    room, drawn = np.zeros((4, padded_size(outer)), np.float32), np.zeros(padded_size(outer), np.float32)
    views = seen, rest, _, _ = room[SEEN], room[REST], room[BEYOND], room[USE]
    whole, sink = np.zeros(padded_size(core), np.float32), np.empty(1, np.float32)
    whole[: (2 * core + 1) ** 2] = np.float32(1.0)
    ahead, planes = 0, image.plane.shape[0] == image.signal.shape[0]
    for star in range(n):
        column, row, variance, first = columns[star], rows[star], rms[star] * rms[star], 0
        scales = (np.float32(1.0 / image.gain), np.float32(image.scale), excess[star] - variance)
        ahead, loaded = _read_all(image, ahead, row + outer, sink), core
        partial = _is_partial(image, column, row, outer)
        light = _Light(stamps.values, star, core, subtracted.reach[star], drawn)
        _load(image, partial, column, row, core, scales, room, views)
        sky = subtracted.sky[star]
        noise[star], chi2[star], squares = _rest(stamps.values, star, whole, room, partial, variance, sky)
        for circle in range(len(halves)):
            half, size, phases = halves[circle], padded_size(halves[circle]), circles.phases[circle]
            start = first + _phase(dx[star], dy[star], phases) * size
            overlaps, own = _Overlaps(circles.tables, start, half, size), sums[star, circle]
            if partial or (planes and half != loaded):
                _load(image, partial, column, row, half, scales, room, views)
            elif half != loaded:
                cut(image.signal, column, row, half, seen)
                cut(image.left, column, row, half, rest)
            loaded = half
            if light.reach > core and half > core and (partial or circle == main):
                across, down = grid(half)
                draw(drawn[:size], across, down, dx[star], dy[star], inverse, coefficients[star])
            lost = _ZERO
            if partial:
                lost = _stand_in(overlaps, light, room, variance, subtracted.flux[star], squares, own)
                bad[star] += _count_bad(overlaps, room) if circle == main else 0
            if partial or planes:
                own[0], own[1], beyond, area = _weigh(circles.tables, start, size, room)
            else:
                own[0], own[1], beyond, area = _weigh_light(
                    circles.tables, start, size, seen, rest, scales[0]
                )
            # Where hardly a pixel is good, what is left of their overlap is rounding.
            sky_noise = variance * max(area - lost, _ROUNDING * area)
            own[2] = max(sky_noise + beyond, LEAST_VARIANCE * sky_noise)
            own[3] = _held(circles.light, circle, min(light.reach, half), coefficients, star)
            if circle == main:
                own[4] = _own_light(overlaps, light)
            first += phases * phases * size
    return sums, bad, noise, chi2
