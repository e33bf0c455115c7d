"""Aperture corrections from the growth curves of bright stars.

An aperture of a few pixels holds most of a star, not all of it. The factor from each flux column to
total flux is measured on every frame, since the seeing changes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import sep

from skylake.core.camera import FLUXES, Apertures
from skylake.core.flags import UNCLEAN
from skylake.core.frame import Image, Pixels
from skylake.core.robust import Fit, robust_mean
from skylake.image.background import Background
from skylake.image.detect import Detections
from skylake.image.measure import Floats, Measurements

_MAX_STARS = 300
_MIN_STARS = 5
_MIN_SNR = 50.0
#: A star counts as alone if all its neighbours within reach have less than this share of its flux …
_ALONE = 0.005
#: … where reach is this many total radii.
_REACH = 1.5
#: So many of the least crowded stars are taken in any case, or a crowded field would have none.
_LONELIEST = 10
#: Width of the rings in which the outer growth curve is summed; within one, hidden pixels are replaced
#: by the mean of the others.
_RING_PX = 1.5
#: The light in a ring differs from star to star by between these shares of it.
_PSF_VARIATION = (0.2, 0.4)
#: Pixels around the footprint of a neighbour that still belong to it.
_WIDEN_PX = 3
#: Exponent of the Moffat profile that stands in where no star is bright enough (Trujillo et al. 2001).
_BETA = 3.5
#: Relative error of a correction that was assumed.
_ASSUMED_ERROR = 0.05


@dataclass(frozen=True, slots=True)
class ApertureCorrections:
    """Factors from flux columns to total flux.

    ``factor`` and ``error`` are keyed by aper1, aper2, aper3 and kron; NaN where the aperture does not
    exist. ``assumed`` says that too few stars were there to measure them.
    """

    factor: dict[str, float]
    error: dict[str, float]
    n_stars: int
    assumed: bool


def aperture_corrections(
    image: Image,
    background: Background,
    signal: Pixels,
    detections: Detections,
    measured: Measurements,
    apertures: Apertures,
    crowding: Floats | None = None,
) -> ApertureCorrections:
    """Measure the factors from each flux column to the flux within the total radius.

    Bright, clean, lonely stars are summed in rings out to the total radius, without the pixels of other
    detections. The robust mean over stars withstands those with a neighbour that was not detected.

    Parameters
    ----------
    image, background, signal, detections, measured, apertures
        As from the steps before.
    crowding : ndarray or None
        Light that neighbours known from a catalog bring within the total radius, as a share of each
        source's own: detection does not see what hides in the light of a bright star.
    """
    outermost = FLUXES[len(apertures.radii_px) - 1]
    stars = _choose_stars(measured, apertures, outermost, crowding)
    if len(stars) < _MIN_STARS:
        return _assumed(measured, apertures)
    rings = _sum_rings(image, background, signal, detections, measured, apertures, stars)
    growth, influence = _mean_growth(rings)
    total = float(growth[-1])
    factor: dict[str, float] = dict.fromkeys(FLUXES, float("nan"))
    error = dict(factor)
    for name, radius in zip(FLUXES, apertures.radii_px, strict=False):
        within = int(np.searchsorted(rings.edges[1:], radius - 1e-6))
        factor[name] = total / float(growth[within])
        error[name] = _clustered_error(influence[within + 1 :]) / float(growth[within])
    ratio = measured.flux[outermost][stars] * factor[outermost] / measured.flux["kron"][stars]
    fit = robust_mean(ratio, (measured.flux_err["kron"] / measured.flux["kron"])[stars])
    factor["kron"] = float(fit.coefficients[0])
    error["kron"] = float(np.hypot(fit.errors[0], error[outermost]))
    return ApertureCorrections(factor, error, len(stars), assumed=False)


@dataclass(frozen=True, slots=True)
class _Rings:
    """Flux of stars (ADU) and its variance between `edges`; the first ring is a disc. Shape (rings, stars)."""

    edges: Floats
    flux: Floats
    variance: Floats


def _mean_growth(rings: _Rings) -> tuple[Floats, Floats]:
    """Return the flux within each edge relative to the disc, and what each star adds to the error of each ring.

    Every ring is averaged over stars by itself: a neighbour too faint to be detected spoils one ring of
    one star, stands out there, and leaves the star's other rings to be used.
    """
    disc = rings.flux[0]
    growth, influence = [1.0], [np.zeros_like(disc)]
    for flux, variance in zip(rings.flux[1:], rings.variance[1:], strict=True):
        noise = np.sqrt(variance) / disc
        fit = _mean_ring(flux / disc, noise)
        weight = fit.weights / np.maximum(np.hypot(noise, fit.intrinsic), np.finfo(float).tiny) ** 2
        share = weight / weight.sum()
        growth.append(growth[-1] + float(fit.coefficients[0]))
        # A star with much of the weight pulls the mean to itself and so hides how far it is off.
        influence.append(share * fit.residuals / np.maximum(1.0 - share, 0.1))
    return np.array(growth), np.array(influence)


def _clustered_error(influence: Floats) -> float:
    """Return the error of a sum of rings.

    A star with a wide image has more light in all its rings, so the rings of one star are summed before
    stars are compared (Liang & Zeger 1986, Biometrika 73, 13; with the jackknife's correction for the pull
    of each star, MacKinnon & White 1985, J. Econometrics 29, 305).
    """
    return float(np.sqrt(np.sum(influence.sum(axis=0) ** 2)))


def _mean_ring(ratio: Floats, noise: Floats) -> Fit:
    """Return the mean of a ring over stars.

    Stars differ because the point spread function varies over the field, by a share of what the ring
    holds. A dozen stars hardly tell how much, so it is kept within limits: without the upper one, chance
    scatter in an outer ring lets faint stars count like bright ones; without the lower one, a single
    bright star counts for all, and its place in the field for the whole field.
    """
    exact = robust_mean(ratio, noise, intrinsic=0.0)
    # Trailed stars may differ by so much more than their noise that none is left to the robust mean.
    held = abs(float(exact.coefficients[0] if exact.weights.any() else np.median(ratio)))
    free = robust_mean(ratio, noise).intrinsic
    return robust_mean(ratio, noise, float(np.clip(free, _PSF_VARIATION[0] * held, _PSF_VARIATION[1] * held)))


def _choose_stars(
    measured: Measurements, apertures: Apertures, outermost: str, known: Floats | None
) -> npt.NDArray[np.intp]:
    from scipy.spatial import cKDTree

    flux, error = measured.flux[outermost], measured.flux_err[outermost]
    bright = (flux > _MIN_SNR * error) & (measured.flux["kron"] > 0) & ((measured.flags & int(UNCLEAN)) == 0)
    bright &= measured.edge_distance > apertures.total_radius_px
    candidates = np.flatnonzero(bright)
    if candidates.size == 0:
        return candidates
    positions = np.column_stack([measured.x, measured.y])
    neighbours = cKDTree(positions).query_ball_point(
        positions[candidates], _REACH * apertures.total_radius_px
    )
    owner = np.repeat(np.arange(candidates.size), [len(found) for found in neighbours])
    neighbour = np.concatenate([np.asarray(found, np.intp) for found in neighbours])
    share = np.where(
        neighbour == candidates[owner], 0.0, np.nan_to_num(flux[neighbour]) / flux[candidates[owner]]
    )
    crowding = np.zeros(candidates.size)
    np.maximum.at(crowding, owner, share)
    if known is not None:
        crowding = np.maximum(crowding, known[candidates])
    limit = max(_ALONE, float(np.sort(crowding)[min(_LONELIEST, crowding.size) - 1]))
    alone = candidates[crowding <= limit]
    return alone[np.argsort(-flux[alone], kind="stable")[:_MAX_STARS]]


def _sum_rings(
    image: Image,
    background: Background,
    signal: Pixels,
    detections: Detections,
    measured: Measurements,
    apertures: Apertures,
    stars: npt.NDArray[np.intp],
) -> _Rings:
    """Sum stars ring by ring out to the total radius, without the pixels around other detections."""
    from scipy.ndimage import maximum_filter

    edges = _ring_edges(apertures)
    x, y = measured.x[stars], measured.y[stars]
    segments = detections.segments
    # The light of a neighbour does not end at its isophote.
    widened = np.where(segments > 0, segments, maximum_filter(segments, 2 * _WIDEN_PX + 1))
    own = np.asarray(measured.number[stars] + 1, np.int32)
    options = {"err": background.rms, "mask": image.masked, "segmap": widened, "seg_id": own, "subpix": 0}
    flux, noise = [], []
    for inner, outer in pairwise(edges):
        if inner == 0.0:
            ring, ring_err, _ = sep.sum_circle(signal, x, y, outer, **options)
        else:
            ring, ring_err, _ = sep.sum_circann(signal, x, y, inner, outer, **options)
        flux.append(ring)
        noise.append(ring_err)
    return _Rings(edges, np.array(flux), np.array(noise) ** 2)


def _ring_edges(apertures: Apertures) -> Floats:
    """Return edges of rings: 0, every radius of the profile, and steps between them."""
    edges = [0.0, apertures.radii_px[0]]
    for outer in (*apertures.radii_px[1:], apertures.total_radius_px):
        steps = max(1, int(np.ceil((outer - edges[-1]) / _RING_PX)))
        edges += np.linspace(edges[-1], outer, steps + 1)[1:].tolist()
    return np.array(edges)


def _assumed(measured: Measurements, apertures: Apertures) -> ApertureCorrections:
    """Return the corrections of a Moffat profile with the median width of the sources."""
    widths = measured.fwhm[np.isfinite(measured.fwhm)]
    fwhm = float(np.median(widths)) if widths.size else 0.5 * apertures.radii_px[0]
    alpha = 0.5 * fwhm / np.sqrt(2.0 ** (1.0 / _BETA) - 1.0)

    def held(radius: float) -> float:
        return float(1.0 - (1.0 + (radius / alpha) ** 2) ** (1.0 - _BETA))

    total = held(apertures.total_radius_px)
    factor: dict[str, float] = dict.fromkeys(FLUXES, float("nan"))
    for name, radius in zip(FLUXES, apertures.radii_px, strict=False):
        factor[name] = total / held(radius)
    factor["kron"] = total / held(apertures.kron_factor * fwhm)
    error = {name: _ASSUMED_ERROR * value for name, value in factor.items()}
    return ApertureCorrections(factor, error, 0, assumed=True)
