"""One frame: stars through sky, optics and detector into a file, and the truth about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from skylake.cameras.compose_header import FrameFacts, compose_header
from skylake.core.camera import Camera
from skylake.core.ephemeris import barycentric_jd
from skylake.core.sphere import apply_proper_motion, julian_epoch
from skylake.simulate.atmosphere import airmass_at
from skylake.simulate.colours import magnitude
from skylake.simulate.detector import detector_maps, read_out
from skylake.simulate.fits_file import Card, write_frame
from skylake.simulate.observatory import Observatory, saturation_level
from skylake.simulate.optics import field_radius, point_spread
from skylake.simulate.planning import PlannedFrame
from skylake.simulate.population import StarPopulation
from skylake.simulate.random_streams import generator
from skylake.simulate.scenario import Scenario
from skylake.simulate.simulated_chips import telescope_cards
from skylake.simulate.stamps import Image, render
from skylake.simulate.streaks import add_streak
from skylake.simulate.truth import DetectionColumns, FrameTruth, detection_table, frame_row
from skylake.simulate.variables import Kind, magnitude_change
from skylake.simulate.world import field_stars, world

_Array = npt.NDArray[np.float64]

_SENSOR_TEMPERATURE_C = -20.0
#: Stars farther outside the image than this do not light it.
_BEYOND_PX = 250.0
#: The truth of a frame holds stars down to this far below the detection limit.
_TRUTH_BELOW_LIMIT_MAG = 0.5


@dataclass(frozen=True, slots=True)
class VisibleStars:
    """Stars in and near the image of one frame, as arrays of equal length.

    Attributes
    ----------
    stars : StarPopulation
        Who they are.
    x_px, y_px : ndarray
        Where they are at mid-exposure.
    mag : ndarray
        Magnitude in the band of the frame at mid-exposure; inf for a transient that is not there.
    flux_adu_per_s : ndarray
        Total flux that arrives on average: extinction and clouds included, scintillation not.
    scintillation : ndarray
        The factor by which this exposure's flux differs.
    """

    stars: StarPopulation
    x_px: _Array
    y_px: _Array
    mag: _Array
    flux_adu_per_s: _Array
    scintillation: _Array


def simulate_frame(frame: PlannedFrame, scenario: Scenario, out: Path) -> FrameTruth:
    """Make one frame below `out` and return what is true of it.

    The result follows from the arguments alone, so frames can be made in any order and process.

    Parameters
    ----------
    frame : PlannedFrame
        One of :func:`skylake.simulate.plan`.
    scenario : Scenario
        The simulation that it belongs to.
    out : Path
        Folder of the simulation; the file is ``out / frame.file``.

    Notes
    -----
    In reduced frames the sky is flat and stars keep the flux of the stated zeropoint: the change of the
    pixels' area by distortion, which a real flat field would put into one or the other, is left out.
    """
    place = world(scenario).observatory
    camera = place.profile.at(frame.mjd_start)
    chip = camera.place.chip
    random = generator(scenario.seed, "pixels", frame.index, *((chip,) if chip else ()))
    visible = visible_stars(frame, scenario, random)
    image = _stars_image(frame, scenario, camera, visible)
    if frame.streak is not None:
        add_streak(image, frame.streak, frame.fwhm_px)
    image += _sky_image(frame, place)
    image *= detector_maps(scenario).response
    image *= np.float32(camera.detector.gain_e_per_adu)
    stored = read_out(image, frame.exposure_s, camera, scenario, random)
    write_frame(
        out / frame.file,
        stored,
        frame_cards(frame, place, camera),
        scenario.file_form,
        scenario.pixel_form,
        camera.header.extension,
    )
    columns = _detections(frame, scenario, camera, visible, stored)
    return FrameTruth(frame_row(frame, scenario, len(columns.star_id)), detection_table(columns, frame))


def visible_stars(frame: PlannedFrame, scenario: Scenario, random: np.random.Generator) -> VisibleStars:
    """Return the stars in and near the image of a frame."""
    place = world(scenario).observatory
    stars = field_stars(scenario, frame.field)
    years = float(julian_epoch(frame.mjd_mid)) - 2000.0
    ra, dec = apply_proper_motion(stars.ra_deg, stars.dec_deg, stars.pm_ra_mas_yr, stars.pm_dec_mas_yr, years)
    x, y = frame.pointing.sky_to_pixel(ra, dec)
    height, width = place.shape
    near = (np.abs(x - width / 2) < width / 2 + _BEYOND_PX) & (
        np.abs(y - height / 2) < height / 2 + _BEYOND_PX
    )
    # Drawn for all stars of the field, so that a star's luck does not depend on the dither.
    luck = np.maximum(1.0 + frame.scintillation * random.standard_normal(len(stars)), 0.0)[near]
    stars, x, y, ra, dec = stars.take(near), x[near], y[near], ra[near], dec[near]
    mag = magnitude(place.filter_band.band, stars.v_mag, stars.b_minus_v) + _change(frame, place, stars)
    colour = scenario.atmosphere.colour_term * place.colour_offset(stars.b_minus_v)
    zeropoint = frame.zeropoint - _local_extinction(frame, scenario, place, (x, y), (ra, dec))
    return VisibleStars(stars, x, y, mag, 10.0 ** (-0.4 * (mag - zeropoint - colour)), luck)


def _change(frame: PlannedFrame, place: Observatory, stars: StarPopulation) -> _Array:
    """Return how much fainter than usual the stars are."""
    change = np.zeros(len(stars))
    varying = np.flatnonzero(stars.kind != Kind.CONSTANT)
    some = stars.take(varying)
    if len(some):
        time = barycentric_jd(frame.mjd_mid, some.ra_deg, some.dec_deg, place.profile.base.site)
        change[varying] = magnitude_change(some.kind, some.period_d, some.amplitude_mag, some.epoch_bjd, time)
    return change


def _local_extinction(
    frame: PlannedFrame,
    scenario: Scenario,
    place: Observatory,
    pixels: tuple[_Array, _Array],
    sky: tuple[_Array, _Array],
) -> _Array:
    """Return extinction beyond that of the centre, mag: by the airmass of each star and by clouds."""
    centre_x, centre_y = frame.pointing.centre_px
    u, v = ((pixels[0] - centre_x), (pixels[1] - centre_y))
    diagonal = frame.pointing.half_diagonal_px
    clouds = (frame.clouds.gradient_x * u + frame.clouds.gradient_y * v) / diagonal
    clouds = np.maximum(clouds, -frame.clouds.mag)
    if not scenario.atmosphere.differential:
        return np.asarray(clouds)
    air = airmass_at(*sky, frame.mjd_mid, place.profile.base.site)
    return np.asarray(clouds + place.extinction * (air - frame.airmass))


def _stars_image(frame: PlannedFrame, scenario: Scenario, camera: Camera, visible: VisibleStars) -> Image:
    place, detector = world(scenario).observatory, camera.detector
    psf = point_spread(scenario.optics, frame.fwhm_px, place.shape, visible.x_px, visible.y_px)
    sky_e = frame.sky_adu_per_s * frame.exposure_s * detector.gain_e_per_adu
    noise = float(np.sqrt(sky_e + detector.read_noise_e**2)) / detector.gain_e_per_adu
    flux = visible.flux_adu_per_s * visible.scintillation * frame.exposure_s
    return render(place.shape, visible.x_px, visible.y_px, flux, psf, noise, detector.gain_e_per_adu)


def _sky_image(frame: PlannedFrame, place: Observatory) -> Image:
    x, y, _ = field_radius(place.shape)
    level = frame.sky_adu_per_s * frame.exposure_s
    along_x = (level * frame.sky_gradient_x * x).astype(np.float32)
    along_y = (level * (1.0 + frame.sky_gradient_y * y)).astype(np.float32)
    return along_x + along_y


def frame_cards(frame: PlannedFrame, place: Observatory, camera: Camera) -> list[Card]:
    """Return the header of a frame in the dialect of its camera."""
    temperature = _SENSOR_TEMPERATURE_C if camera.header.temperature.cards else None
    facts = FrameFacts(frame.mjd_start, frame.exposure_s, place.filter_name, frame.object, temperature)
    cards = compose_header(camera, facts) + telescope_cards(camera, frame.telescope)
    if frame.header_pointing is not None:
        cards += frame.header_pointing.cards(place.origin_px)
    return cards


def _detections(
    frame: PlannedFrame, scenario: Scenario, camera: Camera, visible: VisibleStars, stored: Image
) -> DetectionColumns:
    """Return the truth of the stars inside the image that are bright enough to matter."""
    place = world(scenario).observatory
    height, width = place.shape
    column, row = np.rint(visible.x_px).astype(int), np.rint(visible.y_px).astype(int)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    inside &= visible.mag < place.detection_limit + _TRUTH_BELOW_LIMIT_MAG
    column, row = column[inside], row[inside]
    full = np.rint(stored[place.lit]) >= saturation_level(camera, scenario)
    saturated = np.zeros(column.size, bool)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            saturated |= full[np.clip(row + dy, 0, height - 1), np.clip(column + dx, 0, width - 1)]
    return DetectionColumns(
        visible.stars.star_id[inside],
        visible.x_px[inside],
        visible.y_px[inside],
        visible.mag[inside],
        visible.flux_adu_per_s[inside],
        visible.scintillation[inside],
        saturated,
    )
