"""Aperture corrections from the growth curves of bright stars.

An aperture of a few pixels holds most of a star, not all of it. The factor from each flux column to
total flux is measured on every frame, since the seeing changes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sep

from skylake.core.camera import FLUXES, Apertures
from skylake.core.flags import UNCLEAN
from skylake.core.frame import Image, Pixels
from skylake.core.robust import robust_mean
from skylake.image.background import Background
from skylake.image.detect import Detections
from skylake.image.measure import Floats, Measurements

_MAX_STARS = 300
_MIN_STARS = 5
_MIN_SNR = 50.0
#: A star counts as alone if all its neighbours within reach have less than this share of its flux …
_ALONE = 0.02
#: … where reach is this many total radii.
_REACH = 1.5
#: Width of the rings in which the outer growth curve is summed; within one, hidden pixels are replaced
#: by the mean of the others.
_RING_PX = 1.5
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
    exposure_s: float,
) -> ApertureCorrections:
    """Measure the factors from each flux column to the flux within the total radius.

    Bright, clean, lonely stars are summed in rings out to the total radius, without the pixels of other
    detections. The robust mean over stars withstands those with a neighbour too faint to be detected.
    """
    outermost = FLUXES[len(apertures.radii_px) - 1]
    stars = _choose_stars(measured, apertures, outermost)
    if len(stars) < _MIN_STARS:
        return _assumed(measured, apertures)
    beyond, beyond_err = _beyond(image, background, signal, detections, measured, apertures, stars)
    total = measured.flux[outermost][stars] + beyond / exposure_s
    factor, error = dict.fromkeys(FLUXES, np.nan), dict.fromkeys(FLUXES, np.nan)
    for name in FLUXES:
        inner = measured.flux[name][stars]
        usable = (inner > 0) & (total > 0)
        if np.count_nonzero(usable) < _MIN_STARS:
            continue
        ratio = total[usable] / inner[usable]
        # The noise of the inner flux is common to both; that of the rings is not.
        noise = beyond_err[usable] / exposure_s / inner[usable]
        fit = robust_mean(ratio, noise)
        factor[name], error[name] = float(fit.coefficients[0]), float(fit.errors[0])
    return ApertureCorrections(factor, error, len(stars), assumed=False)


def _choose_stars(measured: Measurements, apertures: Apertures, outermost: str) -> npt.NDArray[np.intp]:
    from scipy.spatial import cKDTree

    flux, error = measured.flux[outermost], measured.flux_err[outermost]
    bright = (flux > _MIN_SNR * error) & ((measured.flags & int(UNCLEAN)) == 0)
    bright &= measured.edge_distance > apertures.total_radius_px
    candidates = np.flatnonzero(bright)
    if candidates.size == 0:
        return candidates
    positions = np.column_stack([measured.x, measured.y])
    neighbours = cKDTree(positions).query_ball_point(positions[candidates], _REACH * apertures.total_radius_px)
    owner = np.repeat(np.arange(candidates.size), [len(found) for found in neighbours])
    neighbour = np.concatenate([np.asarray(found, np.intp) for found in neighbours])
    share = np.where(neighbour == candidates[owner], 0.0, np.nan_to_num(flux[neighbour]) / flux[candidates[owner]])
    crowding = np.zeros(candidates.size)
    np.maximum.at(crowding, owner, share)
    # In a crowded field the least crowded stars are taken, or there would be none.
    limit = max(_ALONE, float(np.sort(crowding)[min(3 * _MIN_STARS, crowding.size) - 1]))
    alone = candidates[crowding <= limit]
    return alone[np.argsort(-flux[alone], kind="stable")[:_MAX_STARS]]


def _beyond(
    image: Image,
    background: Background,
    signal: Pixels,
    detections: Detections,
    measured: Measurements,
    apertures: Apertures,
    stars: npt.NDArray[np.intp],
) -> tuple[Floats, Floats]:
    """Return the flux, ADU, between the largest aperture and the total radius, and its error."""
    edges = _ring_edges(apertures.radii_px[-1], apertures.total_radius_px)
    x, y = measured.x[stars], measured.y[stars]
    own = np.asarray(measured.number[stars] + 1, np.int32)
    flux, variance = np.zeros(len(stars)), np.zeros(len(stars))
    for inner, outer in zip(edges[:-1], edges[1:], strict=True):
        ring, ring_err, _ = sep.sum_circann(
            signal,
            x,
            y,
            inner,
            outer,
            err=background.rms,
            mask=image.masked,
            segmap=detections.segments,
            seg_id=own,
            subpix=5,
        )
        flux, variance = flux + ring, variance + ring_err**2
    return flux, np.sqrt(variance)


def _ring_edges(inner: float, outer: float) -> Floats:
    return np.linspace(inner, outer, max(2, int(np.ceil((outer - inner) / _RING_PX)) + 1))


def _assumed(measured: Measurements, apertures: Apertures) -> ApertureCorrections:
    """Return the corrections of a Moffat profile with the median width of the sources."""
    widths = measured.fwhm[np.isfinite(measured.fwhm)]
    fwhm = float(np.median(widths)) if widths.size else 0.5 * apertures.radii_px[0]
    alpha = 0.5 * fwhm / np.sqrt(2.0 ** (1.0 / _BETA) - 1.0)

    def held(radius: float) -> float:
        return float(1.0 - (1.0 + (radius / alpha) ** 2) ** (1.0 - _BETA))

    total = held(apertures.total_radius_px)
    factor = dict.fromkeys(FLUXES, np.nan)
    for name, radius in zip(FLUXES, apertures.radii_px, strict=False):
        factor[name] = total / held(radius)
    factor["kron"] = total / held(apertures.kron_factor * fwhm)
    error = {name: _ASSUMED_ERROR * value for name, value in factor.items()}
    return ApertureCorrections(factor, error, 0, assumed=True)
