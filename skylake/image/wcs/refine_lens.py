"""Refinement of the pointing of a frame: catalog stars are matched to sources, and a lens is fitted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import ARCSEC_PER_RADIAN
from skylake.image.wcs.crossvalidation import CrossValidationRms
from skylake.image.wcs.left_out_stars import held_out_px
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_fit import CUT, LensFit, LensPrior, StarPairs, fit_lens, precision
from skylake.image.wcs.lens_order import (
    affordable,
    core_prior,
    fit_best_lens,
    fitted_again,
    indices,
    with_projection,
)
from skylake.image.wcs.residual_field import ResidualField, rings
from skylake.image.wcs.star_matching import MOST_STARS, Indices, RankedStars, Sources, match, on_image

Floats = npt.NDArray[np.float64]

_SHRINK = 0.4
#: While stars are still matched, fits need not be nearer than that.
_STILL_PX = 1e-3
#: The last radius, in standard deviations of a coordinate about the lens.
_FINAL_SIGMAS = 5.0
_LEAST_RADIUS_PX = 0.5
#: Fewer stars leave less scatter, for ever; a circle this much larger than the last will do.
_NEAR_ENOUGH = 1.2
_LEAST_STARS = 4
#: How often stars are matched anew with the lens that they gave.
_MATCHES = 4
#: The brightest stars of the image, whose completeness is given.
_BRIGHT = 50
#: From this angle between axis and corner the projection matters, and is chosen.
_WIDE_RAD = math.radians(30.0)
_WIDEST_PLANE_RAD = math.radians(60.0)
_CANDIDATES = ("rectilinear", "equisolid", "equidistant", "stereographic")
#: Another projection must predict unseen stars better by this share.
_BETTER = 0.99
_SAMPLE_POINTS = 9


@dataclass(frozen=True, slots=True)
class Refinement:
    """A lens fitted to the stars of a frame.

    Attributes
    ----------
    fit : LensFit
    pairs : StarPairs
        What it was fitted to.
    stars, sources : ndarray of int, shape (n,)
        Rows of the catalog and of the list of sources that were given.
    radius_px : float
        Within which stars were matched at last, root mean square: each has its own, where the lens is known less well.
    held_out_px : float
        Root mean square distance of all matched stars from where the others predict them, each counting alike; NaN
        with fewer than eight stars.
    err_px : float
        Standard deviation of the places where the lens puts stars, root mean square over the image, both coordinates
        together.
    completeness : float
        Share of the brightest catalog stars on the image that have a source; NaN without any.
    """

    fit: LensFit
    pairs: StarPairs
    stars: Indices
    sources: Indices
    radius_px: float
    held_out_px: float
    err_px: float
    completeness: float

    @property
    def lens(self) -> Lens:
        """The lens of the frame."""
        return self.fit.lens

    @property
    def rms_px(self) -> float:
        """Root mean square distance of all matched stars from their prediction, pixels; both coordinates together."""
        return (
            math.sqrt(float(np.mean(np.sum(self.fit.residuals**2, axis=0)))) if self.stars.size else math.nan
        )

    @property
    def rms_arcsec(self) -> float:
        """The same on the sky, where each star is, arcseconds."""
        if not self.stars.size:
            return math.nan
        scale = self.lens.solid_angle(self.pairs.x, self.pairs.y) * ARCSEC_PER_RADIAN**2
        return float(np.sqrt(np.mean(np.sum(self.fit.residuals**2, axis=0) * scale)))

    def residual_field(self, shape: tuple[int, int]) -> ResidualField:
        """Return the mean residuals in square cells of the image, under the weights of the fit."""
        return ResidualField.of(self.pairs.x, self.pairs.y, self.fit.residuals, self.fit.weights, shape)

    def rings(self, shape: tuple[int, int]) -> dict[str, float]:
        """Return what is left in rings about the middle of the image, named as the columns of ``frames``."""
        return rings(self.pairs.x, self.pairs.y, self.fit.residuals, self.fit.weights, shape)


def refine(
    start: Lens,
    vectors: Floats,
    mag: Floats,
    sources: Sources,
    shape: tuple[int, int],
    radius_px: float = 20.0,
    expected: LensPrior | None = None,
    groups: list[str] | None = None,
) -> Refinement | None:
    """Match catalog stars to sources in ever smaller circles, and fit a lens to the pairs.

    Parameters
    ----------
    start : Lens
        Where the camera points, to `radius_px`.
    vectors : ndarray, shape (n, 3)
        Unit vectors of catalog stars at the epoch of the frame.
    mag : ndarray, shape (n,)
        To rank them by; NaN leaves a star out.
    sources : Sources
    shape : tuple of int
        Height and width of the image.
    radius_px : float
        How far off the start may be anywhere on the image.
    expected : LensPrior, optional
        What is known of the lens, as from other frames of the camera.
    groups : list of str, optional
        What may be fitted as well as attitude and focal length if cross-validation asks for it; by default all.

    Returns
    -------
    Refinement or None
        None if fewer than four stars match.
    """
    stars = RankedStars.ranked(vectors, mag)
    known = LensPrior.default(start, shape) if expected is None else expected
    approached = _approached(start, stars, sources, shape, radius_px, known, groups)
    if approached is None:
        return None
    fit, unseen = fit_best_lens(*approached, known, groups)
    if expected is None:
        fit, _ = _other_projection(fit, unseen, approached[1], shape)
        known = LensPrior.default(fit.lens, shape)
    return _settled(fit, approached[1], stars, sources, shape, radius_px, known)


def _approached(
    lens: Lens,
    stars: RankedStars,
    sources: Sources,
    shape: tuple[int, int],
    radius: float,
    known: LensPrior,
    groups: list[str] | None,
) -> tuple[Lens, StarPairs] | None:
    """Return the lens and the pairs when circles need not become smaller; None if too few stars match."""
    while True:
        star, source = match(lens, stars, sources, shape, radius)
        if star.size < _LEAST_STARS:
            return None
        pairs = _pairs(stars, sources, star, source)
        free = affordable(star.size // 2, groups)
        fit = fit_lens(lens, pairs, indices(free), known, _STILL_PX)
        lens, final = fit.lens, _final_radius(fit, pairs)
        if radius <= _NEAR_ENOUGH * final:
            return lens, pairs
        radius = max(_SHRINK * radius, final)


def _final_radius(fit: LensFit, pairs: StarPairs) -> float:
    sigma = math.hypot(fit.scatter_px, float(np.median(pairs.sigma)))
    return max(_FINAL_SIGMAS * sigma, _LEAST_RADIUS_PX)


def _pairs(stars: RankedStars, sources: Sources, star: Indices, source: Indices) -> StarPairs:
    return StarPairs(stars.vectors[star], sources.x[source], sources.y[source], sources.sigma[source])


def _settled(
    fit: LensFit,
    pairs: StarPairs,
    stars: RankedStars,
    sources: Sources,
    shape: tuple[int, int],
    widest: float,
    known: LensPrior,
) -> Refinement | None:
    """Match again with the lens that was chosen, and fit its parameters to all these stars.

    Where the lens is not known well the circles are as wide as that, so that stars do not get lost because few of
    their kind, as in the corners, constrain it.
    """
    matched: tuple[Indices, Indices] = np.zeros(0, np.intp), np.zeros(0, np.intp)
    for _ in range(_MATCHES):
        reach = _reach(fit, pairs, stars, shape, widest)
        star, source = match(fit.lens, stars, sources, shape, reach)
        if star.size < _LEAST_STARS:
            return None
        if np.array_equal(star, matched[0]) and np.array_equal(source, matched[1]):
            break
        matched, pairs = (star, source), _pairs(stars, sources, star, source)
        fit = fitted_again(fit, pairs)
    star, source = matched
    shown = np.flatnonzero(on_image(*fit.lens.to_pixels(stars.vectors), shape))
    share = float(np.isin(shown[:_BRIGHT], star).mean()) if shown.size else math.nan
    radius = math.sqrt(float(np.mean(reach[shown] ** 2))) if shown.size else widest
    held_out = held_out_px(fit, pairs, core_prior(known))
    numbers = stars.number[star], sources.number[source]
    return Refinement(fit, pairs, *numbers, radius, held_out, fit.err_px(shape), share)


def _reach(
    fit: LensFit, pairs: StarPairs, stars: RankedStars, shape: tuple[int, int], widest: float
) -> Floats:
    """Return how far from its place each star is looked for: five standard deviations of places and of the lens."""
    least = _final_radius(fit, pairs)
    reach = np.full(len(stars.number), least)
    shown = np.flatnonzero(on_image(*fit.lens.to_pixels(stars.vectors), shape))[:MOST_STARS]
    lens = np.sqrt(np.sum(fit.uncertainty_of(stars.vectors[shown]) ** 2, axis=0) / 2.0)
    reach[shown] = np.minimum(np.hypot(least, _FINAL_SIGMAS * lens), max(least, widest))
    return reach


def _other_projection(
    best: LensFit, held_out: CrossValidationRms, pairs: StarPairs, shape: tuple[int, int]
) -> tuple[LensFit, CrossValidationRms]:
    """Return a fit, or one with another projection that predicts unseen stars of a wide field better."""
    lens = best.lens
    angle = float(np.arccos(np.clip(np.min(pairs.vectors @ lens.axis), -1.0, 1.0)))
    if angle < _WIDE_RAD or not math.isfinite(held_out.weighted_px):
        return best, held_out
    for projection in _CANDIDATES:
        if projection == lens.projection or (projection == "rectilinear" and angle > _WIDEST_PLANE_RAD):
            continue
        start = with_projection(lens, projection)
        known = LensPrior.default(start, shape)
        full = fit_lens(start, pairs, indices(affordable(len(pairs.x))), known, _STILL_PX)
        # A lens that cannot follow the stars it is fitted to does not predict others.
        if _misfit(full, best, pairs) >= _misfit(best, best, pairs):
            continue
        fit, distance = fit_best_lens(full.lens, pairs, known)
        if distance.weighted_px < _BETTER * held_out.weighted_px:
            best, held_out = fit, distance
    return best, held_out


def _misfit(fit: LensFit, other: LensFit, pairs: StarPairs) -> float:
    """Return the sum of the capped squares of residuals, in variances by another fit."""
    squares = np.sum(fit.residuals**2, axis=0) * precision(pairs, other.scatter_px)
    return float(np.sum(np.minimum(np.nan_to_num(squares, nan=np.inf), CUT**2)))


def lens_of(to_sky: Callable[[Floats, Floats], Floats], shape: tuple[int, int]) -> Lens | None:
    """Return the lens that is nearest to any map from 0-based pixels to unit vectors, as that of a WCS.

    Returns
    -------
    Lens or None
        None if the map gives hardly any directions.
    """
    height, width = shape
    y, x = (
        axis.ravel()
        for axis in np.meshgrid(*(np.linspace(0.0, n - 1.0, _SAMPLE_POINTS) for n in shape), indexing="ij")
    )
    vectors = to_sky(x, y)
    x0, y0 = 0.5 * (width - 1), 0.5 * (height - 1)
    axis, right, above = to_sky(np.array([x0, x0 + 1.0, x0]), np.array([y0, y0, y0 + 1.0]))
    known = np.isfinite(vectors).all(axis=1)
    if known.mean() < 0.5 or not np.isfinite([axis, right, above]).all():
        return None
    across, upward = right - axis, above - axis
    turn = float(np.cross(across, upward) @ axis)
    mirrored = turn > 0.0
    start = Lens.aimed(axis, upward, 1.0 / math.sqrt(abs(turn)), (x0, y0), mirrored=mirrored)
    pairs = StarPairs(vectors[known], x[known], y[known], np.full(int(known.sum()), 0.01))
    prior = LensPrior.default(start, shape)
    if float(np.arccos(np.clip(np.min(pairs.vectors @ start.axis), -1.0, 1.0))) < _WIDE_RAD:
        # A map has no noise: all that it has of the parameters is known.
        return fit_lens(start, pairs, indices(affordable(len(pairs.x))), prior, _STILL_PX).lens
    return _other_projection(*fit_best_lens(start, pairs, prior), pairs, shape)[0].lens
