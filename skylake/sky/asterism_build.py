"""Choose the stars and asterisms of an index: in every band as many everywhere on the sky as the catalog has.

A star belongs to a band if fewer than `RANK` brighter ones lie within the reach of the band: a rule that knows only
the surroundings of a star, so that the solver can choose among the sources of a picture in the same way.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from skylake.core.asterism_codes import (
    AsterismBand,
    Described,
    Quads,
    describe_named,
    packed_size,
    packed_x,
    packed_y,
    sorted_quads,
)
from skylake.core.declination_zones import Zones, chosen_stars, find_cone, in_zones, sorted_by_zone
from skylake.core.jit import kernel
from skylake.core.sphere import FloatArray, IntArray

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
#: Most stars that are looked at around one.
_CROWD = 4096
#: How far neighbours are looked for at first, in distances where the fifth is expected, and the factor to the next.
_FIRST_LOOK, _WIDER = 1.7, 1.6
_CHUNK = 50_000
#: Size of the smallest asterisms, in units of the mean distance of stars.
_SMALLEST = 0.25


def bands_of(
    vectors: FloatArray,
    magnitudes: FloatArray,
    widest_deg: float = 60.0,
    narrowest_deg: float = 0.5,
    finer: bool = True,
) -> list[AsterismBand]:
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
    stars = sorted_by_zone(vectors, magnitudes, reaches[0])
    chosen: list[Zones] = []
    if finer and len(reaches) > 1:
        # Mostly a catalog has not many more stars than the next band takes: that is soon known.
        usual_stars = _thinned(stars, reaches[1])
        if len(usual_stars.ra) > _SAME_FINER * len(stars.ra):
            chosen, densities, reaches, finer = [usual_stars], densities[1:], reaches[1:], False
    for reach in reaches[len(chosen) :]:
        chosen.append(_thinned(chosen[-1] if chosen else stars, reach))
    first, usual = 0, _USUAL * FINEST_DENSITY / math.radians(1.0) ** 2
    # Bands that the catalog cannot fill would have the stars, and the asterisms, of the next one.
    while first + 1 < len(chosen):
        share = _SAME_FINER if finer and first == 0 else _SAME
        droppable = (finer and first == 0) or densities[first] > usual
        if not (droppable and len(chosen[first + 1].ra) > share * len(chosen[first].ra)):
            break
        first += 1
    bands: list[AsterismBand] = []
    for density, reach, zones in list(zip(densities, reaches, chosen, strict=True))[first:]:
        bands.append(_frozen(AsterismBand(density, RANK, reach, zones, _quads(zones, density))))
    return bands


def finest_density(narrowest_deg: float) -> float:
    """Return the stars per square degree of the narrowest band: sixteen in the narrowest picture."""
    return FINEST_DENSITY * (0.5 / narrowest_deg) ** 2


def _frozen(band: AsterismBand) -> AsterismBand:
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


def _thinned(stars: Zones, reach: float) -> Zones:
    """Return the leaders among some stars, in zones as high as the reach: a cone lies in three of them."""
    stars = in_zones(stars, reach)
    return chosen_stars(stars, leaders(stars, RANK, reach))


@kernel
def leaders(zones: Zones, rank: int, reach: float) -> npt.NDArray[np.bool_]:
    """Return for each star whether it has fewer than `rank` brighter ones within `reach` (radians)."""
    neighbours, centre = np.empty(_CROWD, np.int64), np.empty(3)
    kept = np.zeros(zones.ra.size, np.bool_)
    for star in range(zones.ra.size):
        _direction(zones, star, centre)
        brighter, mine = 0, zones.magnitudes[star]
        for place in range(find_cone(zones, centre, reach, neighbours)):
            other = neighbours[place]
            # Of stars that are as bright as each other one comes first.
            if zones.magnitudes[other] < mine or (zones.magnitudes[other] == mine and other < star):
                brighter += 1
                if brighter == rank:
                    break
        kept[star] = brighter < rank
    return kept


def _quads(zones: Zones, density: float) -> Quads:
    """Return the asterisms of a band."""
    n_stars, most = zones.ra.size, _NEIGHBOURS[-1]
    smallest = _SMALLEST / math.sqrt(density)
    blocks: list[Described] = []
    if n_stars > most:
        near, counts = np.empty((n_stars, most), np.int32), np.empty(n_stars, np.int8)
        _find_nearest(zones, density, near, counts)
        room = _CHUNK * math.comb(most, 3)
        scratch = Described(
            np.empty((room, 4), np.uint32), np.empty((room, 4), np.uint8), np.empty(room, np.uint8)
        )
        for first in range(0, n_stars, _CHUNK):
            made = _describe(zones, near, counts, smallest, first, min(first + _CHUNK, n_stars), scratch)
            stars, codes, sizes = scratch.stars[:made], scratch.codes[:made], scratch.sizes[:made]
            blocks.append(Described(stars.copy(), codes.copy(), sizes.copy()))
    return sorted_quads(blocks, smallest)


@kernel
def _direction(zones: Zones, star: int, vector: FloatArray) -> None:
    """Write the unit vector of a star; in single precision it is none."""
    x, y, z = zones.vectors[star, 0], zones.vectors[star, 1], zones.vectors[star, 2]
    vector[0], vector[1], vector[2] = x, y, z
    vector /= math.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)


@kernel
def _find_nearest(
    zones: Zones, density: float, near: npt.NDArray[np.int32], counts: npt.NDArray[np.int8]
) -> None:
    """Write the nearest stars of each star of a band, and of how many of them asterisms are made."""
    most = near.shape[1]
    neighbours, squares = np.empty(_CROWD, np.int64), np.empty(most + 1)
    centre = np.empty(3)
    expected = math.sqrt(_NEIGHBOURS[1] / (math.pi * density))
    for star in range(near.shape[0]):
        _direction(zones, star, centre)
        reach, n_found = _FIRST_LOOK * expected, 0
        while n_found <= most and reach < 0.5 * math.pi:
            n_found = find_cone(zones, centre, reach, neighbours)
            reach *= _WIDER
        n = 0
        for place in range(n_found):
            if neighbours[place] == star:
                continue
            other = neighbours[place]
            x = zones.vectors[other, 0] - zones.vectors[star, 0]
            y = zones.vectors[other, 1] - zones.vectors[star, 1]
            z = zones.vectors[other, 2] - zones.vectors[star, 2]
            square = float(x * x + y * y + z * z)
            rank = n
            while rank > 0 and squares[rank - 1] > square:
                squares[rank] = squares[rank - 1]
                if rank < most:
                    near[star, rank] = near[star, rank - 1]
                rank -= 1
            if rank < most:
                squares[rank], near[star, rank] = square, other
                n = min(n + 1, most)
        counts[star] = min(n, _NEIGHBOURS[0])
        if n >= _NEIGHBOURS[1]:
            rarity = math.sqrt(squares[_NEIGHBOURS[1] - 1]) / expected
            for step in range(2):
                if rarity > _RARE[step]:
                    counts[star] = min(n, _NEIGHBOURS[step + 1])


@kernel
def _describe(
    zones: Zones,
    near: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int8],
    smallest: float,
    first: int,
    end: int,
    out: Described,
) -> int:
    """Describe the asterisms of the stars from `first` on, below `end`; return how many there are."""
    order, code, made = np.empty(4, np.int64), np.empty(4), 0
    # A star and its neighbours, and the squares of their distances: each is in many asterisms.
    most = near.shape[1] + 1
    names, shared = np.empty(most, np.int64), np.empty(most, np.int64)
    vectors, squares = np.empty((most, 3)), np.empty((most, most))
    for star in range(first, end):
        n = counts[star] + 1
        names[0] = star
        names[1:n] = near[star, : n - 1]
        for i in range(n):
            _direction(zones, names[i], vectors[i])
            for j in range(i):
                x, y, z = (
                    vectors[i, 0] - vectors[j, 0],
                    vectors[i, 1] - vectors[j, 1],
                    vectors[i, 2] - vectors[j, 2],
                )
                squares[j, i] = x * x + y * y + z * z
        _shared(near, counts, names, n, shared)
        for a in range(1, n - 2):
            for b in range(a + 1, n - 1):
                for c in range(b + 1, n):
                    # One of them comes before the star, and has made the asterism.
                    bits = 1 | 1 << a | 1 << b | 1 << c
                    if bits in (shared[a] & bits, shared[b] & bits, shared[c] & bits):
                        continue
                    size = math.sqrt(_order_by_size(squares, a, b, c, order))
                    byte = packed_size(size, smallest)
                    if byte < 0:
                        continue
                    describe_named(vectors, size, order, code)
                    out.sizes[made] = byte
                    for i in range(4):
                        out.stars[made, i] = names[order[i]]
                        out.codes[made, i] = packed_y(code[i]) if i % 2 else packed_x(code[i])
                    made += 1
    return made


@kernel
def _order_by_size(squares: FloatArray, a: int, b: int, c: int, order: IntArray) -> float:
    """Write the two of the stars 0, a < b < c that are farthest apart first; return the square of their distance."""
    longest: float = squares[0, a]
    order[0], order[1], order[2], order[3] = 0, a, b, c
    if squares[0, b] > longest:
        longest = squares[0, b]
        order[0], order[1], order[2], order[3] = 0, b, a, c
    if squares[0, c] > longest:
        longest = squares[0, c]
        order[0], order[1], order[2], order[3] = 0, c, a, b
    if squares[a, b] > longest:
        longest = squares[a, b]
        order[0], order[1], order[2], order[3] = a, b, 0, c
    if squares[a, c] > longest:
        longest = squares[a, c]
        order[0], order[1], order[2], order[3] = a, c, 0, b
    if squares[b, c] > longest:
        longest = squares[b, c]
        order[0], order[1], order[2], order[3] = b, c, 0, a
    return longest


@kernel
def _shared(
    near: npt.NDArray[np.int32], counts: npt.NDArray[np.int8], names: IntArray, n: int, shared: IntArray
) -> None:
    """Write which of a star and its neighbours each neighbour has as its own, as bits, if it comes before the star."""
    for i in range(1, n):
        shared[i] = 1 << i
        if names[i] > names[0]:
            continue
        for place in range(counts[names[i]]):
            for j in range(n):
                if near[names[i], place] == names[j]:
                    shared[i] |= 1 << j
