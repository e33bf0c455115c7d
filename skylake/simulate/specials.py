"""The stars that every simulation knows by name: three variables and a new star in the target field."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.ephemeris import barycentric_jd
from skylake.core.sphere import offset
from skylake.simulate.colours import magnitude
from skylake.simulate.observatory import Observatory, saturation_level
from skylake.simulate.optics import SimulatedPointing
from skylake.simulate.population import StarPopulation
from skylake.simulate.random_streams import generator
from skylake.simulate.scenario import Scenario
from skylake.simulate.schedule import Field, Slot
from skylake.simulate.stamps import Moffat
from skylake.simulate.variables import Kind

_Array = npt.NDArray[np.float64]

#: Identifier, kind, B-V, period in days, amplitude in mag (None: that of the scenario). Periods are near
#: simple ratios to a day, so that two nights show an eclipse or a transit each.
_VARIABLES: tuple[tuple[int, Kind, float, float, float | None], ...] = (
    (1, Kind.ECLIPSING, 0.60, 0.6671, 0.55),
    (2, Kind.RR_LYRAE, 0.35, 0.5467, 0.90),
    (3, Kind.TRANSIT, 0.75, 0.9973, None),
)
#: Identifier of the transient.
TRANSIENT_ID = 9
_TRANSIENT_COLOUR = 0.2

_CANDIDATES = 600
#: Stars this much fainter than the special ones do not disturb them.
_HARMLESS_MAG = 4.5
_SECONDS_PER_DAY = 86400.0


def special_stars(
    scenario: Scenario, place: Observatory, field: Field, slots: list[Slot], others: StarPopulation
) -> StarPopulation:
    """Return the variable stars and the transient of the target field, as the scenario wants them.

    Parameters
    ----------
    scenario : Scenario
        The simulation.
    place : Observatory
        Its camera.
    field : Field
        The target field.
    slots : list of Slot
        All exposures; epochs fall into the first night.
    others : StarPopulation
        The stars around, from which the special ones keep away.
    """
    rows = list(_VARIABLES) if scenario.specials.variables else []
    if scenario.specials.transient:
        rows.append((TRANSIENT_ID, Kind.TRANSIENT, _TRANSIENT_COLOUR, np.nan, np.nan))
    count = len(rows)
    colours = np.array([row[2] for row in rows])
    v_mag = _v_magnitudes(scenario, place, colours)
    ra, dec = _lonely_places(scenario, place, field, others, v_mag, count)
    amplitude = [scenario.specials.transit_depth_mag if row[4] is None else row[4] for row in rows]
    period, epoch = _clocks(place, slots, rows, ra, dec)
    zero = np.zeros(count)
    return StarPopulation(
        np.array([row[0] for row in rows], np.int64),
        ra,
        dec,
        zero,
        zero,
        v_mag,
        colours,
        np.array([row[1] for row in rows], np.int8),
        period,
        np.array(amplitude, float),
        epoch,
    )


def _v_magnitudes(scenario: Scenario, place: Observatory, b_minus_v: _Array) -> _Array:
    """Return the V magnitudes of stars whose brightest pixel has the wanted level at airmass 1."""
    camera = place.profile.at(None)
    psf = Moffat(scenario.optics.fwhm_px, beta=scenario.optics.beta)
    flux = scenario.specials.peak_fraction * saturation_level(camera, scenario) / float(psf.peak)
    mag = place.zeropoint_adu(camera) - place.extinction - 2.5 * np.log10(flux / scenario.exposure_s)
    in_band = mag + scenario.atmosphere.colour_term * place.colour_offset(b_minus_v)
    return np.asarray(in_band - magnitude(place.filter_band.band, 0.0, b_minus_v))


def _lonely_places(
    scenario: Scenario, place: Observatory, field: Field, others: StarPopulation, v_mag: _Array, count: int
) -> tuple[_Array, _Array]:
    """Return the positions, one after the other, that are farthest from every star that matters."""
    random = generator(scenario.seed, "specials")
    reach = 0.32 * min(place.shape) * place.scale_arcsec / 3600.0
    distance, angle = reach * np.sqrt(random.random(_CANDIDATES)), random.uniform(0.0, 360.0, _CANDIDATES)
    ra, dec = offset(np.full(_CANDIDATES, field.ra_deg), np.full(_CANDIDATES, field.dec_deg), distance, angle)
    plane = SimulatedPointing(field.ra_deg, field.dec_deg, 0.0, place.scale_arcsec, place.shape)
    x, y = plane.sky_to_pixel(ra, dec)
    matter = others.take(others.v_mag < v_mag.max(initial=-99.0) + _HARMLESS_MAG)
    free = _nearest(x, y, *plane.sky_to_pixel(matter.ra_deg, matter.dec_deg))
    chosen: list[int] = []
    for _ in range(count):
        best = int(np.argmax(free))
        chosen.append(best)
        free = np.minimum(free, np.hypot(x - x[best], y - y[best]))
    return ra[chosen], dec[chosen]


def _nearest(x: _Array, y: _Array, other_x: _Array, other_y: _Array) -> _Array:
    """Return the distance of each point to the nearest of the others, pixels."""
    from scipy.spatial import cKDTree

    known = np.isfinite(other_x) & np.isfinite(other_y)
    if not known.any():
        return np.full(x.shape, 1e6)
    tree = cKDTree(np.column_stack([other_x[known], other_y[known]]))
    return np.asarray(tree.query(np.column_stack([x, y]))[0])


def _clocks(
    place: Observatory,
    slots: list[Slot],
    rows: list[tuple[int, Kind, float, float, float | None]],
    ra: _Array,
    dec: _Array,
) -> tuple[_Array, _Array]:
    """Return periods and epochs: events in the middle of the first night, the transient's peak after it."""
    first_night = [slot.mjd_start for slot in slots if slot.night == slots[0].night]
    begin, end, last = first_night[0], first_night[-1], slots[-1].mjd_start
    periods = np.array([row[3] for row in rows])
    epochs = np.full(len(rows), 0.5 * (begin + end))
    new = np.array([row[1] == Kind.TRANSIENT for row in rows], bool)
    peak = begin + 0.6 * (end - begin)
    epochs[new] = peak
    periods[new] = max(last - peak, 60.0 / _SECONDS_PER_DAY) / 3.0
    return periods, barycentric_jd(epochs, ra, dec, place.profile.base.site)
