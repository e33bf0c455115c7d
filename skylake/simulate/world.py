"""All that the frames of a scenario have in common, made once in every process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from skylake.core.sphere import separation_deg
from skylake.simulate.observatory import Observatory, observatory
from skylake.simulate.population import CountLaw, StarPopulation, joined, stars_around
from skylake.simulate.scenario import Scenario
from skylake.simulate.schedule import Field, Slot, choose_fields, schedule
from skylake.simulate.simulated_chips import reach_deg
from skylake.simulate.specials import special_stars

#: Bright stars outside the image still light it; so far away, in pixels.
_BEYOND_PX = 120.0
#: How far the fastest stars move in the decades since the epoch of their positions.
_MOTION_DEG = 0.02


@dataclass(frozen=True, slots=True)
class World:
    """The camera, the fields, the timetable, and the sky.

    Attributes
    ----------
    observatory : Observatory
        The camera.
    fields : tuple of Field
        The target field and the survey fields.
    slots : tuple of Slot
        All exposures in the order of time.
    law : CountLaw
        How many stars there are.
    specials : StarPopulation
        The known variable stars and the transient of the target field.
    """

    observatory: Observatory
    fields: tuple[Field, ...]
    slots: tuple[Slot, ...]
    law: CountLaw
    specials: StarPopulation


@lru_cache(maxsize=4)
def world(scenario: Scenario) -> World:
    """Return what the frames of a scenario have in common.

    Raises
    ------
    ConfigurationError
        If the profile of the camera cannot be simulated.
    UsageError
        If the timetable is impossible.
    """
    place = observatory(scenario)
    site = place.profile.base.site
    fields = choose_fields(scenario, site)
    slots = schedule(scenario, site, fields)
    law = count_law(scenario, place)
    around = _population(scenario, law, fields[0], field_radius_deg(scenario, place))
    return World(
        place, tuple(fields), tuple(slots), law, special_stars(scenario, place, fields[0], slots, around)
    )


def count_law(scenario: Scenario, place: Observatory) -> CountLaw:
    """Return how many stars there are at which magnitude."""
    params = scenario.stars
    faint = place.v_limit + params.depth_mag
    if params.density_per_deg2 is not None:
        return CountLaw(
            params.density_per_deg2, params.density_mag, params.slope, params.brightest_mag, faint
        )
    density = params.per_frame / place.area_deg2
    return CountLaw(density, place.v_limit, params.slope, params.brightest_mag, faint)


def field_radius_deg(scenario: Scenario, place: Observatory) -> float:
    """Return how far from the centre of a field stars can matter to its frames."""
    beyond = (_BEYOND_PX + 3.0 * scenario.schedule.dither_px) * place.scale_arcsec / 3600.0
    half = place.half_diagonal_deg * (1.0 + abs(scenario.optics.distortion))
    return half + beyond + _MOTION_DEG + reach_deg(scenario)


@lru_cache(maxsize=2)
def _population(scenario: Scenario, law: CountLaw, field: Field, radius_deg: float) -> StarPopulation:
    """Return the stars around a field; remembered, for the target field is asked for twice."""
    return stars_around(field.ra_deg, field.dec_deg, radius_deg, law, scenario.stars, scenario.seed)


@lru_cache(maxsize=12)
def field_stars(scenario: Scenario, field: int, extra_deg: float = 0.0) -> StarPopulation:
    """Return all stars that can light frames of a field, the special ones last.

    Parameters
    ----------
    scenario : Scenario
        The simulation.
    field : int
        Index into the fields of the world; 0 is the target field.
    extra_deg : float
        Look farther out by this.
    """
    here = world(scenario)
    place, pointing = here.observatory, here.fields[field]
    radius = field_radius_deg(scenario, place) + extra_deg
    stars = _population(scenario, here.law, pointing, radius)
    distance = separation_deg(pointing.ra_deg, pointing.dec_deg, here.specials.ra_deg, here.specials.dec_deg)
    return joined([stars, here.specials.take(distance <= radius)])
