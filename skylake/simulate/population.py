"""The simulated sky: stars drawn cell by cell, the same from wherever one looks.

The sky is divided into HEALPix cells. The stars of a cell follow from the seed and the number of the
cell alone, in order of brightness; a fainter limit makes the list longer and changes nothing before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import INDEX_ORDER, healpix_centre, offset, separation_deg
from skylake.simulate.random_streams import generator
from skylake.simulate.scenario import StarParams

_Array = npt.NDArray[np.float64]

#: HEALPix order of the cells, 0.84 square degrees each.
CELL_ORDER = 6
_CELL_AREA_DEG2 = 4.0 * np.pi * (180.0 / np.pi) ** 2 / (12 * 4**CELL_ORDER)
#: Stars of one cell are numbered from here on; identifiers below belong to special stars.
_ID_SHIFT = 32

#: Two humps of B-V, the turn-off of the disc and its red dwarfs and giants: weight, centre, width.
_BLUE, _RED = (0.58, 0.62, 0.13), (0.42, 1.22, 0.24)
COLOUR_RANGE = (0.0, 1.8)


@dataclass(frozen=True, slots=True)
class StarPopulation:
    """Stars, as arrays of equal length.

    Attributes
    ----------
    star_id : ndarray of int64
    ra_deg, dec_deg : ndarray
        ICRS, epoch 2000.
    pm_ra_mas_yr, pm_dec_mas_yr : ndarray
        Proper motion, that in right ascension with the factor cos(dec).
    v_mag, b_minus_v : ndarray
        Mean V magnitude and colour; out of eclipse for eclipsing stars and transits, at the peak for
        the transient.
    kind : ndarray of int8
        A member of :class:`skylake.simulate.variables.Kind`; 0 for constant stars.
    period_d, amplitude_mag, epoch_bjd : ndarray
        NaN for constant stars. See :mod:`skylake.simulate.variables`.
    """

    star_id: npt.NDArray[np.int64]
    ra_deg: _Array
    dec_deg: _Array
    pm_ra_mas_yr: _Array
    pm_dec_mas_yr: _Array
    v_mag: _Array
    b_minus_v: _Array
    kind: npt.NDArray[np.int8]
    period_d: _Array
    amplitude_mag: _Array
    epoch_bjd: _Array

    def __len__(self) -> int:
        return self.star_id.size

    def take(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> StarPopulation:
        """Return the stars that an index or mask selects."""
        return StarPopulation(*(getattr(self, name.name)[which] for name in fields(self)))


def joined(parts: Sequence[StarPopulation]) -> StarPopulation:
    """Return the stars of all parts in one value."""
    return StarPopulation(
        *(np.concatenate([getattr(part, name.name) for part in parts]) for name in fields(StarPopulation))
    )


@dataclass(frozen=True, slots=True)
class CountLaw:
    """N(< m) = density 10^(slope (m - mag)) stars per square degree between two limits in V."""

    density_per_deg2: float
    mag: float
    slope: float
    bright_mag: float
    faint_mag: float

    def brighter_than(self, mag: float) -> float:
        """Return the number of stars per square degree down to a magnitude, without the bright limit."""
        return float(self.density_per_deg2 * 10.0 ** (self.slope * (mag - self.mag)))


def stars_around(
    ra_deg: float, dec_deg: float, radius_deg: float, law: CountLaw, params: StarParams, seed: int
) -> StarPopulation:
    """Return the stars within a radius of a position, in order of cell and brightness.

    Notes
    -----
    Positions are those of epoch 2000; the caller adds to the radius what proper motion may need.
    """
    stars = stars_of_cells(_cells_around(ra_deg, dec_deg, radius_deg), law, params, seed)
    return stars.take(separation_deg(ra_deg, dec_deg, stars.ra_deg, stars.dec_deg) <= radius_deg)


def _cells_around(ra_deg: float, dec_deg: float, radius_deg: float) -> npt.NDArray[np.int64]:
    # No point of a cell of this order is farther than 1.05 degrees from its centre.
    return np.flatnonzero(separation_deg(ra_deg, dec_deg, *_centres()) <= radius_deg + 1.05)


@cache
def _centres() -> tuple[_Array, _Array]:
    """Return the centres of all cells, which every field asks for."""
    return healpix_centre(np.arange(12 * 4**CELL_ORDER), CELL_ORDER)


def stars_of_cells(
    cells: npt.NDArray[np.int64] | Sequence[int], law: CountLaw, params: StarParams, seed: int
) -> StarPopulation:
    """Return the stars of cells, those of each cell brightest first."""
    drawn = [_draw_cell(int(cell), law, params, seed) for cell in cells]
    indices = np.concatenate([finest for finest, _ in drawn])
    stars = joined([part for _, part in drawn])
    if not len(stars):
        return stars
    ra, dec = healpix_centre(indices, INDEX_ORDER)
    # Streams are read to the last star of a cell; those beyond the bright limit are left out only now.
    return replace(stars, ra_deg=ra, dec_deg=dec).take(stars.v_mag >= law.bright_mag)


def _draw_cell(
    cell: int, law: CountLaw, params: StarParams, seed: int
) -> tuple[npt.NDArray[np.int64], StarPopulation]:
    """Return the stars of one cell, with indices of HEALPix pixels in place of positions."""

    def stream(name: str) -> np.random.Generator:
        return generator(seed, "stars", cell, name)

    v_mag, ranks = _magnitudes(stream("magnitude"), law, _CELL_AREA_DEG2)
    count = v_mag.size
    # A uniform index of the finest pixels inside the cell is a uniform position in it.
    below = 2 * (INDEX_ORDER - CELL_ORDER)
    finest = (cell << below) + (stream("position").random(count) * float(1 << below)).astype(np.int64)
    unknown = np.full(count, np.nan)
    pm_ra, pm_dec = _proper_motions(stream("motion"), count)
    kind, period, amplitude, epoch = _variability(stream("variability"), count, params.variable_fraction)
    return finest, StarPopulation(
        ((cell + 1) << _ID_SHIFT) + ranks,
        unknown,
        unknown,
        pm_ra,
        pm_dec,
        v_mag,
        _colours(stream("colour"), count),
        kind,
        period,
        amplitude,
        epoch,
    )


def stars_of_disc(
    number: int,
    ra_deg: float,
    dec_deg: float,
    radius_deg: float,
    law: CountLaw,
    params: StarParams,
    seed: int,
) -> StarPopulation:
    """Return the stars of a disc that has a sky of its own, brightest first; they do not move.

    Parameters
    ----------
    number : int
        Number of the disc, from 0; the stars follow from it and the seed.
    ra_deg, dec_deg, radius_deg : float
        The disc.
    law, params, seed
        As in :func:`stars_around`, but drawn for this disc alone, which costs less than whole cells.
    """

    def stream(name: str) -> np.random.Generator:
        return generator(seed, "disc", number, name)

    # The part of the disc within an angle grows as the versed sine of the angle.
    half_versine = np.sin(0.5 * np.radians(radius_deg)) ** 2
    area = 4.0 * np.pi * half_versine * (180.0 / np.pi) ** 2
    v_mag, ranks = _magnitudes(stream("magnitude"), law, area)
    count = v_mag.size
    draws = stream("position").random((2, count))
    distance = np.degrees(2.0 * np.arcsin(np.sqrt(half_versine * draws[0])))
    ra, dec = offset(np.full(count, ra_deg), np.full(count, dec_deg), distance, 360.0 * draws[1])
    colours = _colours(stream("colour"), count)
    variability = _variability(stream("variability"), count, params.variable_fraction)
    still = np.zeros(count)
    stars = StarPopulation(
        ((number + 1) << _ID_SHIFT) + ranks, ra, dec, still, still, v_mag, colours, *variability
    )
    return stars.take(stars.v_mag >= law.bright_mag)


def _magnitudes(
    random: np.random.Generator, law: CountLaw, area_deg2: float
) -> tuple[_Array, npt.NDArray[np.int64]]:
    """Return ascending magnitudes: expected counts are the arrival times of a Poisson process."""
    expected = law.brighter_than(law.faint_mag) * area_deg2
    # Nine standard deviations more than expected: never too few.
    arrivals = np.cumsum(random.standard_exponential(int(expected + 9.0 * np.sqrt(expected)) + 40))
    arrivals = arrivals[arrivals < expected]
    scale = law.density_per_deg2 * area_deg2
    return law.mag + np.log10(arrivals / scale) / law.slope, np.arange(arrivals.size)


def _colours(random: np.random.Generator, count: int) -> _Array:
    draws = random.random((count, 2))
    red = draws[:, 0] > _BLUE[0]
    centre, width = np.where(red, _RED[1], _BLUE[1]), np.where(red, _RED[2], _BLUE[2])
    # The logistic distribution has a closed inverse and somewhat longer tails than a normal one.
    unit = np.log(draws[:, 1] / (1.0 - draws[:, 1])) * (np.sqrt(3.0) / np.pi)
    return np.asarray(np.clip(centre + width * unit, *COLOUR_RANGE))


def _proper_motions(random: np.random.Generator, count: int) -> tuple[_Array, _Array]:
    draws = random.random((count, 3))
    # Speeds with the tail of a uniform population seen at all distances: N(> mu) goes as mu^-3.
    speed = (
        6.0 * (np.maximum(draws[:, 0], 1e-7) ** (-1.0 / 3.0) - 0.9) * np.where(draws[:, 1] < 0.02, 15.0, 1.0)
    )
    angle = 2.0 * np.pi * draws[:, 2]
    return speed * np.sin(angle), speed * np.cos(angle)


def _variability(
    random: np.random.Generator, count: int, fraction: float
) -> tuple[npt.NDArray[np.int8], _Array, _Array, _Array]:
    draws = random.random((count, 4))
    varies = draws[:, 0] < fraction
    period = 0.1 * 100.0 ** draws[:, 1]
    amplitude = 0.04 * 15.0 ** draws[:, 2]
    epoch = 2451545.0 + period * draws[:, 3]
    period, amplitude, epoch = (np.where(varies, values, np.nan) for values in (period, amplitude, epoch))
    return varies.astype(np.int8), period, amplitude, epoch
