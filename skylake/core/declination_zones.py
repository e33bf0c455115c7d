"""Stars in zones of declination, each sorted by right ascension, for fast cone searches in compiled code.

The zones are those of Gray et al. (2006, arXiv:cs/0701171): no tree, so that a file of them can be mapped into memory.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.core.sphere import FloatArray, IntArray, ra_dec

Single = npt.NDArray[np.float32]

#: Zones are widened by this angle, radians: more than the rounding of positions to float32.
_ROUNDING = 1e-6


class Zones(NamedTuple):
    """Stars of the whole sky, sorted by zone and then by right ascension.

    Attributes
    ----------
    vectors : ndarray of float32, shape (n, 3)
        Unit vectors, ICRS; rounded by 0.01 arcsec.
    magnitudes : ndarray of float32, shape (n,)
    ra : ndarray of float32, shape (n,)
        Right ascension, radians, in [0, 2 pi).
    starts : ndarray of int64, shape (zones + 1,)
        First star of each zone, and the number of stars.
    height : float
        Height of a zone, radians.
    """

    vectors: Single
    magnitudes: Single
    ra: Single
    starts: IntArray
    height: float


def sorted_by_zone(vectors: FloatArray, magnitudes: FloatArray, height: float) -> Zones:
    """Return stars in zones.

    Parameters
    ----------
    vectors : ndarray, shape (n, 3)
    magnitudes : ndarray, shape (n,)
    height : float
        Wanted height of the zones, radians; made a little smaller where it does not divide the sky evenly.
    """
    ra = np.radians(ra_dec(vectors)[0])
    return _arranged(vectors.astype(np.float32), magnitudes.astype(np.float32), ra.astype(np.float32), height)


def in_zones(zones: Zones, height: float) -> Zones:
    """Return the same stars in zones of another height."""
    return _arranged(zones.vectors, zones.magnitudes, zones.ra, height)


def chosen_stars(zones: Zones, chosen: npt.NDArray[np.bool_]) -> Zones:
    """Return some of the stars, in the same zones."""
    before = np.concatenate([[0], np.cumsum(chosen)])
    return Zones(
        zones.vectors[chosen], zones.magnitudes[chosen], zones.ra[chosen], before[zones.starts], zones.height
    )


def _arranged(vectors: Single, magnitudes: Single, ra: Single, height: float) -> Zones:
    n_zones = max(1, math.ceil(math.pi / height))
    height = math.pi / n_zones
    # Not by the sine, which is nearly the same for all stars at a pole.
    declination = np.arctan2(vectors[:, 2], np.hypot(vectors[:, 0], vectors[:, 1]), dtype=np.float64)
    zone = np.minimum(((declination + 0.5 * math.pi) / height).astype(np.int64), n_zones - 1)
    order = np.argsort(zone * 8.0 + ra, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(zone, minlength=n_zones))]).astype(np.int64)
    return Zones(vectors[order], magnitudes[order], ra[order], starts, height)


@kernel
def find_cone(zones: Zones, centre: FloatArray, radius: float, stars: IntArray) -> int:
    """Write the stars within a cone to `stars`; return how many there are, at most as many as fit.

    Parameters
    ----------
    zones : Zones
    centre : ndarray, shape (3,)
        Unit vector.
    radius : float
        Radians, at most pi / 2.
    stars : ndarray of int64
    """
    declination = math.asin(min(max(centre[2], -1.0), 1.0))
    ra = math.atan2(centre[1], centre[0]) % (2.0 * math.pi)
    reach = radius + _ROUNDING
    n_zones = zones.starts.size - 1
    first = max(0, int((declination - reach + 0.5 * math.pi) / zones.height))
    last = min(n_zones - 1, int((declination + reach + 0.5 * math.pi) / zones.height))
    half = math.pi
    if abs(declination) + reach < 0.5 * math.pi:
        half = math.asin(min(1.0, math.sin(reach) / math.cos(declination))) + _ROUNDING
    limit, n = math.cos(reach), 0
    for zone in range(first, last + 1):
        # Files may be damaged while they are mapped.
        low, high = max(zones.starts[zone], 0), min(zones.starts[zone + 1], zones.ra.size)
        for turn in (-1, 0, 1):
            # A cone over RA 0 reaches into the turn before or after.
            left, right = ra - half + turn * 2.0 * math.pi, ra + half + turn * 2.0 * math.pi
            if right < 0.0 or left >= 2.0 * math.pi or (turn != 0 and half >= math.pi):
                continue
            if half >= math.pi:
                left, right = -1.0, 7.0
            for star in range(_bisect(zones.ra, low, high, left - _ROUNDING), high):
                if zones.ra[star] > right + _ROUNDING:
                    break
                x, y, z = zones.vectors[star, 0], zones.vectors[star, 1], zones.vectors[star, 2]
                if x * centre[0] + y * centre[1] + z * centre[2] >= limit:
                    if n == stars.size:
                        return n
                    stars[n] = star
                    n += 1
    return n


@kernel
def _bisect(values: Single, low: int, high: int, wanted: float) -> int:
    """Return the first place from `low` on, below `high`, whose value is not smaller than wanted."""
    while low < high:
        middle = (low + high) // 2
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low
