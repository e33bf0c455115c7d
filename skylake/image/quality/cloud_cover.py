"""Which of the stars that a clear frame shows were found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Camera, ClearSky
from skylake.core.frame_row import FrameRow
from skylake.core.sphere import arcsec_of_chord, chord, unit_vectors
from skylake.image.wcs.header_wcs import CatalogStars, Pointing, stars_inside

Floats = npt.NDArray[np.float64]

#: So many times more sources than stars are searched for them: bands differ, and colours.
_SOURCES_PER_STAR = 4
#: A star counts for no more than so many of the faintest, so that a single one does not decide.
_LARGEST_WEIGHT = 10.0
#: Where more places than this share have a source by chance, the share of stars found is unknown.
_CROWDED = 0.9


@dataclass(frozen=True, slots=True)
class FoundStars:
    """How many stars were expected, and the share of them that was found.

    ``missing`` are the fluxes that the others would have had, in the unit of the sources, if they were as much
    brighter than their catalog magnitude as those that were found; None where none was found.
    """

    n_expected: int
    fraction: float
    missing: Floats | None = None

    def too_faint(self, limit: float) -> bool:
        """Return whether half of the missing stars and more are fainter than a flux that a frame still shows."""
        return self.missing is not None and self.missing.size > 0 and bool(np.median(self.missing) < limit)


@dataclass(frozen=True, slots=True)
class ExpectedStars:
    """The stars of the catalog where a frame points, and which of them a clear frame shows.

    Attributes
    ----------
    pointing : Pointing
    shape : tuple of int
        Height and width of the image.
    stars : CatalogStars
    clear : ClearSky
    inside : ndarray of int or None
        What :func:`~skylake.image.wcs.header_wcs.stars_inside` gives for these stars, if that is known.
    """

    pointing: Pointing
    shape: tuple[int, int]
    stars: CatalogStars
    clear: ClearSky
    inside: npt.NDArray[np.intp] | None = None


def count_found(field: ExpectedStars, x: Floats, y: Floats, flux: Floats, radius_arcsec: float) -> FoundStars:
    """Look for the stars that a clear frame shows, each of which counts by the square root of its flux.

    A bright star that is missing is surely behind a cloud, a faint one may be lost in the noise.

    Parameters
    ----------
    field : ExpectedStars
    x, y, flux : ndarray, shape (n,)
        Sources: 0-based pixels, and any flux to rank them by.
    radius_arcsec : float
        Distance within which a star counts as found.

    Returns
    -------
    FoundStars
        The share is NaN if no star is expected; stars that have a source by chance are not in it.
    """
    from scipy.spatial import cKDTree

    pointing, shape, stars = field.pointing, field.shape, field.stars
    inside = stars_inside(pointing, shape, stars) if field.inside is None else field.inside
    wanted = _expected(inside, stars, field.clear)
    if wanted.size == 0:
        return FoundStars(0, float("nan"))
    ranked = np.argsort(-np.nan_to_num(flux), kind="stable")[: _SOURCES_PER_STAR * wanted.size]
    sources = unit_vectors(*pointing.to_sky(x[ranked], y[ranked])).reshape(-1, 3)
    ranked, sources = ranked[np.isfinite(sources).all(axis=1)], sources[np.isfinite(sources).all(axis=1)]
    if len(sources) == 0:
        return FoundStars(int(wanted.size), 0.0)
    places = unit_vectors(stars.ra_deg[wanted], stars.dec_deg[wanted])
    distance, nearest = cKDTree(sources).query(places)
    found = arcsec_of_chord(np.minimum(distance, 2.0)) <= radius_arcsec
    weight = np.minimum(10.0 ** (-0.2 * (stars.mag[wanted] - stars.mag[wanted[-1]])), _LARGEST_WEIGHT)
    share = float(weight[found].sum() / weight.sum())
    others = int(np.count_nonzero(cKDTree(places).query(sources)[0] > chord(radius_arcsec / 3600.0)))
    reach_px = radius_arcsec / pointing.pixel_scale_arcsec
    share = _without_chance(share, others, np.pi * reach_px**2 / (shape[0] * shape[1]), wanted.size)
    return FoundStars(int(wanted.size), share, _missing(stars.mag[wanted], found, flux[ranked][nearest]))


def _expected(inside: npt.NDArray[np.intp], stars: CatalogStars, clear: ClearSky) -> npt.NDArray[np.intp]:
    """Return those of the stars on an image that a clear frame shows, the brightest first."""
    low, high = clear.mag_range
    inside = inside[(stars.mag[inside] >= low) & (stars.mag[inside] <= high)]
    return np.asarray(inside[np.argsort(stars.mag[inside], kind="stable")][: clear.stars])


def _without_chance(share: float, others: int, covered: float, n_stars: int) -> float:
    """Return the share of stars that were found from the share of stars with any source near by.

    Sources far from all stars show how many others there are: one of them lies near a star with the probability
    1 - exp(-n), where n is what is expected of them within its reach. NaN where nearly every place has one.

    Parameters
    ----------
    share : float
        Of stars with a source within reach.
    others : int
        Sources out of reach of all stars.
    covered : float
        Share of the image within reach of a star.
    n_stars : int
    """
    chance = 1.0 - np.exp(-others * covered * np.exp(n_stars * covered))
    return max(0.0, float((share - chance) / (1.0 - chance))) if chance < _CROWDED else float("nan")


def _missing(mag: Floats, found: npt.NDArray[np.bool_], flux: Floats) -> Floats | None:
    """Return the fluxes that are to be expected of stars that were not found, from those of the others."""
    known = found & (flux > 0.0)
    if not known.any():
        return None
    scale = float(np.median(np.log10(flux[known]) + 0.4 * mag[known]))
    return np.asarray(10.0 ** (scale - 0.4 * mag[~found]))


def is_cloudy(row: FrameRow, camera: Camera) -> bool:
    """Return whether clouds explain that a WCS is not confirmed: there are fewer detections than stars expected."""
    gate = camera.gates.get("found_fraction")
    if gate is None or gate.action != "reject" or gate.passes(row.get("found_fraction")):
        return False
    detected, expected = row["n_detected"], row["n_expected"]
    assert detected is not None and expected is not None
    return detected < expected
