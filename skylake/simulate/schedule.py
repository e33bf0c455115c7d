"""When the camera looks where: nights, dark hours, fields and the order of the frames."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from skylake.core.batch import night_span
from skylake.core.camera import Site
from skylake.core.ephemeris import alt_az, horizon_axes, sun_and_moon
from skylake.core.sphere import ra_dec, unit_vectors
from skylake.errors import UsageError
from skylake.simulate.random_streams import generator
from skylake.simulate.scenario import Scenario, ScheduleParams

_Array = npt.NDArray[np.float64]
_Counts = npt.NDArray[np.int64]

_MINUTES = 1440
#: Steps, ten minutes each, at which the altitude of the Sun is computed.
_SUN_STEPS = 144
_SECONDS_PER_DAY = 86400.0
#: Fields keep this far from the Moon where they can.
_MOON_DISTANCE_DEG = 40.0
#: Survey fields spread over declinations this far from the latitude.
_DECLINATION_SPREAD_DEG = 25.0
#: Where the target field may culminate, north of the zenith.
_TARGET_OFFSETS_DEG = [5.0, -5.0, 20.0, -20.0, 30.0, -30.0]
#: Without a site the sky turns once a day all the same, above this declination.
_UNKNOWN_LATITUDE_DEG = 20.0


@dataclass(frozen=True, slots=True)
class Field:
    """A pointing of the survey."""

    name: str
    ra_deg: float
    dec_deg: float


@dataclass(frozen=True, slots=True)
class Slot:
    """One exposure: which, when and of which field."""

    night: int
    number: int
    mjd_start: float
    field: int


def nights_of(scenario: Scenario) -> list[int]:
    """Return the nights of a scenario as YYYYMMDD."""
    first = scenario.first_night
    try:
        start = date(first // 10000, first // 100 % 100, first % 100)
    except ValueError as error:
        raise UsageError(f"first_night {first} is no date; give it as YYYYMMDD, such as 20240407") from error
    days = [start + timedelta(days=i) for i in range(scenario.nights)]
    return [day.year * 10000 + day.month * 100 + day.day for day in days]


def dark_hours(night: int, site: Site, params: ScheduleParams) -> tuple[float, float]:
    """Return the first and last dark instant of a night (MJD, UTC), good to some seconds.

    Without a site the night is dark from 18 to 6 o'clock, UTC or by the longitude alone.

    Raises
    ------
    UsageError
        If the Sun does not set deep enough.
    """
    start, end = night_span(night, site.longitude_deg)
    if not site.known:
        return start + 0.25, end - 0.25
    times = np.linspace(start, end, _SUN_STEPS + 1)
    depth = params.sun_altitude_deg - sun_and_moon(times, site).sun_altitude_deg
    dark = np.flatnonzero(depth > 0.0)
    if not dark.size:
        raise UsageError(
            f"night {night}: the Sun does not sink below {params.sun_altitude_deg:g} degrees; "
            "choose another first_night or a higher schedule.sun_altitude_deg"
        )
    # Between the last bright and the first dark step, and the other way round at dawn.
    dusk = np.array([dark[0] - 1, dark[0]]).clip(min=0)
    dawn = np.array([dark[-1], dark[-1] + 1]).clip(max=_SUN_STEPS)
    return float(np.interp(0.0, depth[dusk], times[dusk])), float(np.interp(0.0, -depth[dawn], times[dawn]))


def choose_fields(scenario: Scenario, site: Site) -> list[Field]:
    """Return the target field and after it the survey fields.

    Survey fields culminate one after the other in the course of the first night.
    """
    params = scenario.schedule
    first, last = dark_hours(nights_of(scenario)[0], site, params)
    target = params.target or _culminating(0.5 * (first + last), site, _TARGET_OFFSETS_DEG)
    fields = [Field("TARGET", target[0] % 360.0, target[1])]
    random = generator(scenario.seed, "fields")
    spreads = random.uniform(-_DECLINATION_SPREAD_DEG, _DECLINATION_SPREAD_DEG, params.fields)
    for i, spread in enumerate(spreads):
        when = first + (last - first) * (i + 0.5) / params.fields
        ra, dec = _culminating(when, site, [float(spread), float(-spread)])
        fields.append(Field(f"FIELD{i + 1:03d}", ra, dec))
    return fields


def _zenith(mjd: float, site: Site) -> tuple[float, float]:
    if not site.known:
        return 360.0 * (mjd % 1.0), _UNKNOWN_LATITUDE_DEG
    ra, dec = ra_dec(horizon_axes(mjd, site)[0])
    return float(ra), float(dec)


def _culminating(mjd: float, site: Site, offsets_deg: list[float]) -> tuple[float, float]:
    """Return a position north or south of the zenith at an instant.

    Of the offered offsets the first that is far from the Moon is taken, else the farthest.
    """
    ra, dec = _zenith(mjd, site)
    offered = np.clip(dec + np.array(offsets_deg), -85.0, 85.0)
    distance = _moon_distance(np.full(offered.size, ra), offered, mjd, site)
    far = np.flatnonzero(distance > _MOON_DISTANCE_DEG)
    return ra, float(offered[far[0] if far.size else np.argmax(distance)])


def _moon_distance(ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, mjd: float, site: Site) -> _Array:
    moon = sun_and_moon(mjd, site).moon
    return np.asarray(np.degrees(np.arccos(np.clip(unit_vectors(ra_deg, dec_deg) @ moon, -1.0, 1.0))))


def schedule(scenario: Scenario, site: Site, fields: list[Field]) -> list[Slot]:
    """Return every exposure of a scenario in the order of time.

    Raises
    ------
    UsageError
        If a night is too short for its frames, or none of the fields is up.
    """
    slots: list[Slot] = []
    visits = np.zeros(len(fields), int)
    for night in nights_of(scenario):
        starts = _start_times(night, scenario, site, fields)
        for number, start in enumerate(starts, start=1):
            which = _choose_field(len(slots), float(start), scenario, site, fields, visits)
            visits[which] += 1
            slots.append(Slot(night, number, float(start), which))
    return slots


def _altitudes(mjd: npt.ArrayLike, site: Site, fields: list[Field]) -> _Array:
    """Return altitudes of the fields, shape (times, fields); 90 where the site is unknown."""
    times = np.atleast_1d(np.asarray(mjd, float))
    if not site.known:
        return np.full((times.size, len(fields)), 90.0)
    columns = [alt_az(field.ra_deg, field.dec_deg, times, site)[0] for field in fields]
    return np.stack(columns, axis=-1)


def _start_times(night: int, scenario: Scenario, site: Site, fields: list[Field]) -> _Array:
    """Return the starts of the exposures of a night, within its longest run of usable minutes."""
    params, count = scenario.schedule, scenario.frames_per_night
    first, last = dark_hours(night, site, params)
    minutes = np.arange(first, last, 1.0 / _MINUTES)
    # A degree of reserve, for what a field sinks within an exposure.
    up = (_altitudes(minutes, site, fields) > params.minimum_altitude_deg + 1.0).any(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], up, [False]]).astype(int)))
    if not edges.size:
        raise UsageError(
            f"night {night}: no field rises above {params.minimum_altitude_deg:g} degrees; move the target"
        )
    runs = edges.reshape(-1, 2)
    begin, end = minutes[runs[np.argmax(runs[:, 1] - runs[:, 0])] - [0, 1]]
    exposure = scenario.exposure_s / _SECONDS_PER_DAY
    room = end - begin - exposure
    cadence = room / max(1, count - 1) if params.cadence_s is None else params.cadence_s / _SECONDS_PER_DAY
    if cadence < exposure or cadence * (count - 1) > room + 1e-9:
        hours = (end - begin) * 24.0
        raise UsageError(
            f"night {night}: {count} frames of {scenario.exposure_s:g} s do not fit into {hours:.1f} usable "
            "hours; ask for fewer, shorter or more frequent ones"
        )
    return np.asarray(begin + 0.5 * (room - cadence * (count - 1)) + cadence * np.arange(count))


def _choose_field(
    index: int, start: float, scenario: Scenario, site: Site, fields: list[Field], visits: _Counts
) -> int:
    """Return the field for one exposure: the target if it is its turn, else the least visited one."""
    middle = start + 0.5 * scenario.exposure_s / _SECONDS_PER_DAY
    up = np.flatnonzero(_altitudes(middle, site, fields)[0] > scenario.schedule.minimum_altitude_deg)
    share = _target_share(scenario.schedule)
    its_turn = np.floor((index + 1) * share + 1e-9) > np.floor(index * share + 1e-9)
    if its_turn and up[0] == 0:
        return 0
    ra, dec = [field.ra_deg for field in fields], [field.dec_deg for field in fields]
    distance = _moon_distance(ra, dec, middle, site)
    offered = up[(up > 0) & (distance[up] > _MOON_DISTANCE_DEG)]
    if offered.size:
        return int(offered[np.argmin(visits[offered])])
    # Rather the target once more than a field beside the Moon.
    return int(up[np.argmax(distance[up])])


def _target_share(params: ScheduleParams) -> float:
    if params.fields == 0:
        return 1.0
    return 0.5 if params.target_fraction is None else params.target_fraction
