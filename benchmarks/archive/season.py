"""Years of nights: what they have in common, and fields all around the sky."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from archive.scenario import ArchiveScenario
from skylake.core.camera import Site
from skylake.core.sphere import separation_deg
from skylake.errors import UsageError
from skylake.simulate.observatory import Observatory, observatory
from skylake.simulate.optics import SimulatedPointing
from skylake.simulate.population import CountLaw
from skylake.simulate.random_streams import generator
from skylake.simulate.schedule import Field, choose_fields
from skylake.simulate.world import count_law, field_radius_deg

#: Survey fields spread over declinations this far from the latitude, and not to the poles.
_DECLINATION_SPREAD_DEG = 25.0
_LARGEST_DECLINATION_DEG = 80.0
#: Without a site the sky turns once a day all the same, above this declination.
_UNKNOWN_LATITUDE_DEG = 20.0


@dataclass(frozen=True, slots=True)
class Season:
    """What all nights have in common: the camera, the fields, how many stars there are, and how far they matter."""

    observatory: Observatory
    fields: tuple[Field, ...]
    law: CountLaw
    radius_deg: float


@lru_cache(maxsize=4)
def season(scenario: ArchiveScenario) -> Season:
    """Return what the nights of a scenario have in common.

    Raises
    ------
    ConfigurationError
        If the profile of the camera cannot be simulated.
    UsageError
        If the fields overlap, or the camera does not turn with the sky.
    """
    if scenario.schedule.rotation != "fixed":
        raise UsageError(
            "tables are simulated for cameras that turn with the sky; set schedule.rotation to fixed"
        )
    place = observatory(scenario)
    radius = field_radius_deg(scenario, place)
    fields = _fields_around(scenario, place.profile.base.site)
    for number, field in enumerate(fields[1:], start=1):
        others = fields[:number]
        ra, dec = [other.ra_deg for other in others], [other.dec_deg for other in others]
        if np.min(separation_deg(ra, dec, field.ra_deg, field.dec_deg)) < 2.0 * radius:
            raise UsageError(
                f"{len(fields)} fields of {radius:.1f} degrees around overlap; ask for fewer with schedule.fields"
            )
    return Season(place, fields, count_law(scenario, place), radius)


def _fields_around(scenario: ArchiveScenario, site: Site) -> tuple[Field, ...]:
    """Return the target and, at even steps of right ascension after it, the survey fields."""
    count = scenario.schedule.fields
    alone = replace(scenario, schedule=replace(scenario.schedule, fields=0))
    target = choose_fields(alone, site)[0]
    latitude = _UNKNOWN_LATITUDE_DEG if site.latitude_deg is None else site.latitude_deg
    spread = generator(scenario.seed, "season").uniform(-1.0, 1.0, count) * _DECLINATION_SPREAD_DEG
    dec = np.clip(latitude + spread, -_LARGEST_DECLINATION_DEG, _LARGEST_DECLINATION_DEG)
    ra = (target.ra_deg + 360.0 * np.arange(1, count + 1) / (count + 1)) % 360.0
    survey = [Field(f"FIELD{i + 1:03d}", float(ra[i]), float(dec[i])) for i in range(count)]
    return (target, *survey)


def field_pointing(scenario: ArchiveScenario, here: Season, field: int) -> SimulatedPointing:
    """Return the astrometric solution of a frame that points at the middle of a field."""
    place, centre, optics = here.observatory, here.fields[field], scenario.optics
    return SimulatedPointing(
        centre.ra_deg, centre.dec_deg, scenario.schedule.rotation_deg, place.scale_arcsec, place.shape,
        optics.distortion, optics.mirrored,
    )  # fmt: skip
