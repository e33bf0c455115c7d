"""Everything that is particular to one frame, decided before the first pixel is made."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Camera, Site
from skylake.core.ephemeris import horizon_axes, sun_and_moon
from skylake.core.sphere import tangent_basis
from skylake.simulate.atmosphere import (
    Clouds,
    airmass_at,
    clouds_of_night,
    scintillation,
    seeing_wander,
    sky_brightening,
    zeropoint_wander,
)
from skylake.simulate.observatory import Observatory
from skylake.simulate.optics import SimulatedPointing
from skylake.simulate.random_streams import generator
from skylake.simulate.scenario import Scenario, WcsKind
from skylake.simulate.schedule import Slot
from skylake.simulate.simulated_chips import Telescope, header_telescope, pointing_of_chip
from skylake.simulate.streaks import Streak, draw_streak
from skylake.simulate.world import World, world

_SECONDS_PER_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class PlannedFrame:
    """One frame of the sky: where, when and through what.

    Attributes
    ----------
    index : int
        Number of the frame in the whole simulation, from 0.
    night, number : int
        Night as YYYYMMDD and number of the frame in it, from 1.
    file : str
        Path relative to the folder of the simulation.
    field, object : int, str
        Index and name of the field.
    mjd_start, exposure_s : float
        Start (MJD, UTC) and length of the exposure.
    pointing, header_pointing : SimulatedPointing, SimulatedPointing or None
        The true astrometric solution, and that of the header.
    telescope : Telescope
        Where the telescope points by its cards.
    wcs : str
        ``good``, ``wrong`` or ``absent``: the WCS of the header.
    airmass : float
        Of the centre of the image at mid-exposure.
    zeropoint : float
        Mag of 1 ADU/s at the centre of the image and the pivot colour, extinction and clouds included.
    clouds : Clouds
        Clouds before the field.
    scintillation : float
        Relative noise of every star.
    fwhm_px : float
        At the centre of the image.
    sky_adu_per_s, sky_gradient_x, sky_gradient_y : float
        Sky per pixel at the centre, and its relative change to the corners.
    streak : Streak or None
        The trail of a satellite.
    """

    index: int
    night: int
    number: int
    file: str
    field: int
    object: str
    mjd_start: float
    exposure_s: float
    pointing: SimulatedPointing
    header_pointing: SimulatedPointing | None
    telescope: Telescope
    wcs: WcsKind
    airmass: float
    zeropoint: float
    clouds: Clouds
    scintillation: float
    fwhm_px: float
    sky_adu_per_s: float
    sky_gradient_x: float
    sky_gradient_y: float
    streak: Streak | None

    @property
    def mjd_mid(self) -> float:
        """Middle of the exposure, MJD, UTC."""
        return self.mjd_start + 0.5 * self.exposure_s / _SECONDS_PER_DAY


@dataclass(frozen=True, slots=True)
class _Weather:
    """Conditions that hold from frame to frame, for one frame."""

    clouds: Clouds
    zeropoint_change: float
    seeing: float


def plan(scenario: Scenario) -> list[PlannedFrame]:
    """Return the frames of a scenario in the order of time.

    Raises
    ------
    ConfigurationError
        If the profile of the camera cannot be simulated.
    UsageError
        If the timetable is impossible.
    """
    here = world(scenario)
    weather = _weather(scenario, here.slots)
    count = len(here.slots)
    wcs = _dealt(
        scenario, "wcs", count, scenario.header.wrong_wcs_fraction, scenario.header.absent_wcs_fraction
    )
    streaks = _dealt(scenario, "streaks", count, scenario.streak_fraction, 0.0)
    frames = []
    for index, slot in enumerate(here.slots):
        frame = _planned(scenario, here, index, slot, weather[index])
        kind: WcsKind = ("good", "wrong", "absent")[wcs[index]]
        frame = replace(frame, wcs=kind, header_pointing=_header_pointing(scenario, frame, kind))
        frames.append(replace(frame, streak=_streak(scenario, here, frame)) if streaks[index] else frame)
    return frames


def _dealt(scenario: Scenario, name: str, count: int, first: float, second: float) -> npt.NDArray[np.int64]:
    """Return 1 for a fraction of the frames, 2 for another and 0 for the rest, in random order."""
    kinds = np.zeros(count, np.int64)
    ones = round(first * count)
    kinds[:ones] = 1
    kinds[ones : ones + round(second * count)] = 2
    return generator(scenario.seed, name).permutation(kinds)


def _weather(scenario: Scenario, slots: tuple[Slot, ...]) -> list[_Weather]:
    per_night, params = scenario.frames_per_night, scenario.atmosphere
    weather: list[_Weather] = []
    for i in range(scenario.nights):
        random = generator(scenario.seed, "weather", slots[i * per_night].night)
        # Rounded so that the whole run, not each night, has the wanted fraction.
        before, after = (round(params.cloudy_fraction * per_night * nights) for nights in (i, i + 1))
        changes = zeropoint_wander(random, per_night, params)
        seeing = seeing_wander(random, per_night, scenario.optics.fwhm_rms)
        clouds = clouds_of_night(random, per_night, after - before, params)
        weather += [
            _Weather(cloud, float(change), float(factor))
            for cloud, change, factor in zip(clouds, changes, seeing, strict=True)
        ]
    return weather


def _planned(scenario: Scenario, here: World, index: int, slot: Slot, weather: _Weather) -> PlannedFrame:
    place, random = here.observatory, generator(scenario.seed, "frame", index)
    params, camera = scenario.atmosphere, place.profile.at(slot.mjd_start)
    middle = slot.mjd_start + 0.5 * scenario.exposure_s / _SECONDS_PER_DAY
    nominal = _pointing(scenario, here, slot, middle, random)
    axis = Telescope(nominal.ra_deg, nominal.dec_deg, nominal.rotation_deg)
    pointing = _of_chip(scenario, camera, nominal, axis)
    air = float(airmass_at(pointing.ra_deg, pointing.dec_deg, middle, camera.site))
    angle = random.uniform(0.0, 2.0 * np.pi)
    slope = params.sky_gradient * random.uniform(0.5, 1.5)
    stem = f"{place.profile.name}_{slot.night:08d}_{slot.number:04d}"
    zeropoint = (
        place.zeropoint_adu(camera) + weather.zeropoint_change - place.extinction * air - weather.clouds.mag
    )
    return PlannedFrame(
        index=index,
        night=slot.night,
        number=slot.number,
        file=f"frames/{slot.night:08d}/{stem}.{scenario.file_form}",
        field=slot.field,
        object=here.fields[slot.field].name,
        mjd_start=slot.mjd_start,
        exposure_s=scenario.exposure_s,
        pointing=pointing,
        header_pointing=None,
        telescope=header_telescope(scenario, index, axis),
        wcs="absent",
        airmass=air,
        zeropoint=zeropoint,
        clouds=weather.clouds,
        scintillation=scintillation(params, camera.optics.diameter_m, camera.site, air, scenario.exposure_s),
        fwhm_px=scenario.optics.fwhm_px * weather.seeing,
        sky_adu_per_s=_sky(scenario, place, camera, pointing, air, middle),
        sky_gradient_x=float(slope * np.cos(angle)),
        sky_gradient_y=float(slope * np.sin(angle)),
        streak=None,
    )


def _pointing(
    scenario: Scenario, here: World, slot: Slot, mjd_mid: float, random: np.random.Generator
) -> SimulatedPointing:
    place, field, optics = here.observatory, here.fields[slot.field], scenario.optics
    turn = _rotation(scenario, place.profile.base.site, field.ra_deg, field.dec_deg, mjd_mid, random)
    nominal = SimulatedPointing(
        field.ra_deg, field.dec_deg, turn, place.scale_arcsec, place.shape, optics.distortion, optics.mirrored
    )
    shift = random.uniform(-1.0, 1.0, 2) * scenario.schedule.dither_px
    ra, dec = nominal.pixel_to_sky(nominal.centre_px[0] + shift[0], nominal.centre_px[1] + shift[1])
    return replace(nominal, ra_deg=float(ra), dec_deg=float(dec))


def _of_chip(
    scenario: Scenario, camera: Camera, nominal: SimulatedPointing, axis: Telescope
) -> SimulatedPointing:
    """Return the pointing of a detector of a mosaic; another is on the axis of its telescope."""
    if not camera.place.chip:
        return nominal
    seen = pointing_of_chip(scenario, camera, axis)
    mirrored = scenario.optics.mirrored if camera.astrometry.mirrored is None else camera.astrometry.mirrored
    return replace(
        nominal, ra_deg=seen.ra_deg, dec_deg=seen.dec_deg, rotation_deg=seen.angle_deg, mirrored=mirrored
    )


def _rotation(
    scenario: Scenario, site: Site, ra_deg: float, dec_deg: float, mjd: float, random: np.random.Generator
) -> float:
    params = scenario.schedule
    if params.rotation == "random":
        return float(random.uniform(0.0, 360.0))
    if params.rotation == "fixed" or not site.known:
        return params.rotation_deg
    zenith = horizon_axes(mjd, site)[0]
    east, north = tangent_basis(ra_deg, dec_deg)
    return float(np.degrees(np.arctan2(zenith @ east, zenith @ north)) + params.rotation_deg) % 360.0


def _sky(
    scenario: Scenario,
    place: Observatory,
    camera: Camera,
    pointing: SimulatedPointing,
    air: float,
    mjd: float,
) -> float:
    state = sun_and_moon(mjd, camera.site)
    bright = sky_brightening(
        pointing.ra_deg, pointing.dec_deg, place.extinction, air, state, scenario.atmosphere
    )
    return place.sky_e_per_s / camera.detector.gain_e_per_adu * bright


def _header_pointing(scenario: Scenario, frame: PlannedFrame, kind: WcsKind) -> SimulatedPointing | None:
    """Return the astrometric solution of the header."""
    if kind != "wrong":
        return frame.pointing if kind == "good" else None
    random = generator(scenario.seed, "wrong wcs", frame.index)
    away = random.uniform(0.5, 1.0) * scenario.header.wrong_offset_arcmin / 60.0
    angle = random.uniform(0.0, 2.0 * np.pi)
    pixels = away * 3600.0 / frame.pointing.scale_arcsec
    x, y = frame.pointing.centre_px
    ra, dec = replace(frame.pointing, distortion=0.0).pixel_to_sky(
        x + pixels * np.cos(angle), y + pixels * np.sin(angle)
    )
    # Half of the wrong headers are turned as well.
    turn = random.uniform(5.0, 355.0) if random.random() < 0.5 else 0.0
    rotation = (frame.pointing.rotation_deg + turn) % 360.0
    return replace(frame.pointing, ra_deg=float(ra), dec_deg=float(dec), rotation_deg=rotation)


def _streak(scenario: Scenario, here: World, frame: PlannedFrame) -> Streak:
    """Return a trail whose ridge stands 5 to 100 standard deviations above the sky."""
    random = generator(scenario.seed, "streak", frame.index)
    detector = here.observatory.profile.at(frame.mjd_start).detector
    gain = detector.gain_e_per_adu
    electrons = frame.sky_adu_per_s * frame.exposure_s * gain + detector.read_noise_e**2
    ridge = 5.0 * 20.0 ** random.random() * np.sqrt(electrons) / gain
    return draw_streak(random, here.observatory.shape, float(ridge * frame.fwhm_px * 1.06))
