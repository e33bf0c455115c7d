"""The gradients of twilight average out in a mean of flats as far as its error says."""

from __future__ import annotations

import numpy as np
import pytest

from skylake.core.response_settings import Gradient
from skylake.image.combine.flat_gradients import chance_gradient, coarse_map

SHAPE = (128, 192)
Y, X = np.meshgrid(np.linspace(-1.0, 1.0, SHAPE[0]), np.linspace(-1.0, 1.0, SHAPE[1]), indexing="ij")


@pytest.mark.parametrize("weights", [np.ones(8), np.array([1.0, 1.0, 1.0, 5.0, 5.0, 2.0, 2.0, 0.5])])
def test_the_gradient_of_a_mean_is_what_it_was_said_to_be(weights: np.ndarray) -> None:
    random = np.random.default_rng(1)
    response, x, y = (coarse_map(plane.astype(np.float32)) for plane in (1.0 - 0.15 * (X**2 + Y**2), X, Y))
    pulls = []
    for _ in range(200):
        slopes = random.normal(0.0, [0.004, 0.001], (8, 2))
        maps = [response * (1.0 + a * x + b * y) for a, b in slopes]
        made = chance_gradient(maps, weights)
        mean = np.average(slopes, axis=0, weights=weights)
        pulls.append(mean / np.sqrt([made.xx, made.yy]))
    # With a variance of eight slopes pulls follow Student's t of seven degrees of freedom.
    assert np.all(np.abs(np.mean(pulls, axis=0)) < 0.3)
    assert np.std(pulls, axis=0) == pytest.approx(np.sqrt(7.0 / 5.0), abs=0.2)


def test_the_variance_is_that_of_a_plane() -> None:
    made = Gradient(4e-6, -1e-6, 1e-6).variance(X, Y)
    np.testing.assert_allclose(made, 4e-6 * X**2 - 2e-6 * X * Y + 1e-6 * Y**2, atol=1e-9)
    assert made.min() >= 0.0


def test_flats_that_are_alike_or_alone_have_no_gradient() -> None:
    flat = coarse_map((1.0 + 0.1 * X).astype(np.float32))
    assert chance_gradient([flat] * 5, np.ones(5)).xx == pytest.approx(0.0, abs=1e-12)
    assert chance_gradient([flat], [1.0]) == Gradient()


def test_cells_without_values_do_not_count() -> None:
    first = (1.0 + 0.01 * X).astype(np.float32)
    second = (1.0 - 0.01 * X).astype(np.float32)
    whole = chance_gradient([coarse_map(first), coarse_map(second)], [1.0, 1.0])
    second[:60, :100] = np.nan
    assert np.isnan(coarse_map(second)).any()
    part = chance_gradient([coarse_map(first), coarse_map(second)], [1.0, 1.0])
    assert part.xx == pytest.approx(whole.xx, rel=1e-3) == pytest.approx(1e-4, rel=0.02)


def test_a_coarse_map_holds_medians_of_what_there_is() -> None:
    random = np.random.default_rng(3)
    pixels = random.normal(1.0, 0.1, (33, 50)).astype(np.float32)
    pixels[random.random(pixels.shape) < 0.3] = np.nan
    pixels[4:6, 6:9] = np.nan
    made = coarse_map(pixels)
    assert made.shape == (16, 16) and np.isnan(made[2, 2])
    for i, k in ((0, 0), (5, 7), (15, 15)):
        assert made[i, k] == pytest.approx(np.nanmedian(pixels[2 * i : 2 * i + 2, 3 * k : 3 * k + 3]))
    assert coarse_map(np.ones((5, 3), np.float32)).shape == (5, 3)
