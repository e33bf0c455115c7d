from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from skylake.core.sphere import healpix_index, separation_deg
from skylake.simulate.population import (
    CELL_ORDER,
    COLOUR_RANGE,
    CountLaw,
    StarPopulation,
    stars_around,
    stars_of_cells,
    stars_of_disc,
)
from skylake.simulate.scenario import StarParams

LAW = CountLaw(40.0, 12.0, 0.38, 6.0, 16.0)
PARAMS = StarParams()


def same(first: StarPopulation, second: StarPopulation) -> None:
    for name in fields(StarPopulation):
        np.testing.assert_array_equal(getattr(first, name.name), getattr(second, name.name))


def test_overlapping_fields_share_their_stars() -> None:
    left, right = stars_around(10.0, 5.0, 0.8, LAW, PARAMS, 1), stars_around(10.6, 5.0, 0.8, LAW, PARAMS, 1)
    in_left = left.take(separation_deg(10.6, 5.0, left.ra_deg, left.dec_deg) < 0.8)
    in_right = right.take(separation_deg(10.0, 5.0, right.ra_deg, right.dec_deg) < 0.8)
    assert len(in_left) > 100
    same(in_left, in_right)


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.99, 41.8), (45.0, 90.0), (123.0, -89.5)])
def test_no_star_within_the_radius_is_missing(ra: float, dec: float) -> None:
    wide, narrow = stars_around(ra, dec, 1.8, LAW, PARAMS, 1), stars_around(ra, dec, 0.5, LAW, PARAMS, 1)
    assert len(wide) > len(narrow) > 10
    same(narrow, wide.take(separation_deg(ra, dec, wide.ra_deg, wide.dec_deg) <= 0.5))


def test_a_fainter_limit_changes_nothing_before() -> None:
    shallow, deep = (
        stars_of_cells([77], LAW, PARAMS, 1),
        stars_of_cells([77], replace(LAW, faint_mag=17.5), PARAMS, 1),
    )
    assert len(deep) > 3 * len(shallow)
    same(shallow, deep.take(deep.v_mag < 16.0))


def test_stars_stand_in_their_cell_and_are_known_by_number() -> None:
    stars = stars_of_cells((0, 5000, 49151), LAW, PARAMS, 1)
    index = healpix_index(stars.ra_deg, stars.dec_deg, CELL_ORDER)
    assert set(index) == {0, 5000, 49151}
    assert len(set(stars.star_id)) == len(stars)


def test_counts_follow_their_law() -> None:
    stars = stars_of_cells(range(1000, 1040), LAW, PARAMS, 1)
    area = 40 * 41252.96 / (12 * 4**CELL_ORDER)
    for mag in (13.0, 14.5, 16.0):
        expected = area * 40.0 * 10.0 ** (0.38 * (mag - 12.0))
        assert abs((stars.v_mag < mag).sum() - expected) < 4.0 * np.sqrt(expected)
    assert stars.v_mag.min() >= 6.0 and stars.v_mag.max() < 16.0


def test_stars_fill_their_cell_evenly() -> None:
    stars = stars_of_cells([1234], replace(LAW, faint_mag=17.5), PARAMS, 1)
    quarters = np.bincount(
        healpix_index(stars.ra_deg, stars.dec_deg, CELL_ORDER + 2) - 1234 * 16, minlength=16
    )
    expected = len(stars) / 16.0
    assert ((quarters - expected) ** 2 / expected).sum() < 40.0


def test_colours_have_two_humps_and_motions_a_tail() -> None:
    stars = stars_of_cells(range(30), LAW, PARAMS, 1)
    low, high = COLOUR_RANGE
    assert stars.b_minus_v.min() >= low and stars.b_minus_v.max() <= high
    blue, valley, red = (
        ((stars.b_minus_v > c - 0.05) & (stars.b_minus_v < c + 0.05)).sum() for c in (0.62, 0.9, 1.22)
    )
    assert blue > 1.5 * valley and red > 1.2 * valley
    speed = np.hypot(stars.pm_ra_mas_yr, stars.pm_dec_mas_yr)
    assert np.median(speed) < 10.0 and (speed > 100.0).any()


def test_some_stars_vary() -> None:
    stars = stars_of_cells(range(20), LAW, replace(PARAMS, variable_fraction=0.2), 1)
    share = (stars.kind == 1).mean()
    assert share == pytest.approx(0.2, abs=0.03)
    assert (np.isfinite(stars.period_d) == (stars.kind == 1)).all()


def test_another_seed_is_another_sky() -> None:
    assert not np.array_equal(
        stars_of_cells([9], LAW, PARAMS, 1).ra_deg[:20], stars_of_cells([9], LAW, PARAMS, 2).ra_deg[:20]
    )


def test_a_disc_has_its_stars_evenly_and_no_others() -> None:
    stars = stars_of_disc(3, 359.9, -60.0, 4.0, LAW, PARAMS, 1)
    distance = separation_deg(359.9, -60.0, stars.ra_deg, stars.dec_deg)
    assert distance.max() <= 4.0
    area = 50.2449  # square degrees within 4 degrees
    assert len(stars) == pytest.approx(LAW.brighter_than(16.0) * area, rel=0.05)
    assert np.count_nonzero(distance < 2.0) == pytest.approx(len(stars) / 4.0, rel=0.1)
    assert len(set(stars.star_id)) == len(stars)
    assert not stars.pm_ra_mas_yr.any()


def test_a_disc_follows_from_its_number_and_the_seed() -> None:
    def ids(number: int, seed: int) -> set[float]:
        return set(stars_of_disc(number, 10.0, 5.0, 1.0, LAW, PARAMS, seed).ra_deg.tolist())

    assert ids(0, 1) == ids(0, 1)
    assert not ids(0, 1) & ids(0, 2)
    assert not ids(0, 1) & ids(1, 1)
    shallow, deep = (
        stars_of_disc(0, 10.0, 5.0, 1.0, law, PARAMS, 1) for law in (LAW, replace(LAW, faint_mag=17.0))
    )
    assert len(deep) > len(shallow)
    np.testing.assert_array_equal(shallow.v_mag, deep.v_mag[: len(shallow)])
