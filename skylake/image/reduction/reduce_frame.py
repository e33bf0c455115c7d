"""The whole way of one frame: file in, a row of ``frames`` and measured sources out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from skylake.cameras import HeaderReading, Profile, read_header
from skylake.core.batch import UNDATED, night_of
from skylake.core.camera import Camera
from skylake.core.flags import FrameFlag, SourceFlag
from skylake.core.frame import FileContent, Image, Pixels, StoredImage
from skylake.core.ids import frame_id
from skylake.core.reasons import Reason, Status
from skylake.errors import FrameError, FrameFailed, FrameRejected, FrameSkipped
from skylake.image.detection.background import Background, estimate_background, refine_background
from skylake.image.detection.detect_sources import Detections, detect_sources
from skylake.image.detrend.detrend_chain import calibrate
from skylake.image.detrend.frame_conditions import SkyFinder, conditions_of
from skylake.image.distortion.distortion_epochs import Epoch
from skylake.image.fitsio.read_fits import open_stored, refuse_constant
from skylake.image.masters.master_library import Library
from skylake.image.photometry.growth_curves import ApertureCorrections, apcor_row, aperture_corrections
from skylake.image.photometry.measure_sources import Measurements, measure_sources
from skylake.image.photometry.response_errors import with_response_error
from skylake.image.psf.default_growth import UsualCorrections
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.quality.cloud_cover import Found
from skylake.image.quality.field_cells import note_cells
from skylake.image.quality.frame_notes import Notes, count_pixels, note_left_out
from skylake.image.quality.frame_verdicts import apply_gates, drop_sky_of_flood, empty_frame, note_sky
from skylake.image.quality.inverted_frames import refuse_inverted
from skylake.image.quality.limiting_magnitudes import note_limits
from skylake.image.quality.source_metrics import source_metrics
from skylake.image.quality.star_injection import Frame
from skylake.image.reduction.detection_cache import Keeper, Kept
from skylake.image.reduction.no_detections import extracted_nothing
from skylake.image.solving.expected_pointing import Guide
from skylake.image.solving.locate_frame import Reference, Solver, locate, point, require_right
from skylake.image.solving.neighbour_frames import Prior
from skylake.image.solving.neighbour_pointing import note_between, pointing_of_lens
from skylake.image.solving.pointing_columns import pointing_row, sky_row
from skylake.image.streaks.trails import note_trails
from skylake.image.wcs.header_wcs import Pointing, StarFinder
from skylake.revision import code_version

#: What is done with a frame whose sources are measured and whose WCS is right, such as forced photometry.
Finisher = Callable[[Extracted], Any]


@dataclass(slots=True)
class ReducedFrame:
    """What became of a frame.

    Attributes
    ----------
    row : dict
        The row of ``frames``: column to value. It grows while the frame travels, so that whatever was
        learnt before a frame failed is kept.
    sources : Measurements or None
        None for a frame in which none were measured.
    ra_deg, dec_deg : ndarray or None
        Positions of the sources, ICRS; None for a frame of which nobody knows where it points.
    finished : Any
        What the finisher gave; None for a frame that did not come so far.
    notes : Notes
        What is told besides the verdict.
    """

    row: dict[str, Any] = field(default_factory=dict)
    sources: Measurements | None = None
    ra_deg: np.ndarray[Any, Any] | None = None
    dec_deg: np.ndarray[Any, Any] | None = None
    finished: Any = None
    notes: Notes = field(default_factory=Notes)

    @property
    def status(self) -> str:
        """Status of the frame."""
        return str(self.row["status"])

    def file_under(self, error: FrameError) -> None:
        """File the frame under the status, reason and sentence of an error."""
        self.row.update(status=error.status, reason=error.reason, message=str(error))
        if self.sources is not None and self.ra_deg is None:
            self.sources = replace(self.sources, flags=self.sources.flags | int(SourceFlag.FRAME_REJECTED))


def new_row(profile: Profile, path: str, content: FileContent | None = None) -> dict[str, Any]:
    """Return the row of a frame of which nothing is known but its file."""
    extension = profile.base.header.extension
    # An empty file has no content to go by; like an unreadable one it is known by its path.
    identity: str | bytes = content.data if content is not None and content.data else path
    return {
        "frame_id": frame_id(profile.name, extension if extension is not None else "first", identity),
        "camera": profile.name,
        "night": UNDATED,
        "file": path,
        "extension": extension if isinstance(extension, int) else 0,
        "file_bytes": None if content is None else content.n_bytes,
        "file_modified_ns": None if content is None else content.modified_ns,
        "status": Status.OK.value,
        "flags": 0,
        "config_sha256": profile.base.sha256,
        "software_version": code_version(),
    }


def reduce_frame(
    content: FileContent,
    profile: Profile,
    find_stars: StarFinder | None = None,
    library: Library | None = None,
    sky: SkyFinder | None = None,
    finish: Finisher | None = None,
    row: dict[str, Any] | None = None,
    solver: Solver | None = None,
    epochs: Sequence[Epoch] = (),
    unplaced: bool = False,
    guide: Guide | None = None,
    catalog: str | None = None,
    prior: Prior | None = None,
    keeper: Keeper | None = None,
    usual: UsualCorrections | None = None,
) -> ReducedFrame:
    """Reduce one frame.

    Parameters
    ----------
    content : FileContent
        The file.
    profile : Profile
        The camera.
    find_stars : callable or None
        Gives catalog stars to check the WCS against; None leaves it unchecked.
    library : Library or None
        The masters from which those that the camera's steps need are chosen.
    sky : callable or None
        Gives the sky of a frame from its neighbours, for cameras whose steps take it off.
    finish : callable or None
        Is called once the sources are measured and the WCS is right; what it gives is kept.
    row : dict or None
        What :func:`new_row` gives for the file, if that is known already: it takes the hash of all bytes.
    solver : callable or None
        Tells where a frame points whose header does not, or is wrong; needs `find_stars`.
    epochs : sequence of Epoch
        What was learnt of the distortion of the camera; needs `find_stars`.
    unplaced : bool
        Whether `finish` is called for a frame too of which nobody knows where it points.
    guide : Guide or None
        Knows where the detector is in the focal plane, and where its siblings point.
    catalog : str or None
        Name of the catalog.
    prior : Prior or None
        What its neighbours tell of a frame that does not tell itself where it points; needs `find_stars`.
    keeper : Keeper or None
        Keeps what is found on the frame, and knows what was found when it was reduced before in the same way.
    usual : callable or None
        Gives the aperture corrections of a frame, for which those of its night stand in where it has few stars.

    Returns
    -------
    ReducedFrame
        Always, whatever the frame: a :class:`~skylake.errors.FrameError` becomes its status and reason.
    """
    reduced = ReducedFrame(new_row(profile, content.path, content) if row is None else row)
    reduced.row["wcs_neighbours"] = None if prior is None else prior.text
    reference = (
        None if find_stars is None else Reference(find_stars, solver, epochs, guide or Guide(), catalog)
    )
    try:
        reading, header, images = _open(reduced, content, profile, library, sky)
        # Nobody else holds the image, so that its memory is free once its pixels have done their part.
        _measure(reduced, header, images.pop(), reading, reference, finish, prior, unplaced, keeper, usual)
    except FrameError as error:
        reduced.file_under(error)
    reduced.notes.add_to(reduced.row)
    if "sky_adu" in reduced.row:
        drop_sky_of_flood(reduced.row)
    reduced.row["flags"] = int(reduced.row["flags"])
    return reduced


def describe_header_row(reading: HeaderReading) -> dict[str, Any]:
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


def _open(
    reduced: ReducedFrame,
    content: FileContent,
    profile: Profile,
    library: Library | None,
    sky: SkyFinder | None,
) -> tuple[HeaderReading, Any, list[Image]]:
    """Return what the header of a frame tells, the header, and the image in a list of its own."""
    raw = open_stored(content, profile.base.header.extension)
    reading = _read_header(reduced, raw, profile)
    refuse_constant(raw, reading.saturation_adu)
    # What was unpacked is half as large as the image, and gone by the end.
    return reading, raw.header, [_calibrate(reduced, raw, reading, library, sky)]


def _read_header(reduced: ReducedFrame, raw: StoredImage, profile: Profile) -> HeaderReading:
    reading = read_header(raw.header, profile, reduced.row["file"].rpartition("/")[2])
    reduced.row.update(describe_header_row(reading), extension=raw.extension)
    if raw.n_further and profile.base.header.extension is None:
        reduced.row["flags"] |= FrameFlag.MORE_IMAGES
    reduced.notes.always += reading.doubts
    if reading.problem is not None:
        reason, message = reading.problem
        raise (FrameSkipped if reason == Reason.NOT_SCIENCE else FrameFailed)(reason, message)
    return reading


def _calibrate(
    reduced: ReducedFrame,
    raw: StoredImage,
    reading: HeaderReading,
    library: Library | None,
    sky: SkyFinder | None,
) -> Image:
    """Choose the masters of a frame and do the steps of its camera."""
    conditions, names = conditions_of(raw, reading, library, sky, str(reduced.row["file"]))
    assumed = FrameFlag.GAIN_ASSUMED | FrameFlag.READ_NOISE_ASSUMED
    flags = (reduced.row["flags"] & ~assumed) | (reading.flags & assumed)
    reduced.row.update(gain_e_per_adu=reading.image_gain, read_noise_e=reading.image_read_noise, flags=flags)
    reduced.row["masters"] = " ".join(names) or None
    return calibrate(raw, reading.camera, conditions)


def _measure(
    reduced: ReducedFrame, header: Any, image: Image, reading: HeaderReading, reference: Reference | None,
    finish: Finisher | None, prior: Prior | None, unplaced: bool, keeper: Keeper | None,
    usual: UsualCorrections | None,
) -> None:  # fmt: skip
    row, camera = reduced.row, reading.camera
    count_pixels(row, image, reduced.notes)
    told = point(header, camera, image)
    _note_place(row, reading, told[0])
    background = estimate_background(image, camera.extraction)
    note_sky(row, image, background, reading.saturation_adu)
    signal = image.pixels - background.level
    detect = partial(_detect, row, pointing=told[0], reference=reference, prior=prior)
    try:
        background, found = _found(row, image, signal, background, reading, detect, keeper)
    except FrameRejected as error:
        reduced.file_under(error)
        nothing = extracted_nothing(row, image, background, signal, reading, prior, usual)
        reduced.finished = finish(nothing) if finish and nothing else None
        raise
    detections, measured = found.detections, found.measured
    located = locate(row, reading, header, image, told, measured, reference, prior)
    if located.pointing is not told[0]:
        row.update(sky_row(reading, located.pointing))
        if not located.lost and camera.header.wcs != "none":
            note_left_out(row, reduced.notes, header, told[1])
    gain, exposure_s = reading.image_gain, reading.exposure_s
    corrections = aperture_corrections(
        image, background, signal, detections, measured, camera.apertures, located.crowding
    )
    extracted = Extracted(
        row, camera, gain, exposure_s, replace(image, pixels=signal), background, signal, detections, measured,
        corrections, located.pointing, found.trails, located.stars,
    )  # fmt: skip
    corrections = corrections if usual is None else usual(extracted)
    measured = replace(measured, apcor=corrections.relative(measured.x, measured.y))
    note_limits(row, Frame(image, background, measured, camera, gain, exposure_s, corrections.factor))
    note_cells(row, measured, image.pixels.shape)
    _judge(row, camera, measured, corrections, located.found)
    flux_err = with_response_error(image, measured.x, measured.y, measured.flux, measured.flux_err)
    reduced.sources = replace(measured, flux_err=flux_err)
    pointing = located.pointing if unplaced else require_right(located, row, camera)
    if pointing is not None:
        reduced.ra_deg, reduced.dec_deg = pointing.to_sky(measured.x, measured.y)
    measured.flags[:] |= _flags_of_all(row)
    if finish is not None:
        # The pixels with their sky have done their part.
        image = extracted.image
        reduced.finished = finish(
            replace(extracted, measured=measured, corrections=corrections, pointing=pointing)
        )


def _note_place(row: dict[str, Any], reading: HeaderReading, told: Pointing | None) -> None:
    """Add where a header says that a frame points, which is worth knowing even of one without sources."""
    if told is not None:
        row.update(pointing_row(told), wcs_source="header")
    row.update(sky_row(reading, told))


def _found(
    row: dict[str, Any],
    image: Image,
    signal: Pixels,
    background: Background,
    reading: HeaderReading,
    detect: Callable[[Image, Pixels, Background, HeaderReading], Detections],
    keeper: Keeper | None,
) -> tuple[Background, Kept]:
    """Return the refined background, and what is found above it, unless that is known."""
    known, camera = None if keeper is None else keeper.recall(row["frame_id"]), reading.camera
    found = detect(image, signal, background, reading) if known is None else known.detections
    row["threshold_sigma"] = found.threshold_sigma
    if found.raised:
        row["flags"] |= FrameFlag.THRESHOLD_RAISED
    background = refine_background(image, background, found, camera.extraction, signal)
    row["sky_adu"] = background.median_level + image.sky.level
    if known is not None:
        note_trails(row, image, signal, found, known.measured, camera.apertures, known.trails)
        return background, known
    gain, exposure_s = reading.image_gain, reading.exposure_s
    measured = measure_sources(image, background, signal, found, camera, gain, exposure_s)
    trails = note_trails(row, image, signal, found, measured, camera.apertures)
    fresh = Kept(found, measured, trails)
    if keeper is not None:
        keeper.keep(row["frame_id"], fresh)
    return background, fresh


def _flags_of_all(row: dict[str, Any]) -> SourceFlag:
    """Return the flags that all sources of a frame have."""
    rejected = SourceFlag(0) if row["status"] == Status.OK else SourceFlag.FRAME_REJECTED
    between = row["flags"] & FrameFlag.WCS_INTERPOLATED
    return rejected | (SourceFlag.WCS_INTERPOLATED if between else SourceFlag(0))


def _detect(
    row: dict[str, Any],
    image: Image,
    signal: Pixels,
    background: Background,
    reading: HeaderReading,
    pointing: Pointing | None,
    reference: Reference | None,
    prior: Prior | None,
) -> Detections:
    """Find sources; where there are none, or holes in their place, say why."""
    camera = reading.camera
    searched = background, image.mask, camera.extraction
    try:
        found = detect_sources(
            signal, background.rms, image.mask, camera.extraction, reading.image_gain, image.variance,
            image.read_variance,
        )  # fmt: skip
    except FrameRejected as error:
        refuse_inverted(signal, *searched, n_found=0)
        if prior is not None and prior.between is not None:
            pointing = pointing_of_lens(prior.between.lens, (signal.shape[0], signal.shape[1]))
            note_between(row, prior.between)
            row.update(pointing_row(pointing), **sky_row(reading, pointing))
        find_stars = None if reference is None else reference.find_stars
        raise empty_frame(row, camera, pointing, find_stars, error) from error
    refuse_inverted(signal, *searched, n_found=len(found.x))
    return found


def _judge(
    row: dict[str, Any],
    camera: Camera,
    measured: Measurements,
    corrections: ApertureCorrections,
    found: Found | None,
) -> None:
    """Add aperture corrections, metrics and verdict to the row."""
    row.update(apcor_row(camera.apertures, corrections))
    if corrections.assumed:
        row["flags"] |= FrameFlag.APCOR_ASSUMED
    metrics = source_metrics(measured)
    row.update({name: getattr(metrics, name) for name in metrics.__slots__})
    apply_gates(row, camera, found)
