"""The detectors of a simulated mosaic: where they and the telescope truly are, and what its cards say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from skylake.cameras import load_chips
from skylake.core.attitudes import attitude_of, matrix_of_place, pointing_of_attitude
from skylake.core.camera import Camera
from skylake.simulate.random_streams import generator
from skylake.simulate.scenario import Scenario

#: Degrees in the units of rotation cards.
_UNITS = {"deg": 1.0, "arcmin": 1.0 / 60.0, "arcsec": 1.0 / 3600.0, "rad": math.degrees(1.0), "hour": 15.0}
#: The farthest draw that counts, standard deviations.
_FARTHEST = 5.0
#: A wrong rotation is off by so much, degrees.
_WRONG_DEG = (20.0, 340.0)


@dataclass(frozen=True, slots=True)
class Telescope:
    """A direction and a position angle, degrees."""

    ra_deg: float
    dec_deg: float
    angle_deg: float


def true_place(scenario: Scenario, camera: Camera) -> tuple[float, float, float]:
    """Return where a detector truly is: x and y in arcsec and the angle in degrees, near to what the profile says."""
    x, y = camera.place_arcsec
    random = generator(scenario.seed, "place", camera.place.chip)
    across, angle = random.standard_normal(2), random.standard_normal()
    off = across * scenario.mosaic.offset_arcsec
    return (
        x + float(off[0]),
        y + float(off[1]),
        camera.place.angle_deg + float(angle) * scenario.mosaic.angle_deg,
    )


def pointing_of_chip(scenario: Scenario, camera: Camera, telescope: Telescope) -> Telescope:
    """Return where the centre of a detector points, and the position angle of its y axis."""
    attitude = attitude_of(telescope.ra_deg, telescope.dec_deg, telescope.angle_deg)
    return Telescope(*pointing_of_attitude(matrix_of_place(*true_place(scenario, camera)) @ attitude))


def header_telescope(scenario: Scenario, index: int, telescope: Telescope) -> Telescope:
    """Return where the telescope points by its own cards, the same for all detectors of an exposure."""
    params, random = scenario.mosaic, generator(scenario.seed, "telescope", index)
    off = random.standard_normal(2) * params.pointing_arcsec / 3600.0
    angle = telescope.angle_deg + float(random.standard_normal()) * params.rotation_deg
    if random.random() < params.wrong_rotation_fraction:
        angle += random.uniform(*_WRONG_DEG)
    ra = telescope.ra_deg + off[0] / math.cos(math.radians(telescope.dec_deg))
    return Telescope(ra % 360.0, float(np.clip(telescope.dec_deg + off[1], -90.0, 90.0)), angle % 360.0)


def telescope_cards(camera: Camera, telescope: Telescope) -> list[tuple[str, object, str]]:
    """Return the cards of direction and rotation that the profile of a camera names."""
    known = camera.astrometry
    cards: list[tuple[str, object, str]] = []
    for ra, dec in zip(known.ra[:1], known.dec[:1], strict=False):
        cards += [
            (ra, telescope.ra_deg, "telescope, degrees"),
            (dec, telescope.dec_deg, "telescope, degrees"),
        ]
    if known.rotation:
        turn = (telescope.angle_deg - known.rotation_zero_deg + 180.0) % 360.0 - 180.0
        value = known.rotation_sign * turn / _UNITS[known.rotation_unit]
        cards.append((known.rotation[0], value, f"rotation, {known.rotation_unit}"))
    return cards


@lru_cache(maxsize=8)
def reach_deg(scenario: Scenario) -> float:
    """Return how far from the axis of the telescope the centres of its detectors are at most, degrees.

    All detectors of a mosaic take the same, so that they see the same stars.
    """
    here = load_chips(scenario.camera)[0].base.place.chip
    chips = [one.base for one in load_chips(scenario.camera.removesuffix(f":{here}"))] if here else []
    reach = max((math.hypot(*camera.place_arcsec) for camera in chips), default=0.0)
    return (reach + (_FARTHEST * scenario.mosaic.offset_arcsec if chips else 0.0)) / 3600.0
