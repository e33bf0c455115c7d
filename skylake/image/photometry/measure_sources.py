"""Measurement of detected sources: positions, fluxes, widths and shapes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Apertures, Camera
from skylake.core.flags import UNCLEAN, PixelFlag, SourceFlag
from skylake.core.frame import Image, Pixels
from skylake.image.detection.background import Background
from skylake.image.detection.detect_sources import Detections
from skylake.image.photometry.annulus import LocalSky, local_sky, starless
from skylake.image.photometry.aperture_photometry import (
    PhotometryScene,
    bits_in_circles,
    bits_in_footprints,
    circular_fluxes,
    elliptical_fluxes,
    kron_radii,
    make_scene,
    nearest_pixel,
    radial_profiles,
)
from skylake.image.photometry.centroid_bias import place_bias
from skylake.image.photometry.centroids import windowed_centroids
from skylake.image.photometry.filled_pixels import Filled
from skylake.image.photometry.kron_ellipses import kron_ellipses, plain_snr
from skylake.image.photometry.neighbour_kernels import crowding_shares
from skylake.image.photometry.obscured_stars import fill_obscured
from skylake.image.photometry.row_errors import beyond_ellipses

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

#: Radius, in units of a and b, within which the Kron radius is computed (Kron 1980, ApJS 43, 305).
_KRON_REACH = 6.0
#: Outer edges of the rings in which radial profiles are taken.
_PROFILE_PX = (0.75, 1.25, 1.75, 2.25, 2.75, 3.5, 4.5, 6.0, 8.0, 11.0, 15.0, 20.0, 30.0)
#: Widths are looked for in rings up to this one; the half-light radius of an extended source may lie beyond.
_WIDEST_PX = 8.0
#: What pixels add to the square of a full width: once in the image, once more where rings cut them.
_PIXEL_WIDTH_SQUARE = 1.4
#: What they add to the width of the image alone.
_PIXEL_WIDTH = (0.5 * _PIXEL_WIDTH_SQUARE) ** 0.5
#: A star narrower than that cannot be distinguished from a single pixel.
_MIN_WIDTH_PX = 0.5
#: Full width at half maximum of a Gaussian, in standard deviations.
_WIDTH_PER_RMS = 2.3548
#: Pixels around the footprint of a detection that are no clean sky either.
_WIDEN_PX = 2


@dataclass(frozen=True, slots=True)
class Measurements:
    """Sources of one image, ordered by y then x; arrays of shape (n,).

    Positions are 0-based pixels of the trimmed image, fluxes ADU per second (NaN where an aperture does
    not exist), angles degrees. ``flux`` and ``flux_err`` are keyed by aper1, aper2, aper3, any further ones and kron,
    and so is ``apcor``: the factor by which the aperture correction at the source differs from that at the centre of
    the image, NaN for none. ``number`` is the detection's number in the segmentation map.
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
    half_light: Floats
    a: Floats
    b: Floats
    theta: Floats
    flags: Integers
    number: Integers
    apcor: dict[str, Floats]

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

    Flux errors hold the noise of the background and the photon noise of the source itself: those of the
    variance plane where the image has one, else ``err^2 = sum(rms^2) + flux / gain``; see
    :func:`~skylake.image.photometry.aperture_photometry.circular_fluxes`. What faint sources gain because their places
    were found in the same noise is taken off; see :func:`~skylake.image.photometry.centroid_bias.place_bias`.

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
    # Neighbours in the image are neighbours in memory.
    order = np.argsort(detections.y, kind="stable").astype(np.int32)
    shapes, flags = _IsophotalShapes.of(detections, order), detections.flags[order]
    scene = make_scene(image, background, signal, detections.segments, gain)
    x, y, x_err, y_err, failed = windowed_centroids(scene, detections, order)
    flags[failed] |= SourceFlag.CENTROID_FAILED
    places = np.array([x, y, x_err, y_err])
    sums, filled = _circle_fluxes(scene, shapes, camera.apertures, places, flags)
    x, y, x_err, y_err = places
    around = _local_sky(scene, detections, camera.apertures, x, y, flags)
    flux, flux_err, sky = _aperture_fluxes(scene, background, camera.apertures, x, y, sums, around, flags)
    snr = plain_snr(flux["aper1"], camera.apertures.radii_px[0], scene.rms_at(x, y), gain)
    flux["kron"], flux_err["kron"], kron_radius, reach = _kron_flux(
        scene, shapes, camera.apertures, (x, y), flags, snr, filled, around
    )
    fwhm, half_light = _widths(scene, x, y, flux["kron"], reach, filled)
    _take_off_place_bias(flux, shapes, camera.apertures, fwhm, reach, (x_err, y_err))
    edge = _edge_distance(signal.shape, x, y)
    flags[edge < camera.extraction.edge_margin_px] |= SourceFlag.EDGE
    _flag_saturation(scene, detections, order, camera.apertures, x, y, flags)
    measured = Measurements(
        x=x,
        y=y,
        x_err=x_err,
        y_err=y_err,
        edge_distance=edge,
        flux={name: values / exposure_s for name, values in flux.items()},
        flux_err={name: values / exposure_s for name, values in flux_err.items()},
        crowding=np.zeros(len(x)),
        kron_radius=kron_radius,
        flux_max=shapes.peak,
        sky=sky + image.sky.level,
        sky_rms=scene.rms_at(x, y),
        n_pixels=detections.n_pixels[order],
        fwhm=fwhm,
        half_light=half_light,
        a=shapes.a,
        b=shapes.b,
        theta=np.degrees(shapes.theta),
        flags=flags,
        number=order,
        apcor={name: np.full(len(x), np.nan) for name in camera.apertures.fluxes},
    ).ordered(np.lexsort((x, y)))
    _set_crowding(measured, detections.flux, camera.apertures)
    return measured


@dataclass(frozen=True, slots=True)
class _IsophotalShapes:
    """Shapes of detections in another order; arrays of shape (n,), angles radians."""

    a: Floats
    b: Floats
    theta: Floats
    peak: Floats

    @classmethod
    def of(cls, detections: Detections, order: Integers) -> _IsophotalShapes:
        return cls(*(getattr(detections, name)[order] for name in cls.__slots__))


def _widths(
    scene: PhotometryScene, x: Floats, y: Floats, total: Floats, reach: Floats, filled: Filled | None
) -> tuple[Floats, Floats]:
    """Return full widths at half maximum and half-light radii, NaN where noise hides them.

    What the pixels add to the width is taken off, to 5 % for stars of 2 px and more.
    """
    reach = np.maximum(reach, _WIDEST_PX)
    square, half_light = radial_profiles(scene, x, y, total, reach, _PROFILE_PX)
    if filled is not None:
        x, y, total, reach = (part[filled.some] for part in (x, y, total, reach))
        with filled.shown(scene):
            square[filled.some], half_light[filled.some] = radial_profiles(
                scene, x, y, total, reach, _PROFILE_PX
            )
    known = square <= (2.0 * _WIDEST_PX) ** 2
    width = np.sqrt(np.maximum(square - _PIXEL_WIDTH_SQUARE, _MIN_WIDTH_PX**2))
    return np.where(known, width, np.nan), half_light


def _circle_fluxes(
    scene: PhotometryScene, shapes: _IsophotalShapes, apertures: Apertures, places: Floats, flags: Integers
) -> tuple[tuple[Floats, Floats], Filled | None]:
    """Return fluxes and errors in circles, shape (radii, n), and what stands in for bad pixels.

    Places that these have moved are put right.
    """
    flux, error, obscured = circular_fluxes(scene, places[0], places[1], apertures.radii_px)
    clean = (flags & int(UNCLEAN)) == 0
    flags[obscured.any(axis=0)] |= SourceFlag.BAD_PIXEL
    size = np.sqrt(shapes.a * shapes.b)
    width = _WIDTH_PER_RMS * float(np.median(size)) if size.size else 1.0
    filled = fill_obscured(scene, places, flux, error, obscured, clean, width, apertures.radii_px)
    radii = np.array(apertures.radii_px)[:, None]
    error = np.sqrt(error**2 + scene.row_variance * beyond_ellipses(radii, radii, 0.0))
    return (flux, error), filled


def _aperture_fluxes(
    scene: PhotometryScene,
    background: Background,
    apertures: Apertures,
    x: Floats,
    y: Floats,
    sums: tuple[Floats, Floats],
    around: LocalSky,
    flags: Integers,
) -> tuple[dict[str, Floats], dict[str, Floats], Floats]:
    """Return fluxes, errors and the sky level per pixel; apertures beyond the profile's are NaN."""
    height, width = scene.signal.shape
    sky = np.asarray(background.level[nearest_pixel(y, height), nearest_pixel(x, width)], float)
    total, error = sums
    flux: dict[str, Floats] = {name: np.full(len(x), np.nan) for name in apertures.fluxes}
    flux_err: dict[str, Floats] = {name: np.full(len(x), np.nan) for name in apertures.fluxes}
    for k, (name, radius) in enumerate(zip(apertures.circles, apertures.radii_px, strict=True)):
        area = np.pi * radius**2
        flux[name] = total[k] - area * around.level
        flux_err[name] = np.hypot(error[k], area * around.error)
    reach = max(apertures.radii_px)
    cut = (x < reach - 0.5) | (x > width - 0.5 - reach) | (y < reach - 0.5) | (y > height - 0.5 - reach)
    flags[cut] |= SourceFlag.EDGE
    return flux, flux_err, sky + around.level


def _edge_distance(shape: tuple[int, ...], x: Floats, y: Floats) -> Floats:
    """Return how far places are from the nearest edge of the image."""
    height, width = shape
    return np.asarray(np.minimum.reduce([x, width - 1 - x, y, height - 1 - y]) + 0.5)


def _local_sky(
    scene: PhotometryScene,
    detections: Detections,
    apertures: Apertures,
    x: Floats,
    y: Floats,
    flags: Integers,
) -> LocalSky:
    """Return the sky in an annulus above the background map, zero where none is asked.

    Pixels in and around any detection are left out, so neighbours do not raise the sky, and what is too
    faint or too odd to be a detection is clipped.
    """
    if apertures.sky_annulus_px is None:
        return LocalSky.of_blocks(np.zeros(len(x)))
    # The light of a neighbour does not end at its isophote.
    clean = starless(detections.segments, scene.mask, _WIDEN_PX)
    sky = local_sky(scene.signal, clean, x, y, apertures.sky_annulus_px, np.zeros(len(x)))
    flags[~sky.known] |= SourceFlag.LOCAL_SKY_FAILED
    return sky


def _kron_flux(
    scene: PhotometryScene,
    shapes: _IsophotalShapes,
    apertures: Apertures,
    places: tuple[Floats, Floats],
    flags: Integers,
    snr: Floats,
    filled: Filled | None,
    around: LocalSky,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return flux and error in the Kron ellipse, the Kron radius, and the long half axis of the ellipse, pixels."""
    x, y = places
    a, b = np.maximum(shapes.a, 0.3), np.maximum(shapes.b, 0.3)
    kron = kron_radii(scene, x, y, a, b, shapes.theta, _KRON_REACH)
    if filled is not None:
        some = filled.some
        with filled.shown(scene):
            kron[some] = kron_radii(
                scene, x[some], y[some], a[some], b[some], shapes.theta[some], _KRON_REACH
            )
    bad = np.isnan(kron)
    flags[bad] |= SourceFlag.KRON_FAILED
    clean = (flags & int(UNCLEAN)) == 0
    a, b = kron_ellipses(a, b, kron, snr, clean, apertures)
    flux, error = elliptical_fluxes(scene, x, y, a, b, shapes.theta, np.ones(len(x)))
    if filled is not None:
        flux[filled.some], error[filled.some] = filled.ellipses(scene, x, y, a, b, shapes.theta)
    error = np.sqrt(error**2 + scene.row_variance * beyond_ellipses(a, b, shapes.theta))
    area = np.pi * a * b
    return flux - area * around.level, np.hypot(error, area * around.error), kron, a


def _take_off_place_bias(
    flux: dict[str, Floats],
    shapes: _IsophotalShapes,
    apertures: Apertures,
    fwhm: Floats,
    reach: Floats,
    place_errors: tuple[Floats, Floats],
) -> None:
    """Take off what fluxes gain on average because their places were found in the same noise."""
    stellar = float(np.nanmedian(fwhm)) if np.isfinite(fwhm).any() else 0.0
    # What is extended has a gentler profile, and its centroid a larger error.
    width = np.maximum(np.hypot(stellar, _PIXEL_WIDTH), _WIDTH_PER_RMS * np.sqrt(shapes.a * shapes.b))
    radii = dict(zip(apertures.circles, apertures.radii_px, strict=True)) | {"kron": reach}
    for name, radius in radii.items():
        flux[name] -= place_bias(radius, width, *place_errors) * np.maximum(flux[name], 0.0)


def _set_crowding(measured: Measurements, flux: Floats, apertures: Apertures) -> None:
    """Set the flux that neighbours bring into the aperture of calibrations, as a share of the own.

    The isophotal fluxes of deblending divide the light.
    """
    widths = measured.fwhm[np.isfinite(measured.fwhm)]
    radius = apertures.calibrated_radius_px
    width = float(np.median(widths)) if widths.size else 0.5 * radius
    crowding_shares(measured.x, measured.y, flux[measured.number], radius, width, measured.crowding)


def _flag_saturation(
    scene: PhotometryScene,
    detections: Detections,
    order: Integers,
    apertures: Apertures,
    x: Floats,
    y: Floats,
    flags: Integers,
) -> None:
    """Flag sources with a saturated raw pixel in their footprint or smallest aperture."""
    pairs = (
        (PixelFlag.SATURATED, SourceFlag.SATURATED),
        (PixelFlag.NEAR_SATURATED, SourceFlag.NEAR_SATURATED),
    )
    either = int(PixelFlag.SATURATED | PixelFlag.NEAR_SATURATED)
    bits = bits_in_footprints(scene, detections.segments, len(detections), either)[order]
    bits = bits | bits_in_circles(scene, x, y, apertures.radii_px[0])
    for pixel, source in pairs:
        flags[(bits & np.uint8(pixel)) != 0] |= source
