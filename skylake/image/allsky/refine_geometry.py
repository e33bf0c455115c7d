"""Fit of the geometry of a camera of the whole sky to all stars of a frame, with measures of its quality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.image.allsky.horizon_search import SkyStars
from skylake.image.allsky.star_fit import StarMatches, fit, free, pair
from skylake.image.wcs.lens import NAMES, Lens
from skylake.image.wcs.residual_field import ResidualField, rings

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Match radii in pixels, the last of which bounds the pairs of the result; and numbers of parameters tried.
_RADII_PX = (4.0, 3.0, 2.5, 2.0)
_ORDERS = (6, 7, 9, 10, 11, 13)
_DEFAULT_ORDER = 10
TURNS = np.array([name in ("w1", "w2", "w3") for name in NAMES])
#: Fewer pairs give no turn.
_FEWEST = 8
#: Detections are moved so far (pixels), in so many directions, to see how many pairs chance makes; more are believed
#: if they come seldom (Poisson), less those that a fit brings.
_BESIDE_PX, _BESIDE, _FALSE_ALARM, _FITTED = 12.0, 4, 1e-3, 3
#: So many times more stars than detections are looked at for the light of neighbours.
_DEEPER = 4
#: Lower stars take no part: refraction there is that of the weather.
LEAST_ALTITUDE_DEG = 5.0
#: A fit with more parameters must leave less of the variance of stars held out than this.
_GAIN = 0.995
#: Width of the window of centroids in full widths at half maximum; neighbours count up to so many of it away.
_WINDOW = 0.6
_REACH = 3.0
#: Brightness may differ from that of other pairs by this, magnitudes, or by so many standard deviations.
_LEAST_MAG, _MAG_SIGMAS = 0.7, 4.0
#: Stars by which completeness is given.
_BRIGHT = 50


@dataclass(frozen=True, slots=True)
class DetectedPlaces:
    """Detections on a frame: places (m, 2), their errors (m,) in pixels, and fluxes (m,)."""

    places: Floats
    errors: Floats
    flux: Floats


@dataclass(frozen=True, slots=True)
class Refined:
    """A refined geometry, and the pairs of one of the frames that it was fitted to.

    Attributes
    ----------
    lens : Lens
    stars : SkyStars
        Those that the image should show, neighbours united.
    pairs : StarMatches
        Stars and detections that were fitted.
    residuals : ndarray, shape (n, 2)
        Detection minus star, pixels.
    held_out_px : float
        Root mean square distance of stars that the fit did not know, in any frame, pixels.
    order : int
        Number of parameters.
    """

    lens: Lens
    stars: SkyStars
    pairs: StarMatches
    residuals: Floats
    held_out_px: float
    order: int

    @property
    def rms_px(self) -> float:
        """Root mean square of the distances, pixels."""
        return float(np.sqrt(np.mean(np.sum(self.residuals**2, axis=1))))

    @property
    def completeness(self) -> float:
        """Share of the fifty brightest of these stars that have a detection; NaN without a star."""
        number = min(_BRIGHT, len(self.stars))
        # The brightest come first.
        return float(np.count_nonzero(self.pairs.star < number)) / number if number else float("nan")

    def numbers(self, seen: DetectedPlaces, shape: tuple[int, int]) -> dict[str, Any]:
        """Return what is left of its stars, by their place on the image, as columns of ``frames``; NaN is None.

        Parameters
        ----------
        seen : DetectedPlaces
            Detections on the frame.
        shape : tuple of int
            Height and width of the image.
        """
        x, y = seen.places[self.pairs.detection].T
        alike, residuals = np.ones(len(x)), self.residuals.T
        columns = {"astrom_completeness": self.completeness, **rings(x, y, residuals, alike, shape)}
        return {
            **{name: value if math.isfinite(value) else None for name, value in columns.items()},
            "astrom_field": ResidualField.of(x, y, residuals, alike, shape).text(),
        }


@dataclass(frozen=True, slots=True)
class _Sample:
    """Directions of stars and places of detections that belong together, from one frame or many; and which stars."""

    directions: Floats
    places: Floats
    errors: Floats
    number: npt.NDArray[np.intp]

    @classmethod
    def of(cls, scenes: list[tuple[SkyStars, DetectedPlaces]], pairs: list[StarMatches]) -> _Sample:
        """Gather the pairs of frames."""
        return cls(
            np.concatenate(
                [stars.directions[match.star] for (stars, _), match in zip(scenes, pairs, strict=True)]
            ),
            np.concatenate(
                [seen.places[match.detection] for (_, seen), match in zip(scenes, pairs, strict=True)]
            ),
            np.concatenate(
                [seen.errors[match.detection] for (_, seen), match in zip(scenes, pairs, strict=True)]
            ),
            np.concatenate(
                [stars.numbers[match.star] for (stars, _), match in zip(scenes, pairs, strict=True)]
            ),
        )

    def __len__(self) -> int:
        return len(self.errors)

    def residuals(self, lens: Lens, rows: Bools | slice = slice(None)) -> Floats:
        """Return detection minus star, shape (n, 2)."""
        return np.asarray(self.places[rows] - np.stack(lens.to_pixels(self.directions[rows]), axis=1))

    def fitted(self, lens: Lens, order: int, rows: Bools | slice = slice(None)) -> Lens:
        """Fit the pairs of some rows; parameters beyond the order are nought."""
        start = lens.parameters()
        start[6:] *= free(order)[6:]
        plain = Lens.from_parameters(start, lens.projection, lens.mirrored)
        return fit(plain, self.directions[rows], self.places[rows], free(order), errors=self.errors[rows])

    def halves(self) -> Bools:
        """Return which pairs are of every other star: all of a star, in whatever frame, are in one half."""
        _, first, star = np.unique(self.number, return_index=True, return_inverse=True)
        return np.asarray(np.argsort(np.argsort(first))[star] % 2 == 0)

    def best_order(self, lens: Lens) -> tuple[int, float]:
        """Return the number of parameters that leaves least of one half of the stars after a fit to the other."""
        half = self.halves()
        best, least = _ORDERS[0], np.inf
        for order in _ORDERS:
            left = np.zeros((len(half), 2))
            for rows in (half, ~half):
                left[~rows] = self.residuals(self.fitted(lens, order, rows), ~rows)
            square = float(np.mean(np.minimum(np.sum(left**2, axis=1), _RADII_PX[-1] ** 2)))
            if square < _GAIN * least:
                best, least = order, square
        return best, float(np.sqrt(least))


def united(stars: SkyStars, lens: Lens, fwhm_px: float) -> SkyStars:
    """Return stars as a camera shows them: where the light of close neighbours has its middle.

    Of stars closer than the full width at half maximum the brightest stays, with the light of all under the window of
    a centroid.
    """
    from scipy.spatial import cKDTree

    if len(stars) == 0:
        return stars
    width = _WINDOW * fwhm_px / lens.focal_px
    pairs = cKDTree(stars.directions).query_pairs(_REACH * width, output_type="ndarray")
    first, other = np.concatenate([pairs, pairs[:, ::-1]]).T
    light = 10.0 ** (-0.4 * (stars.mag - stars.mag.min()))
    separation = np.linalg.norm(stars.directions[first] - stars.directions[other], axis=1)
    share = light[other] * np.exp(-0.5 * (separation / width) ** 2)
    total = light + np.bincount(first, share, len(stars))
    moved = light[:, None] * stars.directions
    for axis in range(3):
        moved[:, axis] += np.bincount(first, share * stars.directions[other, axis], len(stars))
    outshone = (separation < fwhm_px / lens.focal_px) & (
        (light[other] > light[first]) | ((light[other] == light[first]) & (other < first))
    )
    remaining = np.ones(len(stars), bool)
    remaining[first[outshone]] = False
    directions = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    mag = stars.mag.min() - 2.5 * np.log10(total)
    return SkyStars(directions[remaining], mag[remaining], stars.numbers[remaining])


def refine(
    lens: Lens, frames: Sequence[tuple[DetectedPlaces, SkyStars]], shape: tuple[int, int], fwhm_px: float
) -> list[Refined] | None:
    """Refine the geometry that frames have in common; None if hardly any star is found.

    Parameters
    ----------
    lens : Lens
        Right to some pixels.
    frames : sequence of (DetectedPlaces, SkyStars)
        What each frame shows, and the stars above the horizon at its time, deeper than it shows: as many of the
        brightest are taken as there are detections.
    shape : tuple of int
        Height and width of the images.
    fwhm_px : float
        Full width at half maximum of stars.

    Returns
    -------
    list of Refined or None
        One for each frame, with the same lens.
    """
    scenes = [(_shown(lens, stars, seen, shape, fwhm_px), seen) for seen, stars in frames]
    order, held_out = _DEFAULT_ORDER, float("nan")
    for radius in _RADII_PX:
        sample = _Sample.of(scenes, [_matched(lens, *scene, radius) for scene in scenes])
        if len(sample) < max(_ORDERS):
            return None
        if radius == _RADII_PX[-1]:
            order, held_out = sample.best_order(lens)
        lens = sample.fitted(lens, order)
    geometries = []
    for stars, seen in scenes:
        pairs = _matched(lens, stars, seen, _RADII_PX[-1])
        residuals = _Sample.of([(stars, seen)], [pairs]).residuals(lens)
        geometries.append(Refined(lens, stars, pairs, residuals, held_out, order))
    return geometries


def follow(
    lens: Lens, seen: DetectedPlaces, stars: SkyStars, shape: tuple[int, int], fwhm_px: float
) -> Refined | None:
    """Turn a geometry to the stars of one frame, and leave all else of it as it is; None if hardly any is found.

    A clock that is off by seconds, wind, and a mount that gives way turn it; few stars are enough for that. Those
    that chance brings together with detections say nothing.
    """
    shown = _shown(lens, stars, seen, shape, fwhm_px)
    for radius in _RADII_PX:
        pairs = _matched(lens, shown, seen, radius)
        if len(pairs.star) < _FEWEST:
            return None
        places, errors = seen.places[pairs.detection], seen.errors[pairs.detection]
        lens = fit(lens, shown.directions[pairs.star], places, TURNS, errors=errors)
    pairs = _matched(lens, shown, seen, _RADII_PX[-1])
    if _by_chance(lens, shown, seen, len(pairs.star)):
        return None
    residuals = _Sample.of([(shown, seen)], [pairs]).residuals(lens)
    return Refined(lens, shown, pairs, residuals, float("nan"), int(TURNS.sum()))


def _by_chance(lens: Lens, stars: SkyStars, seen: DetectedPlaces, n_pairs: int) -> bool:
    """Return whether so many pairs are no more than the same detections make somewhat beside their places."""
    from scipy.special import pdtrc

    turns = np.arange(_BESIDE) * (2.0 * np.pi / _BESIDE)
    steps = _BESIDE_PX * np.column_stack([np.cos(turns), np.sin(turns)])
    moved = [DetectedPlaces(seen.places + step, seen.errors, seen.flux) for step in steps]
    expected = float(
        np.mean([len(_matched(lens, stars, moved_places, _RADII_PX[-1]).star) for moved_places in moved])
    )
    # Three angles fitted to chance bring some pairs with them.
    return bool(pdtrc(n_pairs - 1 - _FITTED, expected) > _FALSE_ALARM)


def apart_px(lens: Lens, own: Refined, seen: DetectedPlaces) -> float:
    """Return how far a geometry has the stars of a frame from where they are, beyond what a fit of its own leaves.

    Root mean square, pixels.
    """
    stars = own.stars.directions[own.pairs.star]
    off = seen.places[own.pairs.detection] - np.stack(lens.to_pixels(stars), axis=1)
    square = np.sum(off**2, axis=1)
    excess = float(np.mean(square)) - own.rms_px**2 if np.isfinite(square).all() else np.inf
    return float(np.sqrt(max(excess, 0.0)))


def _shown(
    lens: Lens, stars: SkyStars, seen: DetectedPlaces, shape: tuple[int, int], fwhm_px: float
) -> SkyStars:
    number = len(seen.flux)
    faint = visible(lens, stars, shape, 0.0, _DEEPER * number)
    return visible(lens, united(faint, lens, fwhm_px), shape, LEAST_ALTITUDE_DEG, number)


def visible(
    lens: Lens, stars: SkyStars, shape: tuple[int, int], min_altitude_deg: float, number: int
) -> SkyStars:
    """Return the brightest stars that stand in the image above some altitude."""
    high = np.flatnonzero(stars.directions[:, 2] > np.sin(np.radians(min_altitude_deg)))
    x, y = lens.to_pixels(stars.directions[high])
    inside = high[(x > -0.5) & (x < shape[1] - 0.5) & (y > -0.5) & (y < shape[0] - 0.5)]
    return stars[inside[np.argsort(stars.mag[inside], kind="stable")[:number]]]


def _matched(lens: Lens, stars: SkyStars, detected: DetectedPlaces, radius_px: float) -> StarMatches:
    return _alike(pair(lens, stars.directions, detected.places, radius_px), stars, detected)


def _alike(pairs: StarMatches, stars: SkyStars, detected: DetectedPlaces) -> StarMatches:
    """Return the pairs whose brightness is that of their neighbours in the image, as clouds and vignetting have it."""
    from scipy.spatial import cKDTree

    with np.errstate(invalid="ignore", divide="ignore"):
        extra = stars.mag[pairs.star] + 2.5 * np.log10(detected.flux[pairs.detection])
    known = np.isfinite(extra)
    if known.sum() < 10:
        return pairs
    places = detected.places[pairs.detection]
    _, near = cKDTree(places[known]).query(places, k=min(15, int(known.sum())))
    off = extra - np.median(extra[known][near], axis=1)
    spread = 1.4826 * float(np.median(np.abs(off[known])))
    alike = np.abs(off) <= max(_LEAST_MAG, _MAG_SIGMAS * spread)
    return StarMatches(pairs.star[alike], pairs.detection[alike], pairs.distance[alike])
