"""The stages of the reduction, each a function: header, calibrated image, background, sources, extraction."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from skylake.cameras import HeaderReading, Profile, read_header
from skylake.core.batch import UNDATED, night_of
from skylake.core.doubts import doubted
from skylake.core.flags import FrameFlag
from skylake.core.frame import Image, Pixels, StoredImage
from skylake.core.frame_row import FrameRow
from skylake.core.frame_step import Refused, RowPart, Step, joined, with_part
from skylake.core.reasons import Reason
from skylake.errors import FrameError, FrameFailed, FrameRejected, FrameSkipped
from skylake.image.detection.background import Background, estimate_background, refine_background
from skylake.image.detection.detect_sources import Detections, detect_sources
from skylake.image.detrend.detrend_chain import detrend_image
from skylake.image.detrend.frame_conditions import conditions_of
from skylake.image.fitsio.read_fits import refuse_constant
from skylake.image.photometry.growth_curves import aperture_corrections
from skylake.image.photometry.measure_sources import Measurements, measure_sources
from skylake.image.psf.default_growth import UsualCorrections
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.quality.frame_verdicts import count_pixels, empty_frame, sky_columns
from skylake.image.quality.inverted_frames import refuse_inverted
from skylake.image.reduction.detection_cache import DetectionKeeper, Kept
from skylake.image.reduction.frame_record import ReduceParams
from skylake.image.solving.known_light import known_light
from skylake.image.solving.located_frame import Located, pointing_row, sky_row
from skylake.image.solving.neighbour_frames import Prior
from skylake.image.solving.neighbour_pointing import interpolated_row, pointing_of_lens
from skylake.image.streaks.trails import mark_trails
from skylake.image.wcs.header_wcs import Pointing

_ASSUMED = FrameFlag.GAIN_ASSUMED | FrameFlag.READ_NOISE_ASSUMED


@dataclass(frozen=True, slots=True)
class ImageAndBackground:
    """An image and its background.

    Attributes
    ----------
    reading : HeaderReading
    image : Image
        With its sky.
    background : Background
    signal : ndarray of float32
        Image minus the background as it was estimated first, ADU.
    """

    reading: HeaderReading
    image: Image
    background: Background
    signal: Pixels

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.signal.shape[0], self.signal.shape[1]


@dataclass(frozen=True, slots=True)
class DetectedSources:
    """The sources detected on a frame, and the background refined by them.

    Attributes
    ----------
    detections : Detections
    background : Background
    known : Kept or None
        The detections of an earlier reduction of the frame.
    """

    detections: Detections
    background: Background
    known: Kept | None = None


@dataclass(frozen=True, slots=True)
class MeasuredSources:
    """Detections, measurements and trails of a frame, and the background that they were measured above."""

    background: Background
    kept: Kept


def header_row(reading: HeaderReading) -> FrameRow:
    """Return the columns of ``frames`` that follow from the header alone."""
    camera = reading.camera
    mjd = reading.mjd_mid
    return {
        "night": UNDATED if mjd is None else night_of(mjd, camera.site.longitude_deg),
        "night_source": None if mjd is None else ("utc" if camera.site.longitude_deg is None else "site"),
        "mjd_start": reading.mjd_start,
        "mjd_mid": mjd,
        "mjd_end": reading.mjd_end,
        "time_source": reading.time_source,
        "exposure_s": reading.exposure_s if reading.exposure_known else None,
        "filter": reading.filter,
        "band": reading.band,
        "object": reading.object,
        "gain_e_per_adu": reading.image_gain,
        "read_noise_e": reading.image_read_noise,
        "saturation_adu": reading.saturation_adu,
        "ccd_temperature_c": reading.ccd_temperature_c,
        "config_sha256": camera.sha256,
        "flags": reading.flags | (FrameFlag(0) if camera.site.known else FrameFlag.SITE_UNKNOWN),
    }


def interpret_header(stored: StoredImage, profile: Profile, file: str) -> Step[HeaderReading] | Refused:
    """Return what the header of a frame says; refuse a frame that cannot be processed by it, or is not one of the sky.

    Parameters
    ----------
    stored : StoredImage
    profile : Profile
    file : str
        Path of the file, whose name may contain the time.
    """
    reading = read_header(stored.header, profile, file.rpartition("/")[2])
    columns = header_row(reading)
    columns["extension"] = stored.extension
    if stored.n_further and profile.base.header.extension is None:
        columns["flags"] |= FrameFlag.MORE_IMAGES
    part = joined(RowPart(columns), doubted(reading.doubts))
    if reading.problem is not None:
        reason, message = reading.problem
        error = (FrameSkipped if reason == Reason.NOT_SCIENCE else FrameFailed)(reason, message)
        return Refused(error, part)
    return Step(reading, part)


def detrend(
    stored: StoredImage, reading: HeaderReading, params: ReduceParams, file: str
) -> Step[Image] | Refused:
    """Choose the masters of a frame and do the steps of its camera.

    Where the profile asks for measured values of the detector, they are put into the reading.

    Raises
    ------
    FrameFailed
        If a master or a sky is missing or damaged, or all pixels have one value.
    """
    refuse_constant(stored, reading.saturation_adu)
    n_known = len(reading.doubts)
    conditions, names = conditions_of(stored, reading, params.library, params.sky, file)
    columns: FrameRow = {
        "gain_e_per_adu": reading.image_gain,
        "read_noise_e": reading.image_read_noise,
        "masters": " ".join(names) or None,
        "flags": reading.flags & _ASSUMED,
    }
    part = joined(RowPart(columns, cleared=_ASSUMED), doubted(reading.doubts[n_known:]))
    try:
        image = detrend_image(stored, reading.camera, conditions)
    except FrameError as error:
        return Refused(error, part)
    return Step(image, joined(part, count_pixels(image)))


def subtract_background(row: FrameRow, image: Image, reading: HeaderReading) -> Step[ImageAndBackground]:
    """Estimate the background of an image, and take it off."""
    background = estimate_background(image, reading.camera.extraction)
    columns = sky_columns(row, image, background, reading.saturation_adu)
    return Step(
        ImageAndBackground(reading, image, background, image.pixels - background.level), RowPart(columns)
    )


def detect(
    row: FrameRow,
    picture: ImageAndBackground,
    pointing: Pointing | None,
    params: ReduceParams,
    prior: Prior | None,
) -> Step[DetectedSources] | Refused:
    """Detect the sources of a frame, unless they are known, and refine the background by them.

    Parameters
    ----------
    row : FrameRow
        The row of ``frames`` so far.
    picture : ImageAndBackground
    pointing : Pointing or None
        That of the header.
    params : ReduceParams
    prior : Prior or None
        What neighbours say of a frame that does not say itself where it points.

    Raises
    ------
    FrameRejected
        If there are holes in place of sources.
    """
    image, extraction = picture.image, picture.reading.camera.extraction
    known = None if params.keeper is None else params.keeper.recall(row["frame_id"])
    found = _search(row, picture, pointing, params, prior) if known is None else known.detections
    if isinstance(found, Refused):
        return found
    background = refine_background(image, picture.background, found, extraction, picture.signal)
    columns: FrameRow = {
        "threshold_sigma": found.threshold_sigma,
        "sky_adu": background.median_level + image.sky.level,
        "flags": FrameFlag.THRESHOLD_RAISED if found.raised else FrameFlag(0),
    }
    return Step(DetectedSources(found, background, known), RowPart(columns))


def _search(
    row: FrameRow,
    picture: ImageAndBackground,
    pointing: Pointing | None,
    params: ReduceParams,
    prior: Prior | None,
) -> Detections | Refused:
    """Find sources, or return the reason why there are none, or holes in their place."""
    image, signal, background = picture.image, picture.signal, picture.background
    reading, camera = picture.reading, picture.reading.camera
    searched = background, image.mask, camera.extraction
    noise = image.variance, image.read_variance
    try:
        found = detect_sources(
            signal, background.rms, image.mask, camera.extraction, reading.image_gain, *noise
        )
    except FrameRejected as error:
        refuse_inverted(signal, *searched, n_found=0)
        part = RowPart()
        if prior is not None and prior.between is not None:
            pointing = pointing_of_lens(prior.between.lens, picture.shape)
            place = pointing_row(pointing) | sky_row(reading, pointing)
            part = RowPart(interpolated_row(prior.between) | place)
        find_stars = None if params.reference is None else params.reference.find_stars
        refused = empty_frame(with_part(row, part), camera, pointing, find_stars, error)
        return Refused(refused.error, joined(part, refused.part))
    refuse_inverted(signal, *searched, n_found=len(found.x))
    return found


def measure(
    row: FrameRow, picture: ImageAndBackground, detected: DetectedSources, keeper: DetectionKeeper | None
) -> Step[MeasuredSources]:
    """Measure the sources of a frame, unless they are known, and find its trails.

    Parameters
    ----------
    row : FrameRow
        The row of ``frames`` so far.
    picture : ImageAndBackground
    detected : DetectedSources
    keeper : DetectionKeeper or None
        Keeps what was found.
    """
    image, signal, reading, known = picture.image, picture.signal, picture.reading, detected.known
    detections, background = detected.detections, detected.background
    rms, apertures = row["sky_rms_adu"] or 0.0, reading.camera.apertures
    if known is not None:
        _, counts = mark_trails(rms, image, signal, detections, known.measured, apertures, known.trails)
        return Step(MeasuredSources(background, known), RowPart(counts))
    measured = measure_sources(
        image, background, signal, detections, reading.camera, reading.image_gain, reading.exposure_s
    )
    trails, counts = mark_trails(rms, image, signal, detections, measured, apertures)
    kept = Kept(detections, measured, trails)
    if keeper is not None:
        keeper.keep(row["frame_id"], kept)
    return Step(MeasuredSources(background, kept), RowPart(counts))


def extract(
    row: FrameRow,
    picture: ImageAndBackground,
    found: MeasuredSources,
    located: Located,
    usual: UsualCorrections | None,
) -> Extracted:
    """Return all that is known of a frame whose sources are measured, with their aperture corrections.

    Parameters
    ----------
    row : FrameRow
        The row of ``frames`` so far.
    picture : ImageAndBackground
    found : MeasuredSources
    located : Located
    usual : callable or None
        Gives the aperture corrections of a frame, those of its night where its own stars are too few.
    """
    reading, image, signal = picture.reading, picture.image, picture.signal
    detections, measured = found.kept.detections, found.kept.measured
    given = image, found.background, signal, detections, measured, reading.camera.apertures
    corrections = aperture_corrections(*given, located.crowding)
    if corrections.crowded and located.pointing is not None and located.stars is not None:
        around = located.pointing, located.stars, measured
        sky = detections, found.background
        known = known_light(*around, corrections, *sky, reading.camera, reading.exposure_s)
        better = aperture_corrections(*given, located.crowding, known)
        corrections = corrections if better.assumed else better
    extracted = Extracted(
        row=row,
        camera=reading.camera,
        gain=reading.image_gain,
        exposure_s=reading.exposure_s,
        image=replace(image, pixels=signal),
        background=found.background,
        signal=signal,
        detections=detections,
        measured=measured,
        corrections=corrections,
        pointing=located.pointing,
        trails=found.kept.trails,
        stars=located.stars,
    )
    corrections = corrections if usual is None else usual(extracted)
    measured = replace(measured, apcor=corrections.relative(measured.x, measured.y))
    return replace(extracted, measured=measured, corrections=corrections)


def extract_nothing(
    row: FrameRow, picture: ImageAndBackground, prior: Prior | None, usual: UsualCorrections | None
) -> Extracted | None:
    """Return what is known of a frame without detections, if its neighbours place it: non-detections are data.

    Parameters
    ----------
    row : FrameRow
        The row of ``frames``, with its status.
    picture : ImageAndBackground
    prior : Prior or None
        Where the neighbours put the frame.
    usual : callable or None
        Gives the aperture corrections of a frame, those of its night where its own stars are too few.

    Returns
    -------
    Extracted or None
        None for a frame without a pointing, on which detection failed otherwise, or whose image has no noise, as that
        of a closed shutter.
    """
    placed = row["flags"] & FrameFlag.WCS_INTERPOLATED and row.get("n_detected") == 0
    if prior is None or prior.between is None or not placed or not (row.get("sky_rms_adu") or 0.0) > 0.0:
        return None
    kept = Kept(_no_detections(picture.shape), _no_sources(picture.reading.camera.apertures.fluxes), ())
    where = Located(pointing_of_lens(prior.between.lens, picture.shape))
    return extract(row, picture, MeasuredSources(picture.background, kept), where, usual)


def _no_detections(shape: tuple[int, int]) -> Detections:
    values: dict[str, Any] = {item.name: np.zeros(0) for item in fields(Detections)}
    values |= {"n_pixels": np.zeros(0, np.int32), "flags": np.zeros(0, np.int32)}
    values |= {"segments": np.zeros(shape, np.int32), "threshold_sigma": float("nan"), "raised": False}
    values["star_fwhm"] = None
    return Detections(**values)


def _no_sources(fluxes: tuple[str, ...]) -> Measurements:
    values: dict[str, Any] = {item.name: np.zeros(0) for item in fields(Measurements)}
    values |= {name: np.zeros(0, np.int32) for name in ("n_pixels", "flags", "number")}
    values |= {name: {one: np.zeros(0) for one in fluxes} for name in ("flux", "flux_err", "apcor")}
    return Measurements(**values)
