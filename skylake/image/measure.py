"""Positions, fluxes and shapes of detected sources."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import sep

from skylake.core.camera import FLUXES, Apertures, Camera
from skylake.core.crowding import crowding
from skylake.core.flags import SourceFlag
from skylake.core.frame import Image, Pixels
from skylake.image.annulus import annulus_sky
from skylake.image.background import Background
from skylake.image.detect import Detections

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

#: Radius, in units of a and b, within which the Kron radius is computed (Kron 1980, ApJS 43, 305).
_KRON_REACH = 6.0
#: A half-light radius is searched within this many major axes.
_HALF_LIGHT_REACH = 6.0
#: Outer edges of the rings in which radial profiles are taken.
_PROFILE_PX = (0.75, 1.25, 1.75, 2.25, 2.75, 3.5, 4.5, 6.0, 8.0)
#: What pixels add to the square of a full width: once in the image, once more where rings cut them.
_PIXEL_WIDTH_SQUARE = 1.4
#: A star narrower than that cannot be told from a single pixel.
_MIN_WIDTH_PX = 0.5
#: A windowed centroid this far from the isophotal one has walked to a neighbour.
_MAX_WALK_PX = 2.0
#: Pixels around the footprint of a detection that are no clean sky either.
_WIDEN_PX = 2
#: Fraction of the sky annulus that must be clean.
_MIN_CLEAN_SKY = 0.25


@dataclass(frozen=True, slots=True)
class Measurements:
    """Sources of one image, ordered by y then x; arrays of shape (n,).

    Positions are 0-based pixels of the trimmed image, fluxes ADU per second (NaN where an aperture does
    not exist), angles degrees. ``flux`` and ``flux_err`` are keyed by aper1, aper2, aper3 and kron.
    ``number`` is the detection's number in the segmentation map.
    """

    x: Floats
    y: Floats
    x_err: Floats
    y_err: Floats
    edge_distance: Floats
    flux: dict[str, Floats]
    flux_err: dict[str, Floats]
    crowding: Floats
    kron_radius: Floats
    flux_max: Floats
    sky: Floats
    sky_rms: Floats
    n_pixels: Integers
    fwhm: Floats
    a: Floats
    b: Floats
    theta: Floats
    flags: Integers
    number: Integers

    def __len__(self) -> int:
        return len(self.x)

    def ordered(self, order: npt.NDArray[np.intp]) -> Measurements:
        """Return the sources in another order."""
        values: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            values[item.name] = (
                {k: v[order] for k, v in value.items()} if isinstance(value, dict) else value[order]
            )
        return Measurements(**values)


def measure_sources(
    image: Image,
    background: Background,
    signal: Pixels,
    detections: Detections,
    camera: Camera,
    gain: float,
    exposure_s: float,
) -> Measurements:
    """Measure the detected sources.

    Flux errors hold the noise of the background and the photon noise of the source itself,
    ``err^2 = sum(rms^2) + flux / gain``.

    Parameters
    ----------
    image : Image
    background : Background
    signal : ndarray of float32
        Image minus background.
    detections : Detections
    camera : Camera
    gain : float
        Electrons per ADU.
    exposure_s : float
        Exposure, seconds.
    """
    found = detections
    flags = detections.flags.copy()
    x, y = _centroids(signal, image, found, flags)
    fwhm = _full_widths(signal, image, x, y)
    flux, flux_err, sky = _aperture_fluxes(
        image, background, signal, detections, camera.apertures, x, y, gain, flags
    )
    flux["kron"], flux_err["kron"], kron_radius = _kron_flux(
        image, background, signal, found, camera.apertures, x, y, gain, flags
    )
    height, width = signal.shape
    edge = np.minimum.reduce([x, width - 1 - x, y, height - 1 - y]) + 0.5
    flags[edge < camera.extraction.edge_margin_px] |= SourceFlag.EDGE
    _flag_saturation(image, detections, camera.apertures, x, y, flags)
    row, column = _nearest_pixel(y, height), _nearest_pixel(x, width)
    measured = Measurements(
        x=x,
        y=y,
        x_err=found.x_err,
        y_err=found.y_err,
        edge_distance=edge,
        flux={name: values / exposure_s for name, values in flux.items()},
        flux_err={name: values / exposure_s for name, values in flux_err.items()},
        crowding=_crowding(found, camera.apertures, x, y, fwhm),
        kron_radius=kron_radius,
        flux_max=found.peak,
        sky=sky,
        sky_rms=np.asarray(background.rms[row, column], float),
        n_pixels=found.n_pixels,
        fwhm=fwhm,
        a=found.a,
        b=found.b,
        theta=np.degrees(found.theta),
        flags=flags,
        number=np.arange(len(found), dtype=np.int32),
    )
    return measured.ordered(np.lexsort((x, y)))


def _nearest_pixel(position: Floats, size: int) -> npt.NDArray[np.intp]:
    return np.clip(np.rint(position), 0, size - 1).astype(np.intp)


def _centroids(signal: Pixels, image: Image, found: Detections, flags: Integers) -> tuple[Floats, Floats]:
    """Return windowed centroids.

    The window is a Gaussian with the half-light radius of the source, as SExtractor's XWIN_IMAGE. A
    centroid that does not converge, or walks away, falls back to the isophotal one.
    """
    x, y = found.x, found.y
    reach = _HALF_LIGHT_REACH * np.maximum(found.a, 0.5)
    radius, failed = sep.flux_radius(signal, x, y, reach, 0.5, mask=image.masked, subpix=5)
    radius = np.where((failed != 0) | ~(radius > 0), np.nan, radius)
    sigma = np.where(np.isfinite(radius), radius, found.a) * 2.0 / 2.3548
    x_window, y_window, failed = sep.winpos(signal, x, y, np.maximum(sigma, 0.5), mask=image.masked)
    walked = ~(np.hypot(x_window - x, y_window - y) <= np.minimum(_MAX_WALK_PX, np.maximum(found.a, 0.7)))
    bad = (failed != 0) | walked
    flags[bad] |= SourceFlag.CENTROID_FAILED
    return np.where(bad, x, x_window), np.where(bad, y, y_window)


def _full_widths(signal: Pixels, image: Image, x: Floats, y: Floats) -> Floats:
    """Return the full width at half maximum of each source's mean radial profile, NaN where noise hides it.

    The surface brightness in rings is interpolated as a Gaussian, its logarithm linear in the square of
    the radius, towards the centre too: a pixel is not small against the core of a star. What the pixels
    add to the width is taken off, to 5 % for stars of 2 px and more.
    """
    sums = [sep.sum_circle(signal, x, y, radius, mask=image.masked, subpix=0)[0] for radius in _PROFILE_PX]
    edges = np.array([0.0, *_PROFILE_PX])
    areas = np.pi * np.diff(edges**2)
    square = 0.5 * (edges[1:] ** 2 + edges[:-1] ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        profile = np.log(np.diff(np.array(sums), axis=0, prepend=0.0) / areas[:, None])
        peak = profile[0] + (profile[0] - profile[1]) * square[0] / (square[1] - square[0])
        below = profile < peak - np.log(2.0)
        outer = np.argmax(below, axis=0)
        known = below.any(axis=0) & (outer > 0)
        outer = np.maximum(outer, 1)
        star = np.arange(len(x))
        upper, lower = profile[outer - 1, star], profile[outer, star]
        part = (upper - peak + np.log(2.0)) / (upper - lower)
        width = 4.0 * (square[outer - 1] + part * (square[outer] - square[outer - 1])) - _PIXEL_WIDTH_SQUARE
    width = np.sqrt(np.maximum(width, _MIN_WIDTH_PX**2))
    return np.where(known & np.isfinite(width), width, np.nan)


def _aperture_fluxes(
    image: Image,
    background: Background,
    signal: Pixels,
    detections: Detections,
    apertures: Apertures,
    x: Floats,
    y: Floats,
    gain: float,
    flags: Integers,
) -> tuple[dict[str, Floats], dict[str, Floats], Floats]:
    """Return fluxes, errors and the sky level per pixel; apertures beyond the profile's are NaN."""
    height, width = signal.shape
    sky = np.asarray(background.level[_nearest_pixel(y, height), _nearest_pixel(x, width)], float)
    local, local_err = _local_sky(image, signal, detections, apertures, x, y, flags)
    flux: dict[str, Floats] = {name: np.full(len(x), np.nan) for name in FLUXES}
    flux_err: dict[str, Floats] = {name: np.full(len(x), np.nan) for name in FLUXES}
    for name, radius in zip(FLUXES, apertures.radii_px, strict=False):
        total, error, flag = sep.sum_circle(
            signal, x, y, radius, err=background.rms, gain=gain, mask=image.masked, subpix=0
        )
        area = np.pi * radius**2
        flux[name] = total - area * local
        flux_err[name] = np.hypot(error, area * local_err)
        flags[(flag & sep.APER_TRUNC) != 0] |= SourceFlag.EDGE
        flags[(flag & sep.APER_HASMASKED) != 0] |= SourceFlag.BAD_PIXEL
    return flux, flux_err, sky + local


def _local_sky(
    image: Image,
    signal: Pixels,
    detections: Detections,
    apertures: Apertures,
    x: Floats,
    y: Floats,
    flags: Integers,
) -> tuple[Floats, Floats]:
    """Return level and error of the sky in an annulus above the background map, zero where none is asked.

    Pixels in and around any detection are left out, so neighbours do not raise the sky, and what is too
    faint or too odd to be a detection is clipped.
    """
    from scipy.ndimage import maximum_filter

    zero = np.zeros(len(x))
    if apertures.sky_annulus_px is None:
        return zero, zero
    inner, outer = apertures.sky_annulus_px
    # The light of a neighbour does not end at its isophote.
    starless = maximum_filter(detections.segments, 2 * _WIDEN_PX + 1) == 0
    level, error, number = annulus_sky(signal, ~image.masked & starless, x, y, inner, outer)
    enough = number >= _MIN_CLEAN_SKY * np.pi * (outer**2 - inner**2)
    flags[~enough] |= SourceFlag.LOCAL_SKY_FAILED
    return np.where(enough, level, 0.0), np.where(enough, error, 0.0)


def _kron_flux(
    image: Image,
    background: Background,
    signal: Pixels,
    found: Detections,
    apertures: Apertures,
    x: Floats,
    y: Floats,
    gain: float,
    flags: Integers,
) -> tuple[Floats, Floats, Floats]:
    """Return flux and error in the Kron ellipse of radius max(factor x Kron radius, minimum)."""
    a, b = np.maximum(found.a, 0.3), np.maximum(found.b, 0.3)
    # sep refuses pi/2 as a 32-bit float, which is larger than pi/2.
    theta = np.clip(found.theta, -1.5707963, 1.5707963)
    kron, failed = sep.kron_radius(signal, x, y, a, b, theta, _KRON_REACH, mask=image.masked)
    bad = ~np.isfinite(kron) | ~(kron > 0) | ((failed & sep.APER_NONPOSITIVE) != 0)
    flags[bad] |= SourceFlag.KRON_FAILED
    scale = np.maximum(apertures.kron_factor * np.where(bad, 0.0, kron), apertures.kron_minimum)
    flux, error, _ = sep.sum_ellipse(
        signal, x, y, a, b, theta, scale, err=background.rms, gain=gain, mask=image.masked, subpix=5
    )
    return flux, error, np.where(bad, np.nan, kron)


def _crowding(found: Detections, apertures: Apertures, x: Floats, y: Floats, fwhm: Floats) -> Floats:
    """Return the flux that neighbours bring into the aperture of calibrations, as a share of the own.

    The isophotal fluxes of deblending tell who has how much.
    """
    widths = fwhm[np.isfinite(fwhm)]
    radius = apertures.calibrated_radius_px
    width = float(np.median(widths)) if widths.size else 0.5 * radius
    flux = found.flux
    return crowding(np.column_stack([x, y]), flux, radius, width, np.arange(len(x)))


def _flag_saturation(
    image: Image, detections: Detections, apertures: Apertures, x: Floats, y: Floats, flags: Integers
) -> None:
    """Flag sources with a saturated raw pixel in their footprint or smallest aperture."""
    n = len(x)
    for mask, bit in (
        (image.saturated, SourceFlag.SATURATED),
        (image.near_saturated, SourceFlag.NEAR_SATURATED),
    ):
        if not mask.any():
            continue
        owners = detections.segments[mask]
        hit = np.bincount(owners[owners > 0] - 1, minlength=n)[:n] > 0
        covered, _, _ = sep.sum_circle(mask.astype(np.float32), x, y, apertures.radii_px[0], subpix=1)
        flags[hit | (covered > 0)] |= bit
