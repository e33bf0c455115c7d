"""The first stages of the reduction: what the header of a frame says, and its calibrated image."""

from __future__ import annotations

from skylake.cameras import HeaderReading, Profile, read_header
from skylake.core.batch import UNDATED, night_of
from skylake.core.flags import FrameFlag
from skylake.core.frame import Image, StoredImage
from skylake.core.frame_row import FrameRow
from skylake.core.frame_step import Notes, Refused, RowPart, Step, joined
from skylake.core.reasons import Reason
from skylake.errors import FrameError, FrameFailed, FrameSkipped
from skylake.image.detrend.detrend_chain import calibrate
from skylake.image.detrend.frame_conditions import conditions_of
from skylake.image.fitsio.read_fits import refuse_constant
from skylake.image.quality.frame_notes import count_pixels
from skylake.image.reduction.reduce_params import ReduceParams

_ASSUMED = FrameFlag.GAIN_ASSUMED | FrameFlag.READ_NOISE_ASSUMED


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
        Path of the file, whose name may tell the time.
    """
    reading = read_header(stored.header, profile, file.rpartition("/")[2])
    columns = header_row(reading)
    columns["extension"] = stored.extension
    if stored.n_further and profile.base.header.extension is None:
        columns["flags"] |= FrameFlag.MORE_IMAGES
    part = RowPart(columns, notes=Notes(tuple(reading.doubts)))
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
    conditions, names = conditions_of(stored, reading, params.library, params.sky, file)
    columns: FrameRow = {
        "gain_e_per_adu": reading.image_gain,
        "read_noise_e": reading.image_read_noise,
        "masters": " ".join(names) or None,
        "flags": reading.flags & _ASSUMED,
    }
    part = RowPart(columns, cleared=_ASSUMED)
    try:
        image = calibrate(stored, reading.camera, conditions)
    except FrameError as error:
        return Refused(error, part)
    return Step(image, joined(part, count_pixels(image)))
