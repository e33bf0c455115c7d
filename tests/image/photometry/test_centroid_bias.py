from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.image.photometry.centroid_bias import place_bias
from skylake.image.photometry.measure_sources import Measurements


@given(radius=st.floats(1.5, 8.0), width=st.floats(2.0, 6.0), share=st.floats(0.005, 0.03))
def test_the_bias_is_what_an_aperture_beside_the_star_loses(
    radius: float, width: float, share: float
) -> None:
    error, alpha = share * width, 0.5 * width / np.sqrt(2.0 ** (1.0 / 3.5) - 1.0)
    # Points of equal area within the circle.
    rings, turns = (np.arange(400) + 0.5) / 400, (np.arange(96) + 0.5) / 96 * 2.0 * np.pi
    x = radius * np.sqrt(rings)[:, None] * np.cos(turns)
    y = radius * np.sqrt(rings)[:, None] * np.sin(turns)

    def light(dx: float, dy: float) -> float:
        return float(np.mean((1.0 + ((x - dx) ** 2 + (y - dy) ** 2) / alpha**2) ** -3.5))

    # A place that is off by one standard error, to either side in either coordinate, has the mean square of a place.
    beside = np.mean([light(error, error), light(-error, error), light(error, -error), light(-error, -error)])
    lost = 1.0 - beside / light(0.0, 0.0)
    found = place_bias(radius, np.array([width]), np.array([error]), np.array([error]))[0]
    assert found == pytest.approx(lost, rel=0.06, abs=1e-5)


def test_corrections_are_zero_if_unknown_and_never_large() -> None:
    nan = np.nan
    found = place_bias(3.0, np.array([3.0, nan, 3.0]), np.array([nan, 0.1, 9.0]), np.array([0.1, 0.1, 9.0]))
    np.testing.assert_allclose(found, [0.0, 0.0, 0.15])


@pytest.fixture(scope="module")
def faint(grid_field: Callable[..., Any], measure: Callable[..., Any]) -> tuple[Any, Any]:
    """Pulls of 3,000 faint stars in a small circle, against the light in it around the true places."""
    pulls, snr = [], []
    for seed in (21, 22, 23, 24):
        field = grid_field(seed, flux=(600.0, 750.0), step=34, shape=(1024, 1024))
        measured = measure(field, apertures={"radii_px": (2.0, 5.0, 8.0)})
        index, distance = field.nearest(measured.sources.x, measured.sources.y)
        found = distance < 2.0
        assert found.mean() > 0.98
        sources: Measurements = measured.sources
        flux, error = (part["aper1"][index[found]] * 20.0 for part in (sources.flux, sources.flux_err))
        pulls.append((flux - field.flux[found] * field.held(2.0)) / error)
        snr.append(flux / error)
    return np.concatenate(pulls), np.concatenate(snr)


def test_faint_stars_are_not_brighter_by_noise_selection(faint: tuple[Any, Any]) -> None:
    pulls, snr = faint
    print(
        len(pulls), "stars, mean, its error and width of pulls", pulls.mean(), len(pulls) ** -0.5, pulls.std()
    )
    assert 6.0 < np.median(snr) < 10.0
    # Not taken off, the mean would be 0.12.
    assert abs(pulls.mean()) < 0.05
    assert 0.95 < pulls.std() < 1.05
