"""Choose the stars and asterisms of an index: in every band as many everywhere on the sky as the catalog has.

A star belongs to a band if fewer than `RANK` brighter ones lie within the reach of the band: a rule that knows only
the surroundings of a star, so that the solver can choose among the sources of a picture in the same way.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from skylake.core.asterisms import Band, Quads, describe_all, sorted_quads
from skylake.core.sphere import FloatArray, IntArray
from skylake.core.zones import Zones, sorted_by_zone

#: Stars of a band have fewer brighter ones than this within its reach.
RANK = 5
#: Stars per square degree of the narrowest band of an index for pictures of half a degree, sixteen in each, and how
#: many times fewer each further band has.
FINEST_DENSITY = 64.0
RATIO = 4.0
#: A band denser than so many times that of half a degree is left out if the next one has this share of its stars.
_USUAL, _SAME = 1.01, 0.8
#: So is the band that is finer than the narrowest pictures need, if the next one has this share.
_SAME_FINER = 0.5
#: Asterisms are made of a star and three of so many nearest ones: more where stars are rare, since then a picture
#: has few, and each asterism counts.
_NEIGHBOURS = (4, 5, 6)
_RARE = (1.1, 1.35)
#: Stars that are looked at for brighter ones within reach.
_CROWD = 48
_CHUNK = 50_000
#: Size of the smallest asterisms, in units of the mean distance of stars.
_SMALLEST = 0.25
#: Zones are so high, in units of the reach.
_ZONE = 1.0


def bands_of(
    vectors: FloatArray,
    magnitudes: FloatArray,
    widest_deg: float = 60.0,
    narrowest_deg: float = 0.5,
    finer: bool = True,
) -> list[Band]:
    """Return the bands of an index, narrowest first.

    Parameters
    ----------
    vectors : ndarray, shape (n, 3)
        Unit vectors of bright stars, at least :func:`finest_density` where there are as many.
    magnitudes : ndarray, shape (n,)
    widest_deg, narrowest_deg : float
        Widths of the pictures that are to be solved.
    finer : bool
        Whether to make a band with four times as many stars as :func:`finest_density` where the catalog has them: of
        sixteen stars in a picture so few asterisms are whole among its sources that one picture in ten is not solved.
    """
    densities = band_densities(finest_density(narrowest_deg) * (RATIO if finer else 1.0), widest_deg)
    reaches = [math.sqrt(RANK / (math.pi * density)) for density in densities]
    chosen, kept = [], np.arange(len(vectors))
    for reach in reaches:
        kept = kept[leaders(vectors[kept], magnitudes[kept], RANK, reach)]
        chosen.append(kept)
    first, usual = 0, _USUAL * FINEST_DENSITY / math.radians(1.0) ** 2
    # Bands that the catalog cannot fill would have the stars, and the asterisms, of the next one.
    while first + 1 < len(chosen):
        share = _SAME_FINER if finer and first == 0 else _SAME
        droppable = (finer and first == 0) or densities[first] > usual
        if not (droppable and len(chosen[first + 1]) > share * len(chosen[first])):
            break
        first += 1
    bands: list[Band] = []
    for density, reach, kept in list(zip(densities, reaches, chosen, strict=True))[first:]:
        zones = sorted_by_zone(vectors[kept], magnitudes[kept], _ZONE * reach)
        bands.append(_frozen(Band(density, RANK, reach, zones, _quads(zones, density))))
    return bands


def finest_density(narrowest_deg: float) -> float:
    """Return the stars per square degree of the narrowest band: sixteen in the narrowest picture."""
    return FINEST_DENSITY * (0.5 / narrowest_deg) ** 2


def _frozen(band: Band) -> Band:
    """Make the arrays of a band read-only, as those of a file are: kernels are then compiled once for both."""
    for value in (*band.zones, *band.quads):
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    return band


def band_densities(finest_per_square_degree: float, widest_deg: float) -> list[float]:
    """Return the densities of bands, stars per steradian: the widest pictures have thirty stars of the last one."""
    square_degree = math.radians(1.0) ** 2
    densities = [finest_per_square_degree]
    while densities[-1] / RATIO * widest_deg**2 >= 30.0:
        densities.append(densities[-1] / RATIO)
    return [density / square_degree for density in densities]


def leaders(vectors: FloatArray, magnitudes: FloatArray, rank: int, reach: float) -> IntArray:
    """Return the stars with fewer than `rank` brighter ones within `reach` (radians)."""
    from scipy.spatial import cKDTree

    tree = cKDTree(vectors)
    order = np.argsort(magnitudes, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    place = np.append(place, len(order))
    kept = np.zeros(len(vectors), bool)
    for start in range(0, len(vectors), _CHUNK):
        part = slice(start, start + _CHUNK)
        _, near = tree.query(
            vectors[part], k=min(_CROWD, len(vectors)), distance_upper_bound=2.0 * math.sin(0.5 * reach)
        )
        near = near.reshape(len(vectors[part]), -1)
        kept[part] = (place[near] < place[:-1][part, None]).sum(axis=1) < rank
    return np.flatnonzero(kept)


def _quads(zones: Zones, density: float) -> Quads:
    """Return the asterisms of a band."""
    from scipy.spatial import cKDTree

    vectors = zones.vectors.astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    if len(vectors) <= _NEIGHBOURS[-1]:
        return sorted_quads(np.zeros((0, 4), np.int64), np.zeros((0, 4)), np.zeros(0), 1.0)
    tree = cKDTree(vectors)
    pieces: list[tuple[IntArray, FloatArray, FloatArray]] = []
    for start in range(0, len(vectors), _CHUNK):
        distance, near = tree.query(vectors[start : start + _CHUNK], k=_NEIGHBOURS[-1] + 1)
        members = _members(near, distance, density)
        codes, sizes = np.empty(members.shape), np.empty(len(members))
        describe_all(vectors, members, codes, sizes)
        # Smaller types, since those of the whole sky come together.
        pieces.append((members.astype(np.uint32), codes.astype(np.float32), sizes.astype(np.float32)))
    members, codes, sizes = (np.concatenate(column) for column in zip(*pieces, strict=True))
    once = np.sort(np.unique(_keys(members), return_index=True)[1])
    return sorted_quads(members[once], codes[once], sizes[once], _SMALLEST / math.sqrt(density))


def _members(near: IntArray, distance: FloatArray, density: float) -> IntArray:
    """Return the members of the asterisms of some stars, each once, shape (q, 4)."""
    expected = math.sqrt(_NEIGHBOURS[1] / (math.pi * density))
    rarity = distance[:, _NEIGHBOURS[1]] / expected
    few = np.array(_NEIGHBOURS)[np.searchsorted(_RARE, rarity)]
    found = []
    for count in _NEIGHBOURS:
        rows = near[few == count]
        for three in itertools.combinations(range(1, count + 1), 3):
            found.append(np.sort(rows[:, [0, *three]], axis=1))
    members = np.concatenate(found).astype(np.int64)
    return members[np.unique(_keys(members), return_index=True)[1]]


def _keys(members: IntArray) -> IntArray:
    """Return a number for each set of four; two sets have the same once in a hundred thousand skies."""
    key = np.zeros(len(members), np.uint64)
    for column in np.sort(members, axis=1).T:
        key = (key ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    return key.view(np.int64)
