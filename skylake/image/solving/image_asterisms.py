"""Choose the sources of a picture that a plate solver looks at, and the asterisms that neighbours among them make."""

from __future__ import annotations

import itertools
import math

import numpy as np

from skylake.core.asterism_codes import describe_all
from skylake.core.sphere import FloatArray, IntArray
from skylake.image.solving.asterism_kernels import Asterisms
from skylake.image.solving.attitude_kernels import Guess, Picture, fill_nearest

#: Asterisms are made of a source and three of so many nearest ones.
_NEIGHBOURS = 7
#: Of few sources, all asterisms are made.
_FEW = 14
#: Most sources that are looked at.
MOST_SOURCES = 110
_GRID = 64


def leading(x: FloatArray, y: FloatArray, rank: float, reach: float) -> IntArray:
    """Return the sources with fewer than `rank` brighter ones within `reach`, as the stars of an index are chosen.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Pixels; the brightest source first.
    rank : float
    reach : float
        Pixels.
    """
    square = (x[:, None] - x) ** 2 + (y[:, None] - y) ** 2
    brighter = np.tril(square < reach**2, -1).sum(axis=1)
    return np.flatnonzero(brighter < rank)[:MOST_SOURCES]


def picture_of(x: FloatArray, y: FloatArray, magnitudes: FloatArray, shape: tuple[int, int]) -> Picture:
    """Return chosen sources, at pixels from the centre, as the kernels want them."""
    height, width = shape
    nearest = np.empty((_GRID, _GRID), np.int32)
    fill_nearest(x, y, float(width), float(height), nearest)
    return Picture(x, y, magnitudes, nearest, float(width), float(height))


def rays_of(x: FloatArray, y: FloatArray, focal: float, half: float, distortion: FloatArray) -> FloatArray:
    """Return the directions, unit vectors, of pixels from the centre of a picture behind a lens.

    Parameters
    ----------
    focal : float
        Pixels.
    half : float
        Half the diagonal of the picture, pixels.
    distortion : ndarray, shape (2,)
        k1, k2.
    """
    seen = np.hypot(x, y) / half
    true = seen.copy()
    for _ in range(4 if distortion.any() else 0):
        true = seen / (1.0 + distortion[0] * true**2 + distortion[1] * true**4)
    shrink = np.divide(true, seen, out=np.ones_like(seen), where=seen > 0) / focal
    rays = np.column_stack([x * shrink, y * shrink, np.ones(len(x))])
    return np.asarray(rays / np.linalg.norm(rays, axis=1)[:, None])


def predict(guess: Guess, half: float, vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the places of stars, pixels from the centre of the picture."""
    camera = vectors @ guess.rotation.T
    gx, gy = camera[:, 0] / camera[:, 2], camera[:, 1] / camera[:, 2]
    focal, k1, k2 = guess.lens
    square = (gx**2 + gy**2) * (focal / half) ** 2
    g = 1.0 + k1 * square + k2 * square**2
    return guess.parity * focal * gx * g, focal * gy * g


def make_asterisms(picture: Picture, rays: FloatArray, focal: float) -> Asterisms:
    """Return the asterisms of neighbours, those of bright sources first."""
    members = _members(picture.x, picture.y)
    # The faintest member decides, since it is the likeliest to be no star of the index.
    members = members[np.argsort(members.max(axis=1), kind="stable")]
    codes, sizes = np.empty((len(members), 4)), np.empty(len(members))
    describe_all(rays, members, codes, sizes)
    return Asterisms(members, codes, sizes, focal)


def _members(x: FloatArray, y: FloatArray) -> IntArray:
    """Return sets of four sources, shape (q, 4), each once."""
    n = len(x)
    if n <= _FEW:
        return np.array(list(itertools.combinations(range(n), 4)), np.int64).reshape(-1, 4)
    square = (x[:, None] - x) ** 2 + (y[:, None] - y) ** 2
    near = np.argsort(square, axis=1, kind="stable")[:, : _NEIGHBOURS + 1]
    threes = np.array(list(itertools.combinations(range(1, _NEIGHBOURS + 1), 3)))
    sets = np.concatenate(
        [np.broadcast_to(near[:, None, :1], (n, len(threes), 1)), near[:, threes]], axis=2
    ).reshape(-1, 4)
    sets = np.sort(sets, axis=1).astype(np.int64)
    keys = ((sets[:, 0] * n + sets[:, 1]) * n + sets[:, 2]) * n + sets[:, 3]
    return sets[np.unique(keys, return_index=True)[1]]


def scale_steps(low: float, high: float, step: float) -> FloatArray:
    """Return assumed scales between two limits, each good for a factor of about `step`, the largest first."""
    count = max(1, math.ceil(math.log(high / low) / math.log(step) - 1e-9))
    return np.asarray(high * (low / high) ** ((np.arange(count) + 0.5) / count))
