"""The kernel that looks asterisms of a picture up in a band of an index, and judges what it finds."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from skylake.core.asterism_codes import SIZE_STEP, Quads, cell_of, cell_x, cell_y, unpacked_x, unpacked_y
from skylake.core.declination_zones import Zones
from skylake.core.jit import kernel
from skylake.core.sphere import FloatArray, IntArray
from skylake.image.solving.attitude_kernels import Guess, Picture
from skylake.image.solving.guess_kernels import Scene, first_odds, refine

#: Guesses with smaller odds after the first look are not refined.
_FIRST_ODDS = 3.0
#: Error of places in that look, at the asterism, in errors of sources.
_FIRST_ERROR = 1.5
#: Most stars in a picture, and asterisms of one code.
_ROOM = 2000


class Wanted(NamedTuple):
    """Which guesses are looked at.

    Attributes
    ----------
    tolerance : float
        Largest difference of each number of a code.
    size_tolerance : float
        Largest difference of the logarithms of sizes.
    centre : ndarray, shape (3,)
        Direction to look in.
    cosine : float
        Of the largest angle from there to an asterism; -1 for the whole sky.
    turn, turn_tolerance : float
        Position angle of the picture's y axis and its error, radians.
    parities : ndarray of int64
        1, -1 or both.
    odds : float
        Logarithm of the odds from which on a guess is accepted.
    sigma : float
        Error of the places of sources, pixels.
    distortion : ndarray, shape (2,)
        k1 and k2 that are expected.
    """

    tolerance: float
    size_tolerance: float
    centre: FloatArray
    cosine: float
    turn: float
    turn_tolerance: float
    parities: IntArray
    odds: float
    sigma: float
    distortion: FloatArray


class Asterisms(NamedTuple):
    """Asterisms of a picture under an assumed focal length.

    Attributes
    ----------
    sources : ndarray of int64, shape (q, 4)
        A, B, C, D.
    codes : ndarray, shape (q, 4)
    sizes : ndarray, shape (q,)
        Chords AB, radians.
    focal : float
        Pixels.
    """

    sources: IntArray
    codes: FloatArray
    sizes: FloatArray
    focal: float

    def between(self, first: int, last: int) -> Asterisms:
        """Return those from `first` to `last` (excluded), or to the end if there are fewer."""
        some = slice(first, last)
        return Asterisms(self.sources[some], self.codes[some], self.sizes[some], self.focal)


class Answer(NamedTuple):
    """What a search found, and how many guesses it has looked at.

    ``odds`` are those of the best guess, whether it is accepted or not; ``pairs`` has shape (2, n_pairs).
    """

    odds: float
    guess: Guess
    n_pairs: int
    pairs: IntArray
    looked_at: int


@kernel
def search(
    asterisms: Asterisms,
    rays: FloatArray,
    picture: Picture,
    quads: Quads,
    zones: Zones,
    around: float,
    wanted: Wanted,
    looked_at: int,
) -> Answer:
    """Look asterisms up, until a guess is accepted.

    Parameters
    ----------
    rays : ndarray, shape (n, 3)
        Directions of the sources in the camera, of any length.
    around : float
        How far around an asterism stars are looked for first, radians.
    looked_at : int
        Guesses that were looked at before: the odds that are needed grow with their number.
    """
    scene, pairs = (
        Scene(picture, zones, np.empty(_ROOM, np.int64)),
        np.zeros((2, picture.x.size), np.int64),
    )
    entries, code, sources = np.empty(_ROOM, np.int64), np.empty(4), np.empty(4, np.int64)
    members, middle, sky = np.empty(4, np.int64), np.empty(2), np.empty(3)
    empty = Guess(np.zeros((3, 3)), np.zeros(3), 1)
    best = Answer(-np.inf, empty, 0, pairs.copy(), looked_at)
    for quad in range(asterisms.sizes.size):
        for way in range(4 * wanted.parities.size):
            parity = wanted.parities[way // 4]
            if not _vary(asterisms, quad, parity, way % 4, wanted.tolerance, code, sources):
                continue
            middle[0], middle[1] = picture.x[sources].mean(), picture.y[sources].mean()
            n_entries = _look_up(quads, code, asterisms.sizes[quad], wanted, entries)
            for place in range(n_entries):
                if not _name(quads, entries[place], zones, members):
                    continue
                guess = Guess(np.empty((3, 3)), np.empty(3), parity)
                if not _orient(guess, members, sources, rays, zones, wanted, asterisms.focal):
                    continue
                looked_at += 1
                _direction(zones, members, sky)
                error = _FIRST_ERROR * wanted.sigma
                if first_odds(guess, scene, members, sky, around, middle, error) < _FIRST_ODDS:
                    continue
                odds, n = refine(guess, scene, members, sources, wanted.sigma, wanted.distortion, pairs)
                odds -= math.log(looked_at)
                if odds > best.odds:
                    best = Answer(odds, guess, n, pairs.copy(), looked_at)
                if odds >= wanted.odds:
                    return best
    return Answer(best.odds, best.guess, best.n_pairs, best.pairs, looked_at)


@kernel
def _vary(
    asterisms: Asterisms,
    quad: int,
    parity: int,
    variant: int,
    tolerance: float,
    code: FloatArray,
    sources: IntArray,
) -> bool:
    """Write an asterism under other names of its stars, where errors may have exchanged them; return whether they may.

    Variant 1 exchanges C and D, 2 exchanges A and B (and so the order of C and D), 3 only A and B.
    """
    stored, named = asterisms.codes[quad], asterisms.sources[quad]
    swaps_ends, swaps_others = variant >= 2, variant == 1 or variant == 2
    if swaps_ends and abs(stored[0] + stored[2] - 1.0) > 2.0 * tolerance:
        return False
    if (variant == 1 or variant == 3) and abs(stored[0] - stored[2]) > 2.0 * tolerance:
        return False
    ends, others = (1, 0) if swaps_ends else (0, 1), (1, 0) if swaps_others else (0, 1)
    for k in range(2):
        x, y = stored[2 * others[k]], stored[2 * others[k] + 1]
        code[2 * k] = 1.0 - x if swaps_ends else x
        code[2 * k + 1] = -parity * y if swaps_ends else parity * y
        sources[k], sources[2 + k] = named[ends[k]], named[2 + others[k]]
    return True


@kernel
def _look_up(quads: Quads, code: FloatArray, size: float, wanted: Wanted, entries: IntArray) -> int:
    """Write the asterisms of an index with nearly this code and size; return how many there are."""
    n, n_x, t = 0, quads.n_x, wanted.tolerance
    middle = math.log(max(size, 1e-12) / quads.smallest) / SIZE_STEP
    width = wanted.size_tolerance / SIZE_STEP + 0.5
    if middle + width < 0.0 or middle - width > 255.0:
        return 0
    low, high = cell_y(code[3] - t, n_x), cell_y(code[3] + t, n_x)
    for xc in range(cell_x(code[0] - t, n_x), cell_x(code[0] + t, n_x) + 1):
        for yc in range(cell_y(code[1] - t, n_x), cell_y(code[1] + t, n_x) + 1):
            for xd in range(cell_x(code[2] - t, n_x), cell_x(code[2] + t, n_x) + 1):
                begin = quads.starts[cell_of(xc, yc, xd, low, n_x)]
                end = quads.starts[cell_of(xc, yc, xd, high, n_x) + 1]
                for entry in range(begin, min(end, quads.sizes.size)):
                    if abs(quads.sizes[entry] - middle) > width or n == entries.size:
                        continue
                    if (
                        abs(unpacked_x(quads.codes[entry, 0]) - code[0]) <= t
                        and abs(unpacked_y(quads.codes[entry, 1]) - code[1]) <= t
                        and abs(unpacked_x(quads.codes[entry, 2]) - code[2]) <= t
                        and abs(unpacked_y(quads.codes[entry, 3]) - code[3]) <= t
                    ):
                        entries[n] = entry
                        n += 1
    return n


@kernel
def _name(quads: Quads, entry: int, zones: Zones, members: IntArray) -> bool:
    """Write the stars of an asterism; return whether they exist: a file may be damaged while it is mapped."""
    for i in range(4):
        members[i] = quads.stars[entry, i]
        if members[i] >= zones.ra.size:
            return False
    return True


@kernel
def _orient(
    guess: Guess,
    members: IntArray,
    sources: IntArray,
    rays: FloatArray,
    zones: Zones,
    wanted: Wanted,
    focal: float,
) -> bool:
    """Write the guess that puts A and B where their stars are; return whether hints allow it."""
    a, b = zones.vectors[members[0]], zones.vectors[members[1]]
    towards = a[0] * wanted.centre[0] + a[1] * wanted.centre[1] + a[2] * wanted.centre[2]
    if towards < wanted.cosine:
        return False
    sky, camera = np.empty((3, 3)), np.empty((3, 3))
    first, second = np.empty(3), np.empty(3)
    scale = 1.0
    # Single precision is too coarse for the axes of a frame of two stars that are near each other.
    for vector, target in ((a, first), (b, second)):
        # Stores to an array of doubles widen; `float` of a single would stay one in compiled code.
        target[0], target[1], target[2] = vector[0], vector[1], vector[2]
        target /= math.sqrt(target[0] ** 2 + target[1] ** 2 + target[2] ** 2)
    wide = _frame(first[0], first[1], first[2], second[0], second[1], second[2], sky)
    # Away from the axis the angle is not quite proportional to the scale.
    for _ in range(2):
        for target, ray in ((first, rays[sources[0]]), (second, rays[sources[1]])):
            x, y = guess.parity * ray[0] / ray[2] * scale, ray[1] / ray[2] * scale
            norm = math.sqrt(x * x + y * y + 1.0)
            target[0], target[1], target[2] = x / norm, y / norm, 1.0 / norm
        seen = _frame(first[0], first[1], first[2], second[0], second[1], second[2], camera)
        if seen == 0.0 or wide == 0.0:
            return False
        scale *= wide / seen
    guess.lens[0] = focal / scale
    guess.lens[1], guess.lens[2] = wanted.distortion[0], wanted.distortion[1]
    turned = camera.T @ sky
    for i in range(3):
        for j in range(3):
            guess.rotation[i, j] = turned[i, j]
    if wanted.turn_tolerance >= math.pi:
        return True
    return abs(_angle_between(_position_angle(guess.rotation), wanted.turn)) <= wanted.turn_tolerance


@kernel
def _direction(zones: Zones, members: IntArray, sky: FloatArray) -> None:
    """Write the direction between A and B."""
    norm = 0.0
    for k in range(3):
        sky[k] = zones.vectors[members[0], k] + zones.vectors[members[1], k]
        norm += sky[k] ** 2
    for k in range(3):
        sky[k] /= math.sqrt(norm)


@kernel
def _frame(ax: float, ay: float, az: float, bx: float, by: float, bz: float, axes: FloatArray) -> float:
    """Write the axes of the frame of two unit vectors; return their distance."""
    size = math.sqrt((bx - ax) ** 2 + (by - ay) ** 2 + (bz - az) ** 2)
    norm = math.sqrt((bx + ax) ** 2 + (by + ay) ** 2 + (bz + az) ** 2)
    if size == 0.0 or norm == 0.0:
        return 0.0
    axes[0, 0], axes[0, 1], axes[0, 2] = (bx - ax) / size, (by - ay) / size, (bz - az) / size
    axes[2, 0], axes[2, 1], axes[2, 2] = (bx + ax) / norm, (by + ay) / norm, (bz + az) / norm
    axes[1, 0] = axes[2, 1] * axes[0, 2] - axes[2, 2] * axes[0, 1]
    axes[1, 1] = axes[2, 2] * axes[0, 0] - axes[2, 0] * axes[0, 2]
    axes[1, 2] = axes[2, 0] * axes[0, 1] - axes[2, 1] * axes[0, 0]
    return size


@kernel
def _position_angle(rotation: FloatArray) -> float:
    """Return the position angle, east of north, of the picture's y axis at its centre."""
    x, y, z = rotation[2, 0], rotation[2, 1], rotation[2, 2]
    equator = max(math.hypot(x, y), 1e-12)
    up = rotation[1]
    east = (-y * up[0] + x * up[1]) / equator
    north = -z * (x * up[0] + y * up[1]) / equator + equator * up[2]
    return math.atan2(east, north)


@kernel
def _angle_between(first: float, second: float) -> float:
    return (first - second + math.pi) % (2.0 * math.pi) - math.pi
