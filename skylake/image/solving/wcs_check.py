"""Whether a frame points where its WCS says: catalog stars are there, and are there not by chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import arcsec_of_chord, unit_vectors
from skylake.image.wcs.header_wcs import CatalogStars, Pointing, stars_inside

Floats = npt.NDArray[np.float64]

#: The brightest stars of a field, at most, on which a WCS is judged.
_MAX_STARS = 100
#: So many times more sources than stars are searched for them: bands differ, and colours.
_SOURCES_PER_STAR = 4
_MIN_MATCHES = 5
_MIN_FRACTION = 0.3
_MIN_FRACTION_OF_FEW = 0.5
#: Among so many WCS that are wrong one has as many stars in place.
_CHANCE = 1e-4
#: Radii in which stars are counted, in units of the given one: in small ones crowded fields have few by chance.
_RADII = (1.0, 0.5, 0.25)
#: Where sources are moved to for stars to meet others by chance, in radii, so that no star meets its own.
_MOVES = tuple((3.0 * math.cos(turn), 3.0 * math.sin(turn)) for turn in np.arange(8) * math.pi / 4.0)


@dataclass(frozen=True, slots=True)
class WcsCheck:
    """How many of the bright catalog stars were found where the WCS puts them, each with a source of its own.

    Attributes
    ----------
    n_expected, n_matched : int
    offset_arcsec : float
        Median distance; NaN if none is found.
    confirmed : bool
        Whether chance would bring so many once in ten thousand times at most.
    """

    n_expected: int
    n_matched: int
    offset_arcsec: float
    confirmed: bool = True

    @property
    def decisive(self) -> bool:
        """Whether there were enough stars to judge."""
        return self.n_expected >= _MIN_MATCHES

    @property
    def passed(self) -> bool:
        """Whether the WCS can be right.

        Five stars and thirty per cent of them are found, half of them where there are fewer than ten, and more than
        chance brings.
        """
        enough = min(_MIN_MATCHES, _MIN_FRACTION_OF_FEW * self.n_expected)
        found = self.n_matched >= max(enough, _MIN_FRACTION * self.n_expected)
        return self.decisive and found and self.confirmed


def check_pointing(
    pointing: Pointing,
    shape: tuple[int, int],
    x: Floats,
    y: Floats,
    flux: Floats,
    stars: CatalogStars,
    radius_arcsec: float,
    inside: npt.NDArray[np.intp] | None = None,
) -> WcsCheck:
    """Look for the brightest catalog stars of the field where the WCS puts them.

    As many of the brightest stars as there can be sources are expected among a few times as many of the
    brightest sources, so neither a deep catalog nor a deep frame makes a right WCS look wrong.

    Parameters
    ----------
    pointing : Pointing
    shape : tuple of int
        Height and width of the image.
    x, y, flux : ndarray
        Sources: 0-based pixels, and any flux to rank them by.
    stars : CatalogStars
    radius_arcsec : float
        Distance within which a star counts as found.
    inside : ndarray of int or None
        What :func:`~skylake.image.wcs.header_wcs.stars_inside` gives for these stars, if that is known.

    Notes
    -----
    How many stars chance brings follows from the number of sources, if they lay evenly, and is counted with the
    sources moved aside, since they may lie in clumps; the larger of both counts.
    """
    inside = stars_inside(pointing, shape, stars) if inside is None else inside
    brightest = inside[np.argsort(stars.mag[inside], kind="stable")]
    n_expected = min(len(brightest), len(x), _MAX_STARS)
    if n_expected == 0:
        return WcsCheck(0, 0, float("nan"))
    brightest = brightest[:n_expected]
    ranked = np.argsort(-np.nan_to_num(flux), kind="stable")[: _SOURCES_PER_STAR * n_expected]
    wanted = unit_vectors(stars.ra_deg[brightest], stars.dec_deg[brightest]).reshape(-1, 3)
    radii = radius_arcsec * np.array(_RADII)
    reach_px = radius_arcsec / pointing.pixel_scale_arcsec
    # All at once: what a WCS does before the first place takes as long as hundreds of them.
    places = [(x[ranked] + reach_px * dx, y[ranked] + reach_px * dy) for dx, dy in ((0.0, 0.0), *_MOVES)]
    sky = pointing.to_sky(*(np.concatenate(axis) for axis in zip(*places, strict=True)))
    arcsec, *aside = (_met(one, wanted) for one in unit_vectors(*sky).reshape(len(places), -1, 3))
    found = arcsec <= radius_arcsec
    moved = np.zeros(len(radii))
    for others in aside:
        moved += np.count_nonzero(others[:, None] <= radii, axis=0) / len(_MOVES)
    even = 1.0 - np.exp(-len(ranked) * math.pi * (reach_px * np.array(_RADII)) ** 2 / (shape[0] * shape[1]))
    chance = np.minimum(np.maximum(even, moved / n_expected), 1.0)
    confirmed = _beyond(np.count_nonzero(arcsec[:, None] <= radii, axis=0), n_expected, chance)
    offset = float(np.median(arcsec[found])) if found.any() else float("nan")
    return WcsCheck(n_expected, int(found.sum()), offset, confirmed)


def _met(sources: Floats, wanted: Floats) -> Floats:
    """Return how far each star is from its source, arcsec: the nearest, to which no other star is nearer."""
    from scipy.spatial import cKDTree

    sources = sources[np.isfinite(sources).all(axis=1)]
    if not len(sources):
        return np.full(len(wanted), np.inf)
    distance, source = cKDTree(sources).query(wanted)
    _, star = cKDTree(wanted).query(sources[source])
    arcsec = np.asarray(arcsec_of_chord(np.minimum(distance, 2.0)))
    return np.where(star == np.arange(len(wanted)), arcsec, np.inf)


def _beyond(found: npt.NDArray[np.intp], n: int, chance: Floats) -> bool:
    """Return whether more of `n` stars were found within one of the radii than chance explains."""
    # The survival function of the binomial distribution; scipy.stats, which has it too, takes a second to load.
    from scipy.special import bdtrc

    return bool((bdtrc(found - 1.0, n, chance) <= _CHANCE / len(found)).any())
