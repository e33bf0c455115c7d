"""Forced photometry of the targets in the field of a frame, detected or not.

Three fluxes stand side by side: plain apertures; apertures after the models of all other stars were taken off, which
is the one to use by default; and the flux of the simultaneous fit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.camera import N_PLAIN_CIRCLES, Apertures
from skylake.core.flags import UNUSABLE_PIXEL, FrameFlag, PixelFlag, SourceFlag
from skylake.core.frame import MaskPlane
from skylake.core.reasons import Status
from skylake.image.detection.mask_bits import circle_bits
from skylake.image.detection.variance_plane import agreement_of
from skylake.image.photometry.aperture_photometry import TILE_PX, UNUSABLE, tiles_of
from skylake.image.photometry.response_errors import with_response_error
from skylake.image.photometry.row_errors import beyond_ellipses
from skylake.image.psf.circle_tables import Circles
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.growth_normalisation import growth_normalisation
from skylake.image.psf.place_errors import place_variances
from skylake.image.psf.psf_fit import (
    LARGEST_HALF,
    FitImage,
    StarFit,
    Variances,
    by_place,
    core_half_size,
    fit_stars,
)
from skylake.image.psf.psf_model import FramePsf, PsfModel, PsfQuality
from skylake.image.psf.psf_stars import psf_of_frame
from skylake.image.psf.targets_on_frame import (
    TargetFinder,
    TargetStars,
    find_shift,
    sky_to_pixels,
    stars_on_image,
)
from skylake.image.streaks.trails import near_trails

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

#: Targets no farther beyond the edge may be on the image: by so much is a WCS wrong at most.
_MOST_SHIFT_PX = 5.0
#: Where neighbours increase the variance of a flux this much, it says little of the star alone.
_BLENDED = 3.0
#: A star whose flux changes by more than this share, and by more than noise, with the errors of places cannot be
#: separated from its neighbours.
_MOST_PLACE_ERROR = 0.05
#: A fit needs this part of the weight of a star's stamp.
_MIN_SHARE = 0.5
#: What the models of neighbours are wrong by, as a share of their light.
_MODEL_ERROR = 0.01
#: Reduced chi-square of the bright stars of a frame beyond which they do not have the form of its point spread
#: function, as those of a defocused frame in a night of sharp ones.
_MISFIT = 10.0


@dataclass(frozen=True, slots=True)
class ForcedMeasurements:
    """Targets on one frame; arrays of shape (n,).

    Attributes
    ----------
    star_id : ndarray of int64
    ra_deg, dec_deg : ndarray
        Positions as the list of targets has them.
    targets_version : int
    x, y, edge_distance : ndarray
        Where the target was measured, 0-based pixels, and its distance from the edge of the image.
    flux, flux_err : dict of ndarray
        ADU per second, keyed by aper1, aper2, …, hybrid1, hybrid2, … and psf; NaN where an aperture does not exist or
        nothing could be fitted. The last is total flux, the others are those of their apertures.
    chi2 : ndarray
        Reduced chi-square of the pixels of the star in the fit.
    contamination : ndarray
        Light of neighbours within the aperture of calibrations, as a share of the star's own, or of the error of its
        own where that is larger.
    n_bad : ndarray of int32
        Pixels of that aperture that are of no use.
    sky, sky_rms : ndarray
        Background and its noise per pixel, ADU.
    flags : ndarray of int32
    apcor : dict of ndarray
        Factors of the aperture corrections at the targets on top of those of the frame, keyed by aper1, aper2, …; NaN
        for 1.
    quality : PsfQuality
        Of the form of the point spread function.
    shift_px : tuple of float
        By which all places were shifted along x and y; NaN where they were given, or are those of the WCS alone.
    psf_chi2 : float
        How well the bright lonely stars of the frame agree with the point spread function; NaN where they are too few.
    """

    star_id: npt.NDArray[np.int64]
    ra_deg: Floats
    dec_deg: Floats
    targets_version: int
    x: Floats
    y: Floats
    edge_distance: Floats
    flux: dict[str, Floats]
    flux_err: dict[str, Floats]
    chi2: Floats
    contamination: Floats
    n_bad: Integers
    sky: Floats
    sky_rms: Floats
    flags: Integers
    apcor: dict[str, Floats]
    quality: PsfQuality
    shift_px: tuple[float, float] = (float("nan"), float("nan"))
    psf_chi2: float = float("nan")

    def __len__(self) -> int:
        return len(self.star_id)

    def take(self, which: npt.NDArray[np.intp]) -> ForcedMeasurements:
        """Return some of the targets."""
        if np.array_equal(which, np.arange(len(self))):
            return self
        values: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, dict):
                values[item.name] = {name: column[which] for name, column in value.items()}
            else:
                values[item.name] = value[which] if isinstance(value, np.ndarray) else value
        return ForcedMeasurements(**values)


def force_targets(
    extracted: Extracted, find_targets: TargetFinder, model: PsfModel | None
) -> ForcedMeasurements | None:
    """Measure all targets in the field of a frame.

    Parameters
    ----------
    extracted : Extracted
    find_targets : callable
        Gives the targets around a position at a time.
    model : PsfModel or None
        Form of the point spread function that the frames of the night have in common; None takes a Moffat profile.

    Returns
    -------
    ForcedMeasurements or None
        None if there is no WCS or no target in the field, or the targets are not where a WCS puts them that no catalog
        confirms.
    """
    pointing = extracted.pointing
    mjd = extracted.row["mjd_mid"]
    if pointing is None or mjd is None:
        return None
    reach = pointing.radius_deg + (LARGEST_HALF + _MOST_SHIFT_PX) * pointing.pixel_scale_arcsec / 3600.0
    targets = find_targets(pointing.ra_deg, pointing.dec_deg, reach, mjd)
    x, y = sky_to_pixels(pointing, targets.ra_now_deg, targets.dec_now_deg)
    height, width = extracted.signal.shape
    near = np.flatnonzero(_beyond_edge(x, y, (height, width)) <= _MOST_SHIFT_PX)
    stars = extracted.stars
    catalog = None if stars is None else partial(stars_on_image, pointing, stars, (height, width))
    shift = find_shift(x[near], y[near], extracted.measured, (height, width), catalog)
    if shift is None:
        # Where few stars are seen, targets that are not say nothing of the place.
        if not extracted.row.get("flags", 0) & FrameFlag.WCS_INTERPOLATED:
            return None
        shift = (np.nan, np.nan)
    x, y = x + np.nan_to_num(shift[0]), y + np.nan_to_num(shift[1])
    beyond = _beyond_edge(x, y, (height, width))
    if not (beyond < 0.0).any():
        return None
    psf = psf_of_frame(model, extracted)
    # Light of stars beyond the edge would else stay in those at the edge.
    some = np.flatnonzero(beyond < core_half_size(psf.fwhm_px))
    some = some[by_place(x[some], y[some])]
    measured = measure_targets(extracted, targets.take(some), x[some], y[some], psf)
    return replace(measured.take(np.flatnonzero(beyond[some] < 0.0)), shift_px=shift)


def _beyond_edge(x: Floats, y: Floats, shape: tuple[int, int]) -> Floats:
    """Return by how many pixels places lie beyond the edge of an image, negative on it; infinite where unknown."""
    height, width = shape
    beyond = np.maximum(
        np.abs(x - 0.5 * (width - 1)) - 0.5 * width, np.abs(y - 0.5 * (height - 1)) - 0.5 * height
    )
    return np.where(np.isnan(beyond), np.inf, beyond)


def measure_targets(
    extracted: Extracted, targets: TargetStars, x: Floats, y: Floats, psf: FramePsf
) -> ForcedMeasurements:
    """Measure targets at given places of a frame.

    Parameters
    ----------
    extracted : Extracted
    targets : TargetStars
    x, y : ndarray, shape (n,)
        On the image, 0-based pixels.
    psf : FramePsf
    """
    good = _good_pixels(extracted.image.mask)
    signal, background, gain = extracted.signal, extracted.background, extracted.gain
    variances = _variances(extracted)
    apertures = extracted.camera.apertures
    circles = Circles.of(apertures.radii_px, apertures.radii_px.index(apertures.calibrated_radius_px))
    image = FitImage(signal, good, background.rms, gain, variances)
    fit = fit_stars(image, x, y, psf, circles=circles, annulus=apertures.sky_annulus_px)
    place = np.clip(fit.rows, 0, signal.shape[0] - 1), np.clip(fit.columns, 0, signal.shape[1] - 1)
    by_place, in_apertures = place_variances(fit.flux, x, y, psf, apertures.radii_px)
    sums = _sum(fit, apertures, extracted.image.row_variance, in_apertures)
    edge = -_beyond_edge(x, y, (signal.shape[0], signal.shape[1]))
    flags = _flags(extracted, fit, x, y, edge)
    # Beside the noise, since else a flux that noise makes small would be flagged for that.
    least = np.maximum((_MOST_PLACE_ERROR * fit.flux) ** 2, fit.variance)
    flags[by_place > least] |= SourceFlag.BLENDED
    relative = extracted.corrections.relative(x, y)
    to_total, floor = growth_normalisation(extracted, psf, fit, sums, flags, relative)
    flux, flux_err = sums.flux, sums.flux_err
    flux["psf"] = fit.flux * to_total
    variance = fit.variance + by_place + _row_noise(extracted, psf)
    flux_err["psf"] = np.sqrt(variance + (floor * fit.flux) ** 2) * to_total
    flux_err = with_response_error(extracted.image, x, y, flux, flux_err)
    if psf.chi2 > _MISFIT:
        flags |= np.int32(SourceFlag.FIT_FAILED)
    return ForcedMeasurements(
        star_id=targets.star_id,
        ra_deg=targets.ra_deg,
        dec_deg=targets.dec_deg,
        targets_version=targets.version,
        x=x,
        y=y,
        edge_distance=edge,
        flux={name: values / extracted.exposure_s for name, values in flux.items()},
        flux_err={name: values / extracted.exposure_s for name, values in flux_err.items()},
        chi2=fit.chi2,
        contamination=sums.contamination,
        n_bad=sums.bad,
        sky=np.asarray(background.level[place], float) + fit.sky + extracted.image.sky.level,
        sky_rms=np.asarray(background.rms[place], float),
        flags=flags,
        apcor=relative,
        quality=psf.model.quality,
        psf_chi2=psf.chi2,
    )


def _row_noise(extracted: Extracted, psf: FramePsf) -> float:
    """Return the variance that fitted fluxes have of what the pixels of a row have in common."""
    common = extracted.image.row_variance
    return common * beyond_fit(psf, core_half_size(psf.fwhm_px)) if common else 0.0


def _good_pixels(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return 1 for the pixels whose value is that of the sky."""
    if not mask.any():
        return np.ones(mask.shape, np.uint8)
    return np.asarray((mask & np.uint8(UNUSABLE_PIXEL | PixelFlag.SATURATED)) == 0).view(np.uint8)


def _variances(extracted: Extracted) -> Variances | None:
    """Return the variances of the pixels of a frame; None where there are none."""
    image = extracted.image
    if image.variance is None:
        return None
    agreement = agreement_of(image, extracted.background.rms, extracted.detections.segments)
    return Variances(np.ascontiguousarray(image.variance, np.float32), agreement)


@dataclass(frozen=True, slots=True)
class _ForcedSums:
    """Fluxes of apertures in ADU, contamination and unusable pixels."""

    flux: dict[str, Floats]
    flux_err: dict[str, Floats]
    contamination: Floats
    bad: Integers


def _sum(fit: StarFit, apertures: Apertures, row_variance: float, by_place: Floats) -> _ForcedSums:
    main = apertures.radii_px.index(apertures.calibrated_radius_px)
    flux = {
        f"{kind}{number}": np.full(len(fit.flux), np.nan)
        for kind in ("aper", "hybrid")
        for number in range(1, max(len(apertures.radii_px), N_PLAIN_CIRCLES) + 1)
    }
    flux_err = {name: values.copy() for name, values in flux.items()}
    for number, radius in enumerate(apertures.radii_px, 1):
        plain, left, noise, held, _, share, common = np.ascontiguousarray(fit.sums[:, number - 1].T)
        noise = noise + _made_up(fit, share, common) + row_variance * beyond_ellipses(radius, radius, 0.0)
        area = np.pi * radius**2
        sky, noise = area * fit.sky, noise + (area * fit.sky_err) ** 2
        flux[f"aper{number}"], flux_err[f"aper{number}"] = plain - sky, np.sqrt(noise)
        flux[f"hybrid{number}"] = left + fit.taken * held - sky
        # What the models of neighbours are wrong by stays in the aperture.
        spoiled = _MODEL_ERROR * (plain - left - fit.taken * held)
        flux_err[f"hybrid{number}"] = np.sqrt(noise + spoiled**2 + by_place[:, number - 1])
    plain, left, noise, _, held = fit.sums[:, main, :5].T
    own = fit.taken * held
    contamination = (plain - left - own) / np.maximum(np.abs(own), np.sqrt(noise))
    # No pixel holds such a star, and what stands in for it would be a flux of zero.
    for values in (*flux.values(), *flux_err.values(), contamination):
        values[np.isnan(fit.flux)] = np.nan
    return _ForcedSums(flux, flux_err, contamination, fit.bad.astype(np.int32))


def _made_up(fit: StarFit, share: Floats, common: Floats) -> Floats:
    """Return the variance of apertures part of which is the model of the star, beyond that of their good pixels.

    The model has the error of the fitted flux, which depends on the good pixels that give both, and of its own form.
    """
    model = fit.variance + (_MODEL_ERROR * fit.flux) ** 2
    return np.where(share == 0.0, 0.0, 2.0 * share * common + share**2 * model)


def _bits_within(
    mask: MaskPlane, tiles: MaskPlane, x: Floats, y: Floats, radius: float
) -> npt.NDArray[np.uint8]:
    """Return the bits of the pixels that lie in circles, all or in part."""
    bits = np.zeros(len(x), np.uint8)
    # A pixel lies in a circle in part if its centre is less than half a pixel beyond.
    circle_bits(mask, tiles, TILE_PX, x, y, radius + 0.5, bits)
    return bits


def _flags(extracted: Extracted, fit: StarFit, x: Floats, y: Floats, edge: Floats) -> Integers:
    camera, radii = extracted.camera, extracted.camera.apertures.radii_px
    mask = np.ascontiguousarray(extracted.image.mask)
    tiles = tiles_of(mask)
    flags = np.zeros(len(x), np.int32)
    flags[edge < max(camera.extraction.edge_margin_px, radii[-1])] |= SourceFlag.EDGE
    # The value of such a pixel says nothing, though the detector was not saturated there.
    flags[(_bits_within(mask, tiles, x, y, max(radii)) & np.uint8(UNUSABLE)) != 0] |= SourceFlag.BAD_PIXEL
    flags[~fit.sky_known] |= SourceFlag.LOCAL_SKY_FAILED
    flags[fit.increase > _BLENDED] |= SourceFlag.BLENDED
    flags[~np.isfinite(fit.flux) | ~(fit.share >= _MIN_SHARE)] |= SourceFlag.FIT_FAILED
    flags[near_trails(extracted.trails, x, y, max(radii))] |= SourceFlag.STREAK
    if extracted.row["status"] != Status.OK:
        flags |= SourceFlag.FRAME_REJECTED
    if extracted.row.get("flags", 0) & FrameFlag.WCS_INTERPOLATED:
        flags |= SourceFlag.WCS_INTERPOLATED
    core = _bits_within(mask, tiles, x, y, radii[0])
    for pixels, bit in (
        (PixelFlag.SATURATED, SourceFlag.SATURATED),
        (PixelFlag.NEAR_SATURATED, SourceFlag.NEAR_SATURATED),
    ):
        flags[(core & np.uint8(pixels)) != 0] |= bit
    return flags


def beyond_fit(psf: FramePsf, half: int) -> float:
    """Return what the fitted flux of a lonely star has beyond the errors of single pixels, in the middle of the image.

    Parameters
    ----------
    psf : FramePsf
    half : int
        Half size of the square that is fitted.
    """
    height, width = psf.model.size
    middle = psf.coefficients(np.array([0.5 * (width - 1)]), np.array([0.5 * (height - 1)]))
    grid = np.arange(-half, half + 1.0)
    y, x = (axis.reshape(-1) for axis in np.meshgrid(grid, grid, indexing="ij"))
    star = np.asarray(psf.values(middle, x, y), float).reshape(len(grid), len(grid))
    alone, rows = float(np.sum(star**2)), float(np.sum(star.sum(axis=1) ** 2))
    return max(rows - alone, 0.0) / alone**2
