"""The report of `skylake camera check` on a file: how its header is read, and what an ingest would do with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from skylake.errors import FrameError

if TYPE_CHECKING:
    from skylake.cameras import HeaderReading, Profile, Reading
    from skylake.core.camera import Camera, Gate
    from skylake.core.frame import StoredImage
    from skylake.image.masters.master_library import Library
    from skylake.lake import Snapshot

_Made = TypeVar("_Made")

#: A scale of the WCS that differs by more from that of the profile is reported.
_SCALE_TOLERANCE = 0.02


#: Names that instruments use for cards in place of the usual ones.
MAY_HOLD = {
    "exposure_s": (
        "EXPOSED",
        "EXPTIME",
        "EXPOSURE",
        "EXP_TIME",
        "ITIME",
        "INTTIME",
        "TEXP",
        "DARKTIME",
        "ELAPTIME",
    ),
    "gain": ("GAIN", "EGAIN", "GAIN1", "CCDGAIN", "GTGAIN1", "INSTGAIN", "ADCGAIN", "DETGAIN"),
    "read_noise": ("RDNOISE", "READNOIS", "READNOISE", "RON", "CCDNOISE", "RDNOISE1", "RNOISE", "DETRON"),
    "filter": (
        "FILTER",
        "FILTER1",
        "FILTER2",
        "FILTERID",
        "FILTNAM",
        "FILTNAME",
        "INSFILTE",
        "FILT_ID",
        "BAND",
    ),
    "ccd_temperature_c": (
        "CCD-TEMP",
        "CCDTEMP",
        "CCDATEMP",
        "DETTEMP",
        "DET-TEMP",
        "DETTEM",
        "SENSTEMP",
        "CAMTEMP",
        "SET-TEMP",
    ),
    "saturation_adu": ("SATURATE", "SATLEVEL", "MAXLIN", "SATURAT", "MAXADU", "DATAMAX"),
}
#: Remark on a camera whose headers have no WCS.
_SOLVED = (
    "headers of this camera have no WCS; an ingest finds it from the stars if the lake has a catalog "
    "(`skylake catalog import`)"
)
_WHOLE_SKY = (
    "an ingest finds it from site, time and the bright stars of a catalog of the lake, which needs no index"
)


def _with_dates(readings: list[Reading], header: HeaderReading) -> list[Reading]:
    """Return the readings with the start as a date, and the night, which people compare with their logs."""
    from datetime import UTC, datetime, timedelta

    from skylake.cameras import Reading
    from skylake.core.batch import night_of

    if header.mjd_start is None or header.mjd_mid is None:
        return readings
    start = datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=header.mjd_start)
    dates = [
        Reading("start_utc", f"{start:%Y-%m-%dT%H:%M:%S}", "mjd_start"),
        Reading("night", night_of(header.mjd_mid, header.camera.site.longitude_deg), "mjd_mid"),
    ]
    place = next(
        (n for n, reading in enumerate(readings, 1) if reading.quantity == "mjd_start"), len(readings)
    )
    return [*readings[:place], *dates, *readings[place:]]


def _further_images(n_further: int, extension: int) -> Reading:
    """Report that a file holds more images than the one that is used."""
    from skylake.cameras import Reading

    note = f"only HDU {extension} is taken; name the right one in header.extension of the profile"
    return Reading("images", n_further + 1, f"HDU {extension}", "ambiguous", note)


def _telescope(header: Any, camera: Camera, mjd: float | None) -> list[Reading]:
    """Return where the cards of the telescope put the centre of the image, and the position angle of its y axis."""
    from skylake.cameras import Reading
    from skylake.core.attitudes import matrix_of_place, pointing_of_attitude
    from skylake.image.solving.expected_pointing import telescope_attitude

    attitude = telescope_attitude(header, camera, mjd)
    if attitude is None:
        return []
    matrix = matrix_of_place(*camera.place_arcsec, camera.place.angle_deg)
    ra, dec, angle = pointing_of_attitude(matrix @ attitude)
    return [
        Reading("telescope", f"{ra:.4f} {dec:+.4f}", "cards"),
        Reading("telescope_rotation", angle, "cards"),
    ]


def _scale(pixel_scale_arcsec: float, camera: Camera) -> Reading:
    """Report the scale of the WCS, and whether it is that of the profile."""
    from skylake.cameras import Reading

    scale = camera.optics.pixel_scale_arcsec
    if scale is None or abs(pixel_scale_arcsec / scale - 1.0) <= _SCALE_TOLERANCE:
        return Reading("pixel_scale_arcsec", pixel_scale_arcsec, "WCS")
    note = f"the profile says {scale:g}; fix optics.pixel_scale_arcsec unless the WCS is wrong"
    return Reading("pixel_scale_arcsec", pixel_scale_arcsec, "WCS", "ambiguous", note)


def _site(header: HeaderReading) -> list[Reading]:
    """Report which values are unknown for a profile without a site."""
    from skylake.cameras import Reading

    if header.camera.site.known:
        return []
    note = "nights run from noon to noon UTC, and neither Sun, Moon nor airmass is known; give [site] in the profile"
    return [Reading("site", None, "profile", "missing", note)]


def _cards_of_use(cards: Any, reading: HeaderReading, rows: list[Reading]) -> list[Reading]:
    """Name cards that usually hold a value that was not found, under names that the profile does not have."""
    from skylake.cameras import Reading

    header = reading.camera.header
    looked_at = {
        "exposure_s": header.exposure.cards,
        "gain": header.gain.cards,
        "read_noise": header.read_noise.cards,
        "filter": header.filter,
        "saturation_adu": header.saturation.cards,
        "ccd_temperature_c": header.temperature.cards,
    }
    keys = {
        "exposure_s": "exposure.cards",
        "gain": "gain.cards",
        "read_noise": "read_noise.cards",
        "filter": "filter",
        "saturation_adu": "saturation.cards",
        "ccd_temperature_c": "temperature.cards",
    }
    missing = {
        row.quantity
        for row in rows
        # A filter that the profile has no band for was found.
        if row.verdict in ("assumed", "missing") and not (row.quantity == "filter" and row.value)
    }
    readings = []
    for quantity, known in looked_at.items():
        near = [name for name in MAY_HOLD[quantity] if name in cards and name not in known]
        if quantity in missing and near:
            stated = ", ".join(f"{name} = {cards[name]}" for name in near)
            note = f"the header has {stated}; if that is it, name the card in header.{keys[quantity]} of the profile"
            readings.append(Reading(quantity, None, " ".join(near), "ambiguous", note))
    return readings


def _sun(header: HeaderReading) -> list[Reading]:
    """Report the altitude of the Sun where time and site are known: a wrong zone or longitude shows in it."""
    from skylake.cameras import Reading
    from skylake.core.ephemeris import sun_and_moon

    camera = header.camera
    if header.mjd_mid is None or not camera.site.known:
        return []
    altitude = float(sun_and_moon(header.mjd_mid, camera.site).sun_altitude_deg)
    gate = camera.gates.get("sun_altitude_deg")
    if altitude > 0.0:
        note = "the Sun is up; see whether header.time.zone_hours and site.longitude_deg are right"
        return [Reading("sun_altitude_deg", altitude, "mjd_mid, site", "ambiguous", note)]
    if gate is not None and not gate.passes(altitude):
        note = "outside gates.sun_altitude_deg, as in twilight"
        return [Reading("sun_altitude_deg", altitude, "mjd_mid, site", "ok", note)]
    return [Reading("sun_altitude_deg", altitude, "mjd_mid, site")]


def _temperature(reading: HeaderReading) -> list[Reading]:
    """Report that no card gives the temperature of the detector, where masters are chosen by it."""
    from skylake.cameras import Reading
    from skylake.image.masters.master_library import needed

    camera = reading.camera
    if reading.ccd_temperature_c is not None or not needed(camera.reduction.steps):
        return []
    looked = ", ".join(camera.header.temperature.cards) or "any card"
    note = (
        f"no number in {looked}: masters fit at any temperature; give header.temperature.cards of the profile"
    )
    return [Reading("ccd_temperature_c", None, "", "missing", note)]


#: Without gates on these, frames in daylight, trailed, defocused or through clouds pass.
_CAUSES = ("sun_altitude_deg", "mean_ellipticity", "fwhm_px", "found_fraction")


def _gates(camera: Camera) -> Reading:
    """Report the gates in force, in the order in which they are judged, and which causes none is on."""
    from skylake.cameras import Reading

    limits = ", ".join(f"{name} {_limits(gate)}" for name, gate in camera.gates.items()) or "none"
    missing = [name for name in _CAUSES if name not in camera.gates]
    note = f"{limits}; none on {', '.join(missing)}" if camera.gates and missing else limits
    return Reading("gates", len(camera.gates), "profile", "ok", note)


def _limits(gate: Gate) -> str:
    low = f">= {gate.min:g}" if gate.min is not None else ""
    high = f"<= {gate.max:g}" if gate.max is not None else ""
    return " and ".join(filter(None, [low, high])) + (" (warn)" if gate.action == "warn" else "")


def _note_kind(result: dict[str, Any], rows: list[Reading], reading: HeaderReading) -> list[Reading]:
    """Report the kind of a bias, dark or flat, and leave out values that such a frame does not need."""
    from dataclasses import replace

    from skylake.cameras.frame_kinds import calibration_kind
    from skylake.core.reasons import Reason

    if reading.problem is None or reading.problem[0] != Reason.NOT_SCIENCE:
        return rows
    kind = calibration_kind(reading.kind, reading.camera.header)
    note = "no frame of the sky, and neither in header.bias_kinds, dark_kinds nor flat_kinds"
    if kind is not None:
        result["taken_as"], note = kind, f"-> {kind}; no frame of the sky, but for `skylake calib build`"
    idle = {"bias": ("filter", "band", "exposure_s"), "dark": ("filter", "band")}.get(kind or "", ())
    return [
        replace(row, note=note) if row.quantity == "kind" else row
        for row in rows
        if row.quantity not in idle or row.verdict == "ok"
    ]


class _Attempt:
    """Runs actions that may fail, and keeps the first failure in the result."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.result = result

    def __call__(self, action: Callable[[], _Made]) -> _Made | None:
        """Return the result of an action; None if the frame cannot be processed because of it."""
        try:
            return action()
        except FrameError as error:
            self.fail(error.reason, str(error))
        return None

    def fail(self, reason: str, message: str) -> None:
        """Keep a reason, unless there was one before."""
        if self.result["reason"] is None:
            self.result.update(reason=str(reason), message=message)


def check_file(file: Path, profile: Profile, snapshot: Snapshot | None = None) -> dict[str, Any]:
    """Read the header of a file as an ingest would, and try its steps on the pixels.

    Parameters
    ----------
    file : Path
    profile : Profile
    snapshot : Snapshot or None
        Of the lake with the masters that raw frames are compared with.

    Returns
    -------
    dict
        file, usable, reason and message (None for a usable frame), taken_as (the kind of a calibration frame, else
        None), readings and doubts, lists of dicts.
    """
    import dataclasses

    from skylake.cameras import read_header
    from skylake.image.fitsio.read_fits import open_stored, read_file
    from skylake.image.reduction.frame_record import ReduceParams
    from skylake.image.reduction.reduce_frame import reduce_frame
    from skylake.image.wcs.agreed_cards import agreed_cards

    result: dict[str, Any] = {
        "file": str(file),
        "usable": False,
        "reason": None,
        "message": None,
        "taken_as": None,
        "readings": [],
        "doubts": [],
    }
    attempt = _Attempt(result)
    content = attempt(lambda: read_file(file))
    if content is None:
        return result
    raw = attempt(lambda: open_stored(content, profile.base.header.extension))
    if raw is None:
        return result
    reading = attempt(lambda: read_header(raw.header, profile, file.name))
    if reading is None:
        return result
    rows = _of_header(raw, reading, profile, result)
    if reading.problem is not None:
        attempt.fail(*reading.problem)
    library = _library(snapshot, profile)
    if result["taken_as"] is None:
        rows = _of_sky(raw, reading, rows, library, file, attempt)
        result["usable"] = result["reason"] is None
    doubts = [*reading.doubts, *(() if reading.camera.header.wcs == "none" else agreed_cards(raw.header)[1])]
    if result["usable"]:
        # The stars of a frame may contradict its header, too.
        doubts = [*reduce_frame(content, profile, ReduceParams(library=library)).doubts]
    result["readings"] = [dataclasses.asdict(row) for row in rows]
    result["doubts"] = [dataclasses.asdict(doubt) for doubt in doubts]
    return result


def _library(snapshot: Snapshot | None, profile: Profile) -> Library:
    from skylake.flow.masters.build_masters import library_of
    from skylake.image.masters.master_library import Library

    return Library(Path()) if snapshot is None else library_of(snapshot, profile.name)


def _of_header(
    raw: StoredImage, reading: HeaderReading, profile: Profile, result: dict[str, Any]
) -> list[Reading]:
    """Return the report on every frame."""
    from skylake.cameras import describe_header
    from skylake.cameras.unused_keys import unused_readings

    rows = _with_dates(describe_header(raw.header, reading), reading)
    if raw.n_further and profile.base.header.extension is None:
        rows.append(_further_images(raw.n_further, raw.extension))
    rows = _note_kind(result, rows + _temperature(reading), reading)
    return rows + _cards_of_use(raw.header, reading, rows) + unused_readings(reading.camera) + _site(reading)


def _of_sky(
    raw: StoredImage,
    reading: HeaderReading,
    rows: list[Reading],
    library: Library,
    file: Path,
    attempt: _Attempt,
) -> list[Reading]:
    """Return the report on a frame of the sky, even if its pixels cannot be prepared."""
    from skylake.cli.camera_steps import note_masters, try_steps

    camera = reading.camera
    rows = note_masters(raw, reading, rows, library, file, attempt)
    rows = [*rows, *_telescope(raw.header, camera, reading.mjd_mid), *_sun(reading), _gates(camera)]
    if attempt.result["reason"] is None:
        try_steps(raw, reading, library, file, attempt)
    # A frame that looks like a bias, dark or flat has no pointing.
    looks_odd = any(row.quantity == "kind" and row.verdict == "ambiguous" for row in rows)
    return rows if looks_odd else rows + _place(raw, camera, attempt)


def _place(raw: StoredImage, camera: Camera, attempt: _Attempt) -> list[Reading]:
    """Report the pointing of the header, which needs no pixels."""
    from skylake.cameras import Reading
    from skylake.core.reasons import Reason
    from skylake.image.allsky.allsky_pointing import NO_SITE
    from skylake.image.detrend.detrend_steps import image_grid, trim_window
    from skylake.image.wcs.header_wcs import header_pointing

    if camera.astrometry.all_sky:
        if camera.site.known:
            return [Reading("centre", None, "site, time and stars", "ok", _WHOLE_SKY)]
        attempt.fail(Reason.NO_WCS, NO_SITE)
        return [Reading("centre", None, "", "missing", NO_SITE)]
    if camera.header.wcs == "none" and camera.astrometry.solve:
        return [Reading("centre", None, "the stars", "ok", _SOLVED)]

    def pointing() -> Any:
        offset, raw_step = image_grid(raw.shape, camera)
        rows, columns = slice(0, raw.shape[0]), slice(0, raw.shape[1])
        if "trim" in camera.reduction.steps:
            rows, columns = trim_window(raw.shape, camera.detector)
        shape = (rows.stop - rows.start) // raw_step, (columns.stop - columns.start) // raw_step
        return header_pointing(raw.header, camera, shape, offset, raw_step), raw_step

    seen = attempt(pointing)
    if seen is None:
        return []
    # The profile has the scale of raw pixels, and planes of a mosaic have every other of them.
    centre, step = seen
    place = f"{centre.ra_deg:.4f} {centre.dec_deg:+.4f}"
    return [Reading("centre", place, "WCS"), _scale(centre.pixel_scale_arcsec / step, camera)]
