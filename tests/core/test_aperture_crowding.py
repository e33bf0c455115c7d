"""Crowding against the sum over all pairs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.aperture_crowding import crowding, crowding_by_magnitude
from skylake.core.sphere import chord, unit_vectors

Floats = npt.NDArray[np.float64]


def by_pairs(
    points: Floats, flux: Floats, radius: float, width: float, wanted: npt.NDArray[np.intp]
) -> Floats:
    share = []
    for i in wanted:
        light = 0.0
        for j in range(len(points)):
            distance = float(np.linalg.norm(points[i] - points[j]))
            if j != i and flux[j] > 0:
                light += flux[j] * min(max((radius + width - distance) / (2 * width), 0.0), 1.0)
        share.append(light / flux[i] if flux[i] > 0 else 0.0)
    return np.array(share)


@given(
    st.integers(0, 2**32), st.integers(0, 25), st.integers(2, 3), st.floats(0.01, 20.0), st.floats(0.01, 10.0)
)
def test_crowding_is_the_sum_over_all_pairs(
    seed: int, n: int, dimensions: int, radius: float, width: float
) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0.0, 30.0, (n, dimensions))
    points[n // 2 : n // 2 + 2] = points[:1]  # some lie upon one another
    flux = rng.normal(50.0, 60.0, n)
    wanted = rng.permutation(n)[: rng.integers(0, n + 1)]
    np.testing.assert_allclose(
        crowding(points, flux, radius, width, wanted),
        by_pairs(points, flux, radius, width, wanted),
        rtol=1e-9,
    )


@pytest.mark.parametrize(
    ("distance", "held"), [(0.0, 1.0), (2.0, 1.0), (5.0, 0.5), (6.5, 0.25), (8.0, 0.0), (9.0, 0.0)]
)
def test_a_neighbour_counts_by_how_far_it_lies_inside(distance: float, held: float) -> None:
    points = np.array([[10.0, 10.0], [10.0 + distance, 10.0]])
    share = crowding(points, np.array([100.0, 40.0]), 5.0, 3.0, np.array([0, 1]))
    np.testing.assert_allclose(share, [0.4 * held, 2.5 * held], atol=1e-12)


def test_stars_without_positive_flux_neither_take_nor_give() -> None:
    points = np.zeros((4, 2))
    flux = np.array([10.0, -5.0, 0.0, np.nan])
    np.testing.assert_array_equal(crowding(points, flux, 1.0, 1.0, np.arange(4)), [0.0, 0.0, 0.0, 0.0])
    assert crowding(points, np.full(4, -1.0), 1.0, 1.0, np.arange(4)).tolist() == [0.0] * 4
    assert crowding(points, flux, 1.0, 1.0, np.arange(0)).size == 0
    assert crowding(np.zeros((0, 2)), np.zeros(0), 1.0, 1.0, np.arange(0)).size == 0


def test_crowding_does_not_care_for_ra_0_or_the_unit_of_flux() -> None:
    rng = np.random.default_rng(3)
    ra, dec, flux = rng.uniform(0.0, 0.2, 60), rng.uniform(-0.1, 0.1, 60), rng.lognormal(0.0, 1.0, 60)
    radius, width, every = chord(60.0), chord(30.0), np.arange(60)
    here = crowding(unit_vectors(ra + 180.0, dec), flux, radius, width, every)
    there = crowding(unit_vectors(ra - 0.1, dec), 1e-6 * flux, radius, width, every)
    assert here.max() > 0.1
    np.testing.assert_allclose(there, here, rtol=1e-6, atol=1e-9)


def test_faint_stars_of_a_catalog_are_part_of_the_background() -> None:
    """Beyond the magnitude that nine in ten of the detected ones reach, undetected stars do not count."""
    mag = np.array([10.0, 11.0, 12.0, 11.5, 14.0, np.nan])
    points = np.zeros((6, 2))
    detected = np.array([0, 1, 2, 5])
    share = crowding_by_magnitude(points, mag, 1.0, 0.5, detected)
    flux = 10.0 ** (-0.4 * mag[:4])
    np.testing.assert_allclose(share[:3], (flux.sum() - flux[:3]) / flux[:3])
    assert np.isnan(share[3])


@given(st.integers(0, 2**32), st.floats(-5.0, 25.0))
def test_crowding_by_magnitude_does_not_care_for_the_zeropoint(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    points, mag = rng.uniform(0.0, 20.0, (30, 2)), rng.uniform(8.0, 14.0, 30)
    detected = rng.permutation(30)[:20]
    np.testing.assert_allclose(
        crowding_by_magnitude(points, mag + shift, 3.0, 2.0, detected),
        crowding_by_magnitude(points, mag, 3.0, 2.0, detected),
        rtol=1e-6,
        atol=1e-12,
    )


def test_detected_stars_without_magnitudes_have_no_crowding() -> None:
    share = crowding_by_magnitude(
        np.zeros((3, 2)), np.array([np.nan, np.nan, 9.0]), 1.0, 1.0, np.array([0, 1])
    )
    assert np.isnan(share).all()
