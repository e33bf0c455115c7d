"""Equinoxes of headers, and rotations to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.coordinates import FK4, FK5, SkyCoord
from astropy.time import Time

from skylake.core.equinoxes import equator, equinox_of
from skylake.core.sphere import ra_dec, separation_deg


@pytest.mark.parametrize(
    ("cards", "equinox"),
    [
        ({}, "icrs"),
        ({"RADESYS": "ICRS", "EQUINOX": 1950.0}, "icrs"),
        ({"EQUINOX": 2000.0}, "J2000"),
        ({"EQUINOX": "J2000.0"}, "J2000"),
        ({"EQUINOX": 1950.0}, "B1950"),
        ({"RADECSYS": "FK4"}, "B1950"),
        ({"RADECSYS": "FK5"}, "J2000"),
        ({"RADESYS": "FK5", "EQUINOX": 2015.5}, "J2015.5"),
        ({"RADESYS": "GAPPT"}, "date"),
        ({"EQUINOX": "apparent"}, "date"),
        ({"EPOCH": 1950}, "B1950"),
        ({"EPOCH": 2013.44}, "icrs"),
        ({"EQUINOX": "unknown"}, "icrs"),
        ({"EQUINOX": 31.0}, "icrs"),
    ],
)
def test_a_header_shows_its_equinox(cards: dict[str, Any], equinox: str) -> None:
    assert equinox_of(cards) == equinox


PLACES = np.random.default_rng(2).normal(size=(200, 3))
PLACES /= np.linalg.norm(PLACES, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("equinox", "frame", "arcsec"),
    [
        ("B1950", FK4(equinox="B1950", obstime="J2000"), 2.0),
        ("J2000", FK5(equinox="J2000"), 0.1),
        ("J2026.5", FK5(equinox="J2026.5"), 0.5),
        ("icrs", "icrs", 1e-6),
    ],
)
def test_directions_are_those_of_astropy(equinox: str, frame: Any, arcsec: float) -> None:
    sky = SkyCoord(*ra_dec(PLACES), unit="deg").transform_to(frame)
    ra, dec = ra_dec(PLACES @ equator(equinox).T)
    off = separation_deg(ra, dec, sky.spherical.lon.deg, sky.spherical.lat.deg) * 3600.0
    assert off.max() < arcsec


def test_the_equinox_of_the_date_is_that_of_the_frame() -> None:
    mjd = 60000.0
    pole = equator("date", mjd)[2]
    years = Time(mjd, format="mjd").jyear - 2000.0
    moved = np.degrees(np.arccos(np.clip(pole[2], -1.0, 1.0))) * 3600.0
    # Precession moves the pole by 20.04 arcsec a year, nutation by less than ten.
    assert moved == pytest.approx(20.04 * years, abs=10.0)
    assert np.array_equal(equator("date"), np.eye(3))
    with pytest.raises(ValueError, match="no equinox"):
        equator("soon")
