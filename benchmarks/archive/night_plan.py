"""The frames of one night of a season: when, where and through what.

Unlike :mod:`skylake.simulate.planning`, every night follows from its date alone: no night needs those
before it, and nothing grows with their number.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from archive.scenario import ArchiveScenario
from archive.season import Season, field_pointing, season
from skylake.core.camera import Camera, Site
from skylake.core.ephemeris import SkyState, alt_az, horizon_axes, sun_and_moon
from skylake.core.sphere import ra_dec, unit_vectors
from skylake.errors import UsageError
from skylake.simulate.atmosphere import (
    airmass_at,
    clouds_of_night,
    scintillation,
    seeing_wander,
    sky_brightening,
    zeropoint_wander,
)
from skylake.simulate.observatory import Observatory
from skylake.simulate.random_streams import generator
from skylake.simulate.schedule import Field, dark_hours

_Array = npt.NDArray[np.float64]
_SECONDS_PER_DAY = 86400.0
_MOON_DISTANCE_DEG = 30.0
#: The hour angle that a night prefers is drawn up to so far from the meridian.
_HOUR_ANGLE_DEG = 45.0
#: Steps in which the dark hours are searched for fields that are up, and the reserve that leaves.
_STEPS, _RESERVE_DEG = 144, 2.0
#: How far the camera turns on its mount from frame to frame, rms.
TURN_RMS_DEG = 0.01


class Fate(IntEnum):
    """What is wrong with a frame before anybody looks at its stars."""

    GOOD = 0
    TRAILED = 1
    WRONG_WCS = 2
    NO_WCS = 3
    FAILED = 4


@dataclass(frozen=True, slots=True)
class NightPlan:
    """The frames of a night; arrays of shape (frames,), in the order of time.

    Attributes
    ----------
    night : int
    camera : Camera
        As it was in that night.
    number, field : ndarray of int
        Number of the frame in the night, from 1, and index of its field.
    mjd_start, mjd_mid : ndarray
        MJD, UTC.
    ra_deg, dec_deg, rotation_deg : ndarray
        Where the centre of the image points, and the position angle of +y.
    airmass, zeropoint, cloud_mag, scintillation, fwhm_px, sky_adu_per_s : ndarray
        As in :class:`skylake.simulate.planning.PlannedFrame`.
    fate : ndarray of int
        Members of :class:`Fate`.
    sky : SkyState
        Sun and Moon.
    """

    night: int
    camera: Camera
    number: npt.NDArray[np.int64]
    field: npt.NDArray[np.int64]
    mjd_start: _Array
    mjd_mid: _Array
    ra_deg: _Array
    dec_deg: _Array
    rotation_deg: _Array
    airmass: _Array
    zeropoint: _Array
    cloud_mag: _Array
    scintillation: _Array
    fwhm_px: _Array
    sky_adu_per_s: _Array
    fate: npt.NDArray[np.int64]
    sky: SkyState

    def __len__(self) -> int:
        return self.number.size


def plan_night(scenario: ArchiveScenario, night: int) -> NightPlan:
    """Return the frames of one night.

    Raises
    ------
    UsageError
        If the night is too short, the Sun does not set, or no field is up.
    """
    here = season(scenario)
    place, site = here.observatory, here.observatory.profile.base.site
    start = _start_times(scenario, night, here.fields, site)
    middle = start + 0.5 * scenario.exposure_s / _SECONDS_PER_DAY
    camera = place.profile.at(float(start[0]))
    sky = sun_and_moon(middle, site)
    field = _choose_fields(scenario, here.fields, night, middle, sky, site)
    random = generator(scenario.seed, "night", night)
    ra, dec, rotation = _pointings(scenario, here, field, random)
    air = np.asarray(airmass_at(ra, dec, middle, site))
    clouds = _clouds(scenario, len(start), random)
    wander = zeropoint_wander(random, len(start), scenario.atmosphere)
    return NightPlan(
        night=night,
        camera=camera,
        number=np.arange(1, len(start) + 1),
        field=field,
        mjd_start=start,
        mjd_mid=middle,
        ra_deg=ra,
        dec_deg=dec,
        rotation_deg=rotation,
        airmass=air,
        zeropoint=place.zeropoint_adu(camera) + wander - place.extinction * air - clouds,
        cloud_mag=clouds,
        scintillation=_scintillation(scenario, camera, air),
        fwhm_px=scenario.optics.fwhm_px * seeing_wander(random, len(start), scenario.optics.fwhm_rms),
        sky_adu_per_s=_sky(scenario, place, camera, (ra, dec, air), sky),
        fate=_fates(scenario, len(start), random),
        sky=sky,
    )


def _start_times(scenario: ArchiveScenario, night: int, fields: tuple[Field, ...], site: Site) -> _Array:
    """Return the starts of the exposures, evenly over the hours in which a field is up or in the middle of them."""
    params, count = scenario.schedule, scenario.frames_per_night
    first, last = _usable_hours(scenario, night, fields, site)
    exposure = scenario.exposure_s / _SECONDS_PER_DAY
    room = last - first - exposure
    cadence = room / max(1, count - 1) if params.cadence_s is None else params.cadence_s / _SECONDS_PER_DAY
    if cadence < exposure or cadence * (count - 1) > room + 1e-9:
        raise UsageError(
            f"night {night}: {count} frames of {scenario.exposure_s:g} s do not fit into "
            f"{24.0 * (last - first):.1f} usable hours; ask for fewer, shorter or more frequent ones"
        )
    return np.asarray(first + 0.5 * (room - cadence * (count - 1)) + cadence * np.arange(count))


def _usable_hours(
    scenario: ArchiveScenario, night: int, fields: tuple[Field, ...], site: Site
) -> tuple[float, float]:
    """Return the longest time of the night (MJD, UTC) in which it is dark and some field is up."""
    times = np.linspace(*dark_hours(night, site, scenario.schedule), _STEPS + 1)
    lowest = scenario.schedule.minimum_altitude_deg
    up = (_sky_of_fields(fields, times, site)[1] > lowest + _RESERVE_DEG).any(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], up, [False]]).astype(int))).reshape(-1, 2)
    if not edges.size:
        raise UsageError(
            f"night {night}: no field rises above {lowest:g} degrees; ask for more with schedule.fields, "
            "or move the target"
        )
    begin, end = edges[np.argmax(edges[:, 1] - edges[:, 0])]
    return float(times[begin]), float(times[end - 1])


def _sky_of_fields(fields: tuple[Field, ...], mjd: _Array, site: Site) -> tuple[_Array, _Array]:
    """Return hour angles, -180 to 180, and altitudes of the fields, shape (times, fields); 90 for no site."""
    ra, dec = np.array([field.ra_deg for field in fields]), np.array([field.dec_deg for field in fields])
    if site.known:
        zenith_ra = ra_dec(horizon_axes(mjd, site)[0])[0]
        altitude = alt_az(ra[None, :], dec[None, :], mjd[:, None], site)[0]
    else:
        zenith_ra, altitude = 360.0 * (mjd % 1.0), np.full((mjd.size, ra.size), 90.0)
    return (zenith_ra[:, None] - ra + 180.0) % 360.0 - 180.0, altitude


def _choose_fields(
    scenario: ArchiveScenario, fields: tuple[Field, ...], night: int, mjd: _Array, sky: SkyState, site: Site
) -> npt.NDArray[np.int64]:
    """Return, for each frame, the field nearest to the hour angle of the night.

    It has to be high, and is not beside the Moon if another one is up.
    """
    hour_angle, altitude = _sky_of_fields(fields, mjd, site)
    low = altitude <= scenario.schedule.minimum_altitude_deg
    # East of the meridian in one night, west of it in another, so that stars are seen at all airmasses.
    wanted = generator(scenario.seed, "hour angle", night).uniform(-1.0, 1.0) * _HOUR_ANGLE_DEG
    away = np.abs((hour_angle - wanted + 180.0) % 360.0 - 180.0)
    places = unit_vectors([field.ra_deg for field in fields], [field.dec_deg for field in fields])
    near_moon = sky.moon @ places.T > np.cos(np.radians(_MOON_DISTANCE_DEG))
    return np.asarray(np.argmin(away + 360.0 * near_moon + 1000.0 * low, axis=1), np.int64)


def _pointings(
    scenario: ArchiveScenario, here: Season, field: npt.NDArray[np.int64], random: np.random.Generator
) -> tuple[_Array, _Array, _Array]:
    """Return where frames point: their fields, dithered, and turned a little."""
    count = field.size
    shift = random.uniform(-1.0, 1.0, (2, count)) * scenario.schedule.dither_px
    turn = scenario.schedule.rotation_deg + TURN_RMS_DEG * random.standard_normal(count)
    ra, dec = np.empty(count), np.empty(count)
    for one in np.unique(field):
        frames = field == one
        nominal = field_pointing(scenario, here, int(one))
        x, y = nominal.centre_px
        ra[frames], dec[frames] = nominal.pixel_to_sky(x + shift[0, frames], y + shift[1, frames])
    return ra, dec, turn % 360.0


def _clouds(scenario: ArchiveScenario, count: int, random: np.random.Generator) -> _Array:
    """Return what clouds take from each frame: most nights are all clear or all cloudy."""
    share = scenario.atmosphere.cloudy_fraction
    night = share if share in (0.0, 1.0) else random.beta(share, 1.0 - share)
    clouds = clouds_of_night(random, count, round(night * count), scenario.atmosphere)
    return np.array([cloud.mag for cloud in clouds])


def _scintillation(scenario: ArchiveScenario, camera: Camera, air: _Array) -> _Array:
    diameter, site = camera.optics.diameter_m, camera.site
    each = [
        scintillation(scenario.atmosphere, diameter, site, one, scenario.exposure_s) for one in air.tolist()
    ]
    return np.array(each)


def _sky(
    scenario: ArchiveScenario,
    place: Observatory,
    camera: Camera,
    pointing: tuple[_Array, _Array, _Array],
    state: SkyState,
) -> _Array:
    """Return the sky per pixel, ADU/s; `pointing` is right ascension, declination and airmass."""
    bright = []
    for number, (ra, dec, air) in enumerate(zip(*(values.tolist() for values in pointing), strict=True)):
        now = SkyState(*(getattr(state, name)[number] for name in state.__slots__))
        bright.append(sky_brightening(ra, dec, place.extinction, air, now, scenario.atmosphere))
    return np.asarray(place.sky_e_per_s / camera.detector.gain_e_per_adu * np.array(bright))


def _fates(scenario: ArchiveScenario, count: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw what is wrong with each frame; the worst of several faults is the one that is seen."""
    header, tables = scenario.header, scenario.tables
    draws = random.random((3, count))
    fate = np.full(count, int(Fate.GOOD))
    fate[draws[0] < tables.trailed_fraction] = Fate.TRAILED
    fate[draws[1] < header.wrong_wcs_fraction + header.absent_wcs_fraction] = Fate.NO_WCS
    fate[draws[1] < header.wrong_wcs_fraction] = Fate.WRONG_WCS
    fate[draws[2] < tables.failed_fraction] = Fate.FAILED
    return fate
