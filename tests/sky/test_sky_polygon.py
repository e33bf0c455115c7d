from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from skylake.core.sphere import healpix_index, offset
from skylake.errors import UsageError
from skylake.sky.sky_polygon import Polygon

RANDOM = np.random.default_rng(29)


def sky(count: int) -> tuple[np.ndarray, np.ndarray]:
    return RANDOM.uniform(0.0, 360.0, count), np.degrees(np.arcsin(RANDOM.uniform(-1.0, 1.0, count)))


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (123.0, -45.0), (359.9, 89.5), (40.0, -90.0)])
@pytest.mark.parametrize("radius", [0.02, 5.0, 80.0])
def test_a_polygon_of_many_vertices_is_a_circle(ra: float, dec: float, radius: float) -> None:
    angles = np.linspace(0.0, 360.0, 720, endpoint=False)
    polygon = Polygon(tuple(zip(*(axis.tolist() for axis in offset(ra, dec, radius, angles)), strict=True)))
    distance = radius * RANDOM.uniform(0.5, 1.5, 4000)
    places = offset(ra, dec, distance, RANDOM.uniform(0.0, 360.0, 4000))
    sure = np.abs(distance / radius - 1.0) > 0.01
    np.testing.assert_array_equal(polygon.holds(*places)[sure], (distance < radius)[sure])
    index = healpix_index(*places)
    covered = np.zeros(len(index), bool)
    for start, end in polygon.ranges:
        covered |= (index >= start) & (index < end)
    assert covered[polygon.holds(*places)].all()


def test_a_triangle_is_the_side_of_three_great_circles() -> None:
    corners = [(350.0, -10.0), (20.0, 5.0), (5.0, 40.0)]
    vertices = SkyCoord(*np.array(corners).T, unit="deg").cartesian.xyz.value.T
    ra, dec = sky(20_000)
    places = SkyCoord(ra, dec, unit=u.deg).cartesian.xyz.value.T
    edges = np.cross(vertices, np.roll(vertices, -1, axis=0))
    expected = (places @ edges.T > 0.0).all(axis=1)
    assert 200 < expected.sum() < 2000
    for around in (corners, corners[::-1]):
        np.testing.assert_array_equal(Polygon(tuple(around)).holds(ra, dec), expected)


def test_a_notch_is_outside() -> None:
    arrow = Polygon(((10.0, 0.0), (20.0, 10.0), (10.0, 5.0), (0.0, 10.0)))
    inside = arrow.holds(np.array([10.0, 10.0, 17.0, 10.0, np.nan]), np.array([3.0, 7.0, 7.8, -1.0, 3.0]))
    assert inside.tolist() == [True, False, True, False, False]


def test_what_is_no_polygon() -> None:
    with pytest.raises(UsageError, match="three vertices or more"):
        Polygon(((1.0, 2.0), (3.0, 4.0), (1.0, 2.0)))
    with pytest.raises(UsageError, match=r"reaches \d+ degrees from its middle, more than 85; divide it"):
        Polygon(((0.0, 0.0), (120.0, 0.0), (240.0, 0.0)))
