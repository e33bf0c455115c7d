from __future__ import annotations

import math

import numpy as np
import pytest

from skylake.core.declination_zones import find_cone, sorted_by_zone
from skylake.core.sphere import unit_vectors


@pytest.mark.parametrize(
    ("ra", "dec", "radius"),
    [(0.0, 90.0, 10.0), (10.0, -87.0, 8.0), (0.1, 0.0, 5.0), (359.9, 60.0, 20.0), (180.0, -40.0, 85.0)],
)
def test_a_cone_holds_just_the_stars_within_it(ra: float, dec: float, radius: float) -> None:
    random = np.random.default_rng(1)
    vectors = random.normal(size=(5000, 3))
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    zones = sorted_by_zone(vectors, np.arange(5000.0), 0.07)
    room = np.empty(5000, np.int64)
    centre = unit_vectors(ra, dec)
    n = find_cone(zones, centre, math.radians(radius), room)
    inside = np.flatnonzero(vectors @ centre >= math.cos(math.radians(radius)))
    assert n == len(inside) > 3
    assert sorted(zones.magnitudes[room[:n]]) == inside.tolist()


def test_a_cone_gives_no_more_stars_than_there_is_room_for() -> None:
    vectors = unit_vectors(np.linspace(0, 359, 360), np.zeros(360))
    zones = sorted_by_zone(vectors, np.zeros(360), 0.5)
    assert find_cone(zones, unit_vectors(5.0, 0.0), 1.5, np.empty(7, np.int64)) == 7
