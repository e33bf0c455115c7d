"""Aperture corrections from the growth curves of bright stars.

An aperture of a few pixels holds most of a star, not all of it. The factor from each flux column to
total flux is measured on every frame, since the seeing changes it; and where the point spread function varies
over the field, as a polynomial of the place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from skylake.core.aperture_light import StarProfile
from skylake.core.camera import Apertures
from skylake.core.flags import UNCLEAN, UNUSABLE_PIXEL
from skylake.core.frame import Image, Pixels
from skylake.core.frame_row import FrameRow
from skylake.core.robust import robust_fit
from skylake.image.detection.background import Background
from skylake.image.detection.detect_sources import Detections
from skylake.image.photometry.aperture_kernels import stamp_sums
from skylake.image.photometry.cutouts import Cutouts
from skylake.image.photometry.growth_field import FieldPlace, FieldTerms, choose_order
from skylake.image.photometry.growth_rings import fit_rings
from skylake.image.photometry.measure_sources import Floats, Measurements
from skylake.image.photometry.neighbour_kernels import brightest_neighbours
from skylake.image.photometry.pixel_sum_kernels import AREA, FLUX, N_SUMS, OBSCURED
from skylake.image.photometry.sky_light import star_stamps

_MAX_STARS = 300
_MIN_STARS = 5
_MIN_SNR = 50.0
#: A star counts as alone if all its neighbours within reach have less than this share of its flux …
_ALONE = 0.005
#: … where reach is this many total radii.
_REACH = 1.5
#: So many of the least crowded stars are taken in any case, or a crowded field would have none.
_LONELIEST = 10
#: A frame is crowded if its loneliest stars have neighbours with a larger share of their flux, or if what is too faint
#: to be detected makes them so different that a correction has a larger relative error.
_CROWDED, _POOR = 0.02, 0.005
#: With a catalog the light of neighbours can be subtracted, up to this share, and more stars count as isolated.
_ALONE_IN_CATALOG, _LONELIEST_IN_CATALOG = 0.05, 30
#: Width of the rings in which the outer growth curve is summed; within one, obscured pixels are replaced
#: by the mean of the others.
_RING_PX = 1.5
#: A ring of which more than this share is obscured says nothing.
_MOST_HIDDEN = 0.7
#: The light in a ring differs from star to star by between these shares of it. Companions that are not resolved add
#: light to rings and never take any: the smaller the first, the more of them stand out, and the more the brightest
#: stars count, to which they add the smallest share.
_PSF_VARIATION = (0.03, 0.4)
#: Pixels around the footprint of a neighbour that still belong to it.
_WIDEN_PX = 3
#: Exponent of the Moffat profile that stands in where no star is bright enough (Trujillo et al. 2001).
_BETA = 3.5
#: Relative error of a correction that was assumed.
_ASSUMED_ERROR = 0.05
#: Where the corrections of all sources agree within this share, they are one number.
_FLAT = 1e-4


@dataclass(frozen=True, slots=True)
class ApertureCorrections:
    """Factors from flux columns to total flux.

    Attributes
    ----------
    factor, error : dict of str to float
        Keyed by aper1, aper2, aper3, any further ones and kron; NaN where the aperture does not exist. Where they
        vary over the field, those at the centre of the image.
    n_stars : int
        Stars behind them.
    assumed : bool
        Whether too few stars were there to measure them.
    terms : FieldTerms or None
        How they vary over the field; None where cross-validation prefers one number.
    crowded : bool
        Whether neighbours are in the factors, or in their errors, by more than a little.
    """

    factor: dict[str, float]
    error: dict[str, float]
    n_stars: int
    assumed: bool
    terms: FieldTerms | None = None
    crowded: bool = False

    def relative(self, x: Floats, y: Floats) -> dict[str, Floats]:
        """Return by which factor corrections at places differ from those at the centre.

        Parameters
        ----------
        x, y : ndarray, shape (n,)
            0-based pixels.

        Returns
        -------
        dict of str to ndarray
            NaN where there is none but 1.
        """
        none: dict[str, Floats] = {name: np.full(len(x), np.nan) for name in self.factor}
        if self.terms is None:
            return none
        factors = {name: self.terms.factors(name, x, y) / self.factor[name] for name in self.terms.parts}
        return none | {
            name: values for name, values in factors.items() if np.abs(values - 1.0).max(initial=0.0) > _FLAT
        }


@dataclass(frozen=True, slots=True)
class KnownLight:
    """What a catalog knows of the light of a frame.

    Attributes
    ----------
    image : ndarray of float32, shape (height, width)
        All stars of the catalog as they are expected, less what of them the sky took off, ADU.
    own : ndarray, shape (n,)
        Flux with which the star of each source is in the image, ADU; 0 for a source without a star.
    places : ndarray, shape (n, 2)
        Where these are.
    profile : StarProfile
        With which they were drawn.
    """

    image: Pixels
    own: Floats
    places: Floats
    profile: StarProfile

    def neighbours(self, stamps: Cutouts, sources: npt.NDArray[np.intp]) -> Pixels:
        """Return what is in cutouts around sources but for their own stars, shape (n, side, side)."""
        alone = star_stamps(self.profile, stamps, self.places[sources])
        return np.asarray(
            stamps.cut(self.image) - self.own[sources].astype(np.float32)[:, None, None] * alone
        )


def apcor_row(apertures: Apertures, corrections: ApertureCorrections) -> FrameRow:
    """Return what ``frames`` says about the aperture corrections of a frame."""
    row: dict[str, Any] = {"n_apcor": corrections.n_stars}
    for name in apertures.fluxes:
        row[f"apcor_{name}"] = corrections.factor[name]
        row[f"apcor_{name}_err"] = corrections.error[name]
    for name, radius in zip(apertures.circles, apertures.radii_px, strict=True):
        row[f"{name}_radius_px"] = radius
    # Apertures beyond the third have columns only once the row is nested.
    return cast("FrameRow", row)


def aperture_corrections(
    image: Image,
    background: Background,
    signal: Pixels,
    detections: Detections,
    measured: Measurements,
    apertures: Apertures,
    crowding: Floats | None = None,
    known: KnownLight | None = None,
) -> ApertureCorrections:
    """Measure the factors from each flux column to the flux within the total radius.

    Bright, clean, lonely stars are summed in rings out to the total radius, without the pixels of other
    detections. The robust mean over stars withstands those with a neighbour that was not detected. Where
    cross-validation says so, a polynomial of the place is in the place of the mean.

    Parameters
    ----------
    image, background, signal, detections, measured, apertures
        As from the steps before.
    crowding : ndarray or None
        Light that neighbours known from a catalog bring within the total radius, as a share of each
        source's own: detection does not see what hides in the light of a bright star.
    known : KnownLight or None
        Light of neighbours that is taken off, if any.
    """
    outermost = apertures.circles[-1]
    stars, crowded = _choose_stars(measured, apertures, outermost, crowding, known)
    if len(stars) < _MIN_STARS:
        return _assumed(measured, apertures)
    rings = _sum_rings(image, background, signal, detections, measured, apertures, stars, known)
    # A source that is another star than its nearest in the catalog loses its light as if it were a neighbour's.
    bright = np.flatnonzero(rings.flux[0] > _MIN_SNR * np.sqrt(rings.variance[0]))
    if known is not None:
        stars = stars[bright]
        rings = _Rings(rings.edges, rings.flux[:, bright], rings.variance[:, bright])
    if len(stars) < _MIN_STARS:
        return _assumed(measured, apertures)
    place = FieldPlace.of(measured.x[stars], measured.y[stars], signal.shape)
    # What is wrong with the neighbours of thirty stars would pass for a variation over the field.
    order = choose_order(place, rings.flux[1:] / rings.flux[0], _spread(rings)) if known is None else 0
    growth, influence = _mean_growth(rings, place.design(order))
    total = float(growth[-1, 0])
    factor: dict[str, float] = dict.fromkeys(apertures.fluxes, float("nan"))
    error = dict(factor)
    parts: dict[str, tuple[Floats, Floats]] = {}
    for name, radius in zip(apertures.circles, apertures.radii_px, strict=True):
        within = int(np.searchsorted(rings.edges[1:], radius - 1e-6))
        parts[name] = growth[-1], growth[within]
        factor[name] = total / float(growth[within, 0])
        error[name] = _clustered_error(influence[within + 1 :]) / float(growth[within, 0])
    terms = FieldTerms(place, order, parts)
    kron = measured.flux["kron"][stars]
    # In units of the total flux, so that the noise of a star's Kron flux is not that of a divisor.
    whole = terms.factors(outermost, measured.x[stars], measured.y[stars]) * measured.flux[outermost][stars]
    fit = robust_fit(place.design(order), kron / whole, measured.flux_err["kron"][stars] / whole)
    factor["kron"] = 1.0 / float(fit.coefficients[0])
    error["kron"] = float(np.hypot(factor["kron"] ** 2 * fit.errors[0], error[outermost]))
    crowded |= error[apertures.calibrated_circle] > _POOR
    if order == 0:
        return ApertureCorrections(factor, error, len(stars), assumed=False, crowded=crowded)
    parts["kron"] = np.eye(len(fit.coefficients))[0], fit.coefficients
    return ApertureCorrections(factor, error, len(stars), assumed=False, terms=terms, crowded=crowded)


@dataclass(frozen=True, slots=True)
class _Rings:
    """Flux of stars (ADU) and its variance between `edges`; the first ring is a disc. Shape (rings, stars).

    The variance of a ring that is obscured is infinite, and its flux zero.
    """

    edges: Floats
    flux: Floats
    variance: Floats


def _spread(rings: _Rings) -> Floats:
    """Return by how much the rings of stars differ, with what the point spread function may vary."""
    noise = np.sqrt(rings.variance[1:]) / rings.flux[0]
    held = np.median(rings.flux[1:] / rings.flux[0], axis=1, keepdims=True)
    return np.asarray(np.hypot(noise, _PSF_VARIATION[0] * np.abs(held)))


def _mean_growth(rings: _Rings, design: Floats) -> tuple[Floats, Floats]:
    """Return the flux within each edge relative to the disc, and what each star adds to the error of each ring.

    Every ring is averaged over stars by itself: a neighbour too faint to be detected spoils one ring of
    one star, stands out there, and leaves the star's other rings to be used.

    Returns
    -------
    growth : ndarray, shape (rings, terms)
        Coefficients of `design`; the first is the value at the centre of the field.
    influence : ndarray, shape (rings, stars)
        At the centre of the field.
    """
    disc = rings.flux[0]
    fit = fit_rings(rings.flux[1:] / disc, np.sqrt(rings.variance[1:]) / disc, design, _PSF_VARIATION)
    first = np.eye(design.shape[1])[:1]
    growth = np.cumsum(np.concatenate([first, fit.coefficients]), axis=0)
    return growth, np.concatenate([np.zeros((1, len(disc))), fit.influence])


def _clustered_error(influence: Floats) -> float:
    """Return the error of a sum of rings.

    A star with a wide image has more light in all its rings, so the rings of one star are summed before
    stars are compared (Liang & Zeger 1986, Biometrika 73, 13; with the jackknife's correction for the pull
    of each star, MacKinnon & White 1985, J. Econometrics 29, 305).
    """
    return float(np.sqrt(np.sum(influence.sum(axis=0) ** 2)))


def _choose_stars(
    measured: Measurements,
    apertures: Apertures,
    outermost: str,
    crowding: Floats | None,
    known: KnownLight | None,
) -> tuple[npt.NDArray[np.intp], bool]:
    """Return bright stars that are alone, or the loneliest, brightest first; and whether that took crowded ones."""
    flux, error = measured.flux[outermost], measured.flux_err[outermost]
    bright = (flux > _MIN_SNR * error) & (measured.flux["kron"] > 0) & ((measured.flags & int(UNCLEAN)) == 0)
    bright &= measured.edge_distance > apertures.total_radius_px
    if known is not None:
        bright &= known.own > 0.0
    candidates = np.flatnonzero(bright)
    if candidates.size == 0:
        return candidates, False
    shares = np.zeros(len(measured))
    reach = _REACH * apertures.total_radius_px
    brightest_neighbours(measured.x, measured.y, np.nan_to_num(flux), reach, shares)
    share = shares[candidates]
    if crowding is not None:
        share = np.maximum(share, crowding[candidates])
    alone, loneliest = (_ALONE, _LONELIEST) if known is None else (_ALONE_IN_CATALOG, _LONELIEST_IN_CATALOG)
    limit = max(alone, float(np.sort(share)[min(loneliest, share.size) - 1]))
    chosen = candidates[share <= limit]
    return chosen[np.argsort(-flux[chosen], kind="stable")[:_MAX_STARS]], limit > _CROWDED


def _sum_rings(
    image: Image,
    background: Background,
    signal: Pixels,
    detections: Detections,
    measured: Measurements,
    apertures: Apertures,
    stars: npt.NDArray[np.intp],
    known: KnownLight | None,
) -> _Rings:
    """Sum stars ring by ring out to the total radius, without the pixels around other detections."""
    edges = _ring_edges(apertures)
    x, y = measured.x[stars], measured.y[stars]
    reach = int(np.ceil(edges[-1])) + 1
    stamps = Cutouts.around(x, y, reach, (signal.shape[0], signal.shape[1]))
    # The light of a neighbour does not end at its isophote.
    obscured = stamps.foreign(detections.segments, measured.number[stars] + 1, _WIDEN_PX)
    obscured |= (stamps.cut(image.mask) & np.uint8(UNUSABLE_PIXEL)) != 0
    obscured |= ~stamps.inside()
    rms = background.rms[stamps.row, stamps.column].astype(float)
    sums = np.zeros((len(stars), len(edges) - 1, N_SUMS))
    none = np.zeros((len(stars), 0, 0), np.float32)
    dx, dy = x - stamps.column + reach, y - stamps.row + reach
    light = stamps.cut(signal)
    if known is not None:
        light = light - known.neighbours(stamps, stars)
    stamp_sums(light, obscured.astype(np.uint8), none, dx, dy, edges[1:], sums)
    flux, area, dark = (
        np.diff(sums[..., column].T, axis=0, prepend=0.0) for column in (FLUX, AREA, OBSCURED)
    )
    seen = dark <= _MOST_HIDDEN * (area + dark)
    # Where that leaves no ring to measure, as in a crowded field, what there is of it has to do.
    seen |= (area > 0.0) & (seen.sum(axis=1, keepdims=True) < _MIN_STARS)
    whole = np.where(seen, 1.0 + dark / np.where(area > 0.0, area, 1.0), 0.0)
    return _Rings(edges, whole * flux, np.where(seen, whole**2 * area * rms**2, np.inf))


def _ring_edges(apertures: Apertures) -> Floats:
    """Return edges of rings: 0, every radius of the profile, and steps between them."""
    edges = [0.0, apertures.radii_px[0]]
    for outer in (*apertures.radii_px[1:], apertures.total_radius_px):
        steps = max(1, int(np.ceil((outer - edges[-1]) / _RING_PX)))
        edges += np.linspace(edges[-1], outer, steps + 1)[1:].tolist()
    return np.array(edges)


def _assumed(measured: Measurements, apertures: Apertures) -> ApertureCorrections:
    """Return the corrections of a Moffat profile with the median width of the sources."""
    # Pieces of a trail, blends and what is saturated are wider than a star.
    known = np.isfinite(measured.fwhm)
    clean = known & ((measured.flags & int(UNCLEAN)) == 0)
    widths = measured.fwhm[clean if clean.any() else known]
    fwhm = float(np.median(widths)) if widths.size else 0.5 * apertures.radii_px[0]
    alpha = 0.5 * fwhm / np.sqrt(2.0 ** (1.0 / _BETA) - 1.0)

    def held(radius: float) -> float:
        return float(1.0 - (1.0 + (radius / alpha) ** 2) ** (1.0 - _BETA))

    total = held(apertures.total_radius_px)
    factor: dict[str, float] = dict.fromkeys(apertures.fluxes, float("nan"))
    for name, radius in zip(apertures.circles, apertures.radii_px, strict=True):
        factor[name] = total / held(radius)
    factor["kron"] = total / held(apertures.kron_factor * fwhm)
    error = {name: _ASSUMED_ERROR * value for name, value in factor.items()}
    return ApertureCorrections(factor, error, 0, assumed=True)
