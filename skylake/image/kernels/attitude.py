"""Kernels that place catalog stars in a picture, judge a guess of where it points, and make it better.

A guess is an attitude (a rotation from the sky to the camera, whose third row is the optical axis) and a lens: focal
length in pixels, and two coefficients of radial distortion. With X, Y the gnomonic coordinates of a star, R its
distance f sqrt(X^2 + Y^2) from the axis in units of half the diagonal of the picture, and p the parity,

    x = p f X g,   y = f Y g,   g = 1 + k1 R^2 + k2 R^4,

in pixels from the centre of the picture.

The odds compare two explanations of the sources around the place of each star: that they are spread at random, or
that one of them may be this star besides. Each star contributes the factor ``1 - q + q N(d; s) / b``: q is the
chance that a star is seen, d the distance of the nearest source, s the error of the place, b the number of sources per
pixel.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from skylake.core.sphere import FloatArray, IntArray
from skylake.core.zones import Zones, find_cone

#: Parameters of a guess: three turns, logarithm of the focal length, two distortions.
N_PARAMETERS = 6
#: Chance that a star of the band is among the sources.
SEEN = 0.65
#: Errors of the distortions before anything is known of the lens.
_K1_SIGMA, _K2_SIGMA = 0.03, 0.01
#: Sources farther than so many standard deviations from the place of a star are not it.
_GATE = 3.5
_ROUNDS = 4
#: Share of stars whose magnitude says nothing, as of red or saturated ones; scatter of the others.
_ODD_MAGNITUDE = 0.3
_MAGNITUDE_SIGMA = 0.6
#: Logarithm of the odds of guesses that are looked at no further.
_GIVEN_UP = -4.0
#: Growth of the error of a place with the distance from the asterism that the guess rests on.
_GROWTH = 0.012
#: Stars that are this cosine of an angle from the axis have no place in a plane.
_BEHIND = 0.05


class Picture(NamedTuple):
    """The chosen sources of a picture.

    Attributes
    ----------
    x, y : ndarray, shape (n,)
        Pixels from the centre of the picture.
    magnitudes : ndarray, shape (n,)
        Instrumental, of any zeropoint.
    nearest : ndarray of int32, shape (g, g)
        Source nearest to the middle of each cell of a grid, [row, column].
    width, height : float
        Pixels.
    """

    x: FloatArray
    y: FloatArray
    magnitudes: FloatArray
    nearest: npt.NDArray[np.int32]
    width: float
    height: float


class Guess(NamedTuple):
    """Where a picture may point.

    Attributes
    ----------
    rotation : ndarray, shape (3, 3)
        From the sky to the camera.
    lens : ndarray, shape (3,)
        Focal length in pixels, k1, k2.
    parity : int
        1, or -1 for a mirrored picture.
    """

    rotation: FloatArray
    lens: FloatArray
    parity: int


@numba.njit(cache=True, nogil=True)
def fill_nearest(
    x: FloatArray, y: FloatArray, width: float, height: float, nearest: npt.NDArray[np.int32]
) -> None:
    """Fill the grid of nearest sources."""
    rows, columns = nearest.shape
    for row in range(rows):
        cy = ((row + 0.5) / rows - 0.5) * height
        for column in range(columns):
            cx = ((column + 0.5) / columns - 0.5) * width
            best, found = 1e30, 0
            for i in range(x.size):
                square = (x[i] - cx) ** 2 + (y[i] - cy) ** 2
                if square < best:
                    best, found = square, i
            nearest[row, column] = found


@numba.njit(cache=True, nogil=True)
def place_star(guess: Guess, half: float, vector: npt.NDArray[np.float32], place: FloatArray) -> bool:
    """Write pixel x, y and gnomonic X, Y of a star to `place`; tell whether it is before the camera."""
    r = guess.rotation
    depth = r[2, 0] * vector[0] + r[2, 1] * vector[1] + r[2, 2] * vector[2]
    if depth < _BEHIND:
        return False
    gx = (r[0, 0] * vector[0] + r[0, 1] * vector[1] + r[0, 2] * vector[2]) / depth
    gy = (r[1, 0] * vector[0] + r[1, 1] * vector[1] + r[1, 2] * vector[2]) / depth
    focal = guess.lens[0]
    square = (gx * gx + gy * gy) * (focal / half) ** 2
    g = 1.0 + guess.lens[1] * square + guess.lens[2] * square * square
    place[0], place[1], place[2], place[3] = guess.parity * focal * gx * g, focal * gy * g, gx, gy
    return g > 0.5


@numba.njit(cache=True, nogil=True)
def derive(guess: Guess, half: float, place: FloatArray, slopes: FloatArray) -> None:
    """Write the derivatives of pixel x and y by the parameters, shape (2, 6)."""
    gx, gy, focal, p = place[2], place[3], guess.lens[0], guess.parity
    unit = (focal / half) ** 2
    square = (gx * gx + gy * gy) * unit
    g = 1.0 + guess.lens[1] * square + guess.lens[2] * square * square
    slope = (guess.lens[1] + 2.0 * guess.lens[2] * square) * unit
    xx, xy, yy = (
        focal * (g + 2.0 * gx * gx * slope),
        focal * 2.0 * gx * gy * slope,
        focal * (g + 2.0 * gy * gy * slope),
    )
    dx = (-gx * gy, 1.0 + gx * gx, -gy)
    dy = (-1.0 - gy * gy, gx * gy, gx)
    for k in range(3):
        slopes[0, k] = p * (xx * dx[k] + xy * dy[k])
        slopes[1, k] = xy * dx[k] + yy * dy[k]
    stretch = g + 2.0 * (gx * gx + gy * gy) * slope
    for row, value in ((0, p * focal * gx), (1, focal * gy)):
        slopes[row, 3] = value * stretch
        slopes[row, 4] = value * square
        slopes[row, 5] = value * square * square


@numba.njit(cache=True, nogil=True)
def _inside(picture: Picture, place: FloatArray) -> bool:
    return abs(place[0]) < 0.5 * picture.width and abs(place[1]) < 0.5 * picture.height


@numba.njit(cache=True, nogil=True)
def nearest_source(picture: Picture, place: FloatArray) -> int:
    """Return the source that is nearest to a place in the picture."""
    rows, columns = picture.nearest.shape
    row = min(int((place[1] / picture.height + 0.5) * rows), rows - 1)
    column = min(int((place[0] / picture.width + 0.5) * columns), columns - 1)
    return picture.nearest[max(row, 0), max(column, 0)]


@numba.njit(cache=True, nogil=True)
def view_radius(guess: Guess, half: float) -> float:
    """Return the angle from the axis to a corner of the picture, radians, with something to spare."""
    return min(math.atan(half / guess.lens[0]) * 1.08, 1.5)


@numba.njit(cache=True, nogil=True)
def first_odds(
    guess: Guess,
    picture: Picture,
    zones: Zones,
    members: IntArray,
    sky: FloatArray,
    radius: float,
    middle: FloatArray,
    error: float,
    found: IntArray,
) -> float:
    """Return the logarithm of the odds of a guess that rests on one asterism, by the stars around that.

    Most guesses are wrong: what has become unlikely is given up at once (the sequential test of Wald 1945).

    Parameters
    ----------
    members : ndarray of int64, shape (4,)
        Stars of the asterism, which do not count.
    sky : ndarray, shape (3,)
        Its direction.
    radius : float
        How far around that stars are looked for, radians.
    middle : ndarray, shape (2,)
        Its place, pixels.
    error : float
        Error of a place at the asterism, pixels.
    found : ndarray of int64
        Room for stars.
    """  # fmt: skip
    half = 0.5 * math.hypot(picture.width, picture.height)
    n = find_cone(zones, sky, radius, found)
    room = picture.width * picture.height / picture.x.size
    place, total = np.empty(4), 0.0
    for k in range(n):
        star = found[k]
        if star == members[0] or star == members[1] or star == members[2] or star == members[3]:
            continue
        if not place_star(guess, half, zones.vectors[star], place) or not _inside(picture, place):
            continue
        source = nearest_source(picture, place)
        distance = (place[0] - picture.x[source]) ** 2 + (place[1] - picture.y[source]) ** 2
        away = (place[0] - middle[0]) ** 2 + (place[1] - middle[1]) ** 2
        variance = error**2 + _GROWTH**2 * away
        density = 0.0
        if distance < 16.0 * variance:
            density = math.exp(-0.5 * distance / variance) / (2.0 * math.pi * variance)
        total += math.log(1.0 - SEEN + SEEN * density * room)
        if total < _GIVEN_UP:
            break
    return total


@numba.njit(cache=True, nogil=True)
def improve(
    guess: Guess,
    picture: Picture,
    zones: Zones,
    stars: IntArray,
    sources: IntArray,
    n: int,
    sigma: float,
    start: FloatArray,
    covariance: FloatArray,
) -> None:
    """Fit a guess to pairs of stars and sources by a step of Gauss and Newton, in place.

    Parameters
    ----------
    stars, sources : ndarray of int64
        The first `n` are pairs.
    sigma : float
        Error of the places of sources, pixels.
    start : ndarray, shape (2,)
        Distortions that are expected.
    covariance : ndarray, shape (6, 6)
        Written: that of the parameters.
    """  # fmt: skip
    half = 0.5 * math.hypot(picture.width, picture.height)
    normal, right = np.zeros((N_PARAMETERS, N_PARAMETERS)), np.zeros(N_PARAMETERS)
    place, slopes = np.empty(4), np.empty((2, N_PARAMETERS))
    weight = 1.0 / sigma**2
    for pair in range(n):
        if not place_star(guess, half, zones.vectors[stars[pair]], place):
            continue
        derive(guess, half, place, slopes)
        rest = (picture.x[sources[pair]] - place[0], picture.y[sources[pair]] - place[1])
        for axis in range(2):
            for i in range(N_PARAMETERS):
                right[i] += weight * slopes[axis, i] * rest[axis]
                for j in range(N_PARAMETERS):
                    normal[i, j] += weight * slopes[axis, i] * slopes[axis, j]
    for i, scatter in ((4, _K1_SIGMA), (5, _K2_SIGMA)):
        normal[i, i] += scatter**-2
        right[i] += (start[i - 4] - guess.lens[i - 3]) * scatter**-2
    for i in range(4):
        normal[i, i] *= 1.0 + 1e-9
    covariance[:] = np.linalg.inv(normal)
    step = covariance @ right
    _turn(guess.rotation, step)
    guess.lens[0] *= math.exp(min(max(step[3], -0.3), 0.3))
    guess.lens[1] = min(max(guess.lens[1] + step[4], -0.3), 0.3)
    guess.lens[2] = min(max(guess.lens[2] + step[5], -0.3), 0.3)


@numba.njit(cache=True, nogil=True)
def _turn(rotation: FloatArray, step: FloatArray) -> None:
    """Turn an attitude by a small rotation vector, in place (Rodrigues), and keep it orthogonal."""
    angle = math.sqrt(step[0] ** 2 + step[1] ** 2 + step[2] ** 2)
    if angle < 1e-15:
        return
    a, b, c = step[0] / angle, step[1] / angle, step[2] / angle
    cos, sin = math.cos(angle), math.sin(angle)
    for k in range(3):
        x, y, z = rotation[0, k], rotation[1, k], rotation[2, k]
        along = (a * x + b * y + c * z) * (1.0 - cos)
        rotation[0, k] = x * cos + (b * z - c * y) * sin + a * along
        rotation[1, k] = y * cos + (c * x - a * z) * sin + b * along
        rotation[2, k] = z * cos + (a * y - b * x) * sin + c * along


@numba.njit(cache=True, nogil=True)
def pair_up(
    guess: Guess,
    picture: Picture,
    zones: Zones,
    sigma: float,
    covariance: FloatArray,
    found: IntArray,
    stars: IntArray,
    sources: IntArray,
    owner: IntArray,
    best: FloatArray,
) -> int:
    """Write pairs of stars and sources that are nearest to each other's place; return how many there are.

    Parameters
    ----------
    covariance : ndarray, shape (6, 6)
        That of the parameters of the guess, from which the errors of places follow.
    owner, best : ndarray, shape (n,)
        Room for the star of each source and its distance.
    """  # fmt: skip
    half = 0.5 * math.hypot(picture.width, picture.height)
    n = find_cone(zones, guess.rotation[2], view_radius(guess, half), found)
    place, slopes = np.empty(4), np.empty((2, N_PARAMETERS))
    owner[:], best[:] = -1, 1e30
    for k in range(n):
        if not place_star(guess, half, zones.vectors[found[k]], place) or not _inside(picture, place):
            continue
        source = nearest_source(picture, place)
        square = (place[0] - picture.x[source]) ** 2 + (place[1] - picture.y[source]) ** 2
        variance = sigma**2 + place_variance(guess, half, place, slopes, covariance)
        if square < _GATE**2 * variance and square / variance < best[source]:
            best[source], owner[source] = square / variance, found[k]
    n_pairs = 0
    for source in range(owner.size):
        if owner[source] >= 0 and n_pairs < stars.size:
            stars[n_pairs], sources[n_pairs] = owner[source], source
            n_pairs += 1
    return n_pairs


@numba.njit(cache=True, nogil=True)
def place_variance(
    guess: Guess, half: float, place: FloatArray, slopes: FloatArray, covariance: FloatArray
) -> float:
    """Return the variance, per axis, that the errors of a guess give to the place of a star, square pixels."""
    derive(guess, half, place, slopes)
    total = 0.0
    for axis in range(2):
        for i in range(N_PARAMETERS):
            for j in range(N_PARAMETERS):
                total += slopes[axis, i] * covariance[i, j] * slopes[axis, j]
    return max(0.5 * total, 0.0)


@numba.njit(cache=True, nogil=True)
def refine(
    guess: Guess,
    picture: Picture,
    zones: Zones,
    members: IntArray,
    quad_sources: IntArray,
    sigma: float,
    start: FloatArray,
    found: IntArray,
    pairs: IntArray,
) -> tuple[float, int]:
    """Make a guess better, in place, from the asterism outwards; return the logarithm of its odds and its pairs.

    Parameters
    ----------
    members, quad_sources : ndarray of int64, shape (4,)
        Stars and sources of the asterism.
    pairs : ndarray of int64, shape (2, m)
        Written: stars and sources.
    """  # fmt: skip
    stars, sources = pairs[0], pairs[1]
    for i in range(4):
        stars[i], sources[i] = members[i], quad_sources[i]
    covariance = np.empty((N_PARAMETERS, N_PARAMETERS))
    owner, best = np.empty(picture.x.size, np.int64), np.empty(picture.x.size)
    n = 4
    for _ in range(_ROUNDS):
        for _ in range(2):
            improve(guess, picture, zones, stars, sources, n, sigma, start, covariance)
        n = pair_up(guess, picture, zones, sigma, covariance, found, stars, sources, owner, best)
        if n < 4:
            return -1e3, n
    improve(guess, picture, zones, stars, sources, n, sigma, start, covariance)
    n = pair_up(guess, picture, zones, sigma, covariance, found, stars, sources, owner, best)
    return last_odds(guess, picture, zones, members, sigma, covariance, found, owner), n


@numba.njit(cache=True, nogil=True)
def last_odds(
    guess: Guess,
    picture: Picture,
    zones: Zones,
    members: IntArray,
    sigma: float,
    covariance: FloatArray,
    found: IntArray,
    owner: IntArray,
) -> float:
    """Return the logarithm of the odds of a refined guess, by places and magnitudes.

    Parameters
    ----------
    owner : ndarray of int64, shape (n,)
        Star of each source, or -1; each source speaks for one star.
    """  # fmt: skip
    half = 0.5 * math.hypot(picture.width, picture.height)
    n = find_cone(zones, guess.rotation[2], view_radius(guess, half), found)
    room = picture.width * picture.height / picture.x.size
    zeropoint, spread = magnitude_scale(picture, zones, owner)
    place, slopes, total = np.empty(4), np.empty((2, N_PARAMETERS)), 0.0
    for k in range(n):
        star = found[k]
        if star == members[0] or star == members[1] or star == members[2] or star == members[3]:
            continue
        if not place_star(guess, half, zones.vectors[star], place) or not _inside(picture, place):
            continue
        source = nearest_source(picture, place)
        density = 0.0
        if owner[source] == star:
            square = (place[0] - picture.x[source]) ** 2 + (place[1] - picture.y[source]) ** 2
            variance = sigma**2 + place_variance(guess, half, place, slopes, covariance)
            density = math.exp(-0.5 * square / variance) / (2.0 * math.pi * variance)
            off = zones.magnitudes[star] - picture.magnitudes[source] - zeropoint
            likely = math.exp(-0.5 * (off / _MAGNITUDE_SIGMA) ** 2) / (_MAGNITUDE_SIGMA * 2.5066)
            density *= _ODD_MAGNITUDE + (1.0 - _ODD_MAGNITUDE) * likely * spread
        total += math.log(1.0 - SEEN + SEEN * density * room)
    return total


@numba.njit(cache=True, nogil=True)
def magnitude_scale(picture: Picture, zones: Zones, owner: IntArray) -> tuple[float, float]:
    """Return the zeropoint of the pairs and the range of the magnitudes of all sources."""
    offsets = np.empty(owner.size)
    n = 0
    for source in range(owner.size):
        if owner[source] >= 0:
            offsets[n] = zones.magnitudes[owner[source]] - picture.magnitudes[source]
            n += 1
    spread = picture.magnitudes.max() - picture.magnitudes.min()
    return (np.median(offsets[:n]) if n else 0.0), min(max(spread, 1.0), 6.0)
