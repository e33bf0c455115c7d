"""Kernels that judge a guess of where a picture points by its stars, and make it better.

The odds compare two explanations of the sources around the place of each star: that they are spread at random, or
that one of them may be this star. Each star contributes the factor ``1 - q + q N(d; s) / b``: q is the
chance that a star is seen, d the distance of the nearest source, s the error of the place, b the number of sources per
pixel.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from skylake.core.declination_zones import Zones, find_cone
from skylake.core.jit import kernel
from skylake.core.sphere import FloatArray, IntArray
from skylake.image.solving.attitude_kernels import (
    N_PARAMETERS,
    Guess,
    Picture,
    derive,
    inside,
    nearest_source,
    place_star,
    view_radius,
)

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


class Scene(NamedTuple):
    """What guesses are held against.

    Attributes
    ----------
    picture : Picture
        Its sources.
    zones : Zones
        The stars of the catalog.
    found : ndarray of int64
        Room for stars.
    """

    picture: Picture
    zones: Zones
    found: IntArray


@kernel
def first_odds(
    guess: Guess,
    scene: Scene,
    members: IntArray,
    sky: FloatArray,
    radius: float,
    middle: FloatArray,
    error: float,
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
    """
    picture, zones, found = scene.picture, scene.zones, scene.found
    half = 0.5 * math.hypot(picture.width, picture.height)
    n = find_cone(zones, sky, radius, found)
    room = picture.width * picture.height / picture.x.size
    place, total = np.empty(4), 0.0
    for k in range(n):
        star = found[k]
        if star == members[0] or star == members[1] or star == members[2] or star == members[3]:
            continue
        if not place_star(guess, half, zones.vectors[star], place) or not inside(picture, place):
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


@kernel
def improve(
    guess: Guess,
    scene: Scene,
    pairs: IntArray,
    n: int,
    sigma: float,
    start: FloatArray,
    covariance: FloatArray,
) -> None:
    """Fit a guess to pairs of stars and sources by a step of Gauss and Newton, in place.

    Parameters
    ----------
    pairs : ndarray of int64, shape (2, m)
        Stars and sources, of which the first `n` are pairs.
    sigma : float
        Error of the places of sources, pixels.
    start : ndarray, shape (2,)
        Distortions that are expected.
    covariance : ndarray, shape (6, 6)
        Written: that of the parameters.
    """
    picture, zones, stars, sources = scene.picture, scene.zones, pairs[0], pairs[1]
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
    inverse = np.linalg.inv(normal)
    for i in range(N_PARAMETERS):
        for j in range(N_PARAMETERS):
            covariance[i, j] = inverse[i, j]
    step = covariance @ right
    _turn(guess.rotation, step)
    guess.lens[0] *= math.exp(min(max(step[3], -0.3), 0.3))
    guess.lens[1] = min(max(guess.lens[1] + step[4], -0.3), 0.3)
    guess.lens[2] = min(max(guess.lens[2] + step[5], -0.3), 0.3)


@kernel
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


@kernel
def pair_up(
    guess: Guess,
    scene: Scene,
    sigma: float,
    covariance: FloatArray,
    pairs: IntArray,
    owner: IntArray,
    best: FloatArray,
) -> int:
    """Write pairs of stars and sources that are nearest to each other's place; return how many there are.

    Parameters
    ----------
    covariance : ndarray, shape (6, 6)
        That of the parameters of the guess, from which the errors of places follow.
    pairs : ndarray of int64, shape (2, m)
        Written: stars and sources.
    owner, best : ndarray, shape (n,)
        Room for the star of each source and its distance.
    """
    picture, zones, found, stars, sources = scene.picture, scene.zones, scene.found, pairs[0], pairs[1]
    half = 0.5 * math.hypot(picture.width, picture.height)
    n = find_cone(zones, guess.rotation[2], view_radius(guess, half), found)
    place, slopes = np.empty(4), np.empty((2, N_PARAMETERS))
    owner[:], best[:] = -1, 1e30
    for k in range(n):
        if not place_star(guess, half, zones.vectors[found[k]], place) or not inside(picture, place):
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


@kernel
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


@kernel
def refine(
    guess: Guess,
    scene: Scene,
    members: IntArray,
    quad_sources: IntArray,
    sigma: float,
    start: FloatArray,
    pairs: IntArray,
) -> tuple[float, int]:
    """Make a guess better, in place, from the asterism outwards; return the logarithm of its odds and its pairs.

    Parameters
    ----------
    members, quad_sources : ndarray of int64, shape (4,)
        Stars and sources of the asterism.
    pairs : ndarray of int64, shape (2, m)
        Written: stars and sources.
    """
    for i in range(4):
        pairs[0, i], pairs[1, i] = members[i], quad_sources[i]
    covariance = np.empty((N_PARAMETERS, N_PARAMETERS))
    n_sources = scene.picture.x.size
    owner, best = np.empty(n_sources, np.int64), np.empty(n_sources)
    n = 4
    for _ in range(_ROUNDS):
        for _ in range(2):
            improve(guess, scene, pairs, n, sigma, start, covariance)
        n = pair_up(guess, scene, sigma, covariance, pairs, owner, best)
        if n < 4:
            return -np.inf, n
    improve(guess, scene, pairs, n, sigma, start, covariance)
    n = pair_up(guess, scene, sigma, covariance, pairs, owner, best)
    return last_odds(guess, scene, members, sigma, covariance, owner), n


@kernel
def last_odds(
    guess: Guess,
    scene: Scene,
    members: IntArray,
    sigma: float,
    covariance: FloatArray,
    owner: IntArray,
) -> float:
    """Return the logarithm of the odds of a refined guess, by places and magnitudes.

    Parameters
    ----------
    owner : ndarray of int64, shape (n,)
        Star of each source, or -1; each source speaks for one star.
    """
    picture, zones, found = scene.picture, scene.zones, scene.found
    half = 0.5 * math.hypot(picture.width, picture.height)
    n = find_cone(zones, guess.rotation[2], view_radius(guess, half), found)
    room = picture.width * picture.height / picture.x.size
    zeropoint, spread = magnitude_scale(picture, zones, owner)
    place, slopes, total = np.empty(4), np.empty((2, N_PARAMETERS)), 0.0
    for k in range(n):
        star = found[k]
        if star == members[0] or star == members[1] or star == members[2] or star == members[3]:
            continue
        if not place_star(guess, half, zones.vectors[star], place) or not inside(picture, place):
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


@kernel
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
