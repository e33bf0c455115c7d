"""Where bright stars depart: found where they do, and nowhere else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from skylake.calibration.bright_limit import bright_limit

Floats = npt.NDArray[np.float64]


def drawn(
    seed: int, n_stars: int = 300, n_frames: int = 5, catalog: float = 0.03, outliers: float = 0.1
) -> tuple[npt.NDArray[np.intp], Floats, Floats, tuple[Floats, Floats]]:
    """Measurements of stars of levels 7 to 13, few of them bright, some of them with wrong catalog magnitudes."""
    rng = np.random.default_rng(seed)
    true = 13.0 - 1.2 * np.sqrt(rng.exponential(4.0, n_stars))
    wrong = rng.normal(0.0, catalog, n_stars) + (rng.random(n_stars) < outliers) * rng.normal(
        0.0, 0.5, n_stars
    )
    star = np.tile(np.arange(n_stars), n_frames)
    photon = 0.003 * 10.0 ** (0.2 * (true - 10.0))[star]
    level, residual = (true + wrong)[star], wrong[star] + rng.normal(0.0, photon)
    return star, level, residual, (photon, np.full(star.size, catalog))


def test_nothing_is_cut_where_all_is_well() -> None:
    found = [bright_limit(*drawn(seed, n_stars=40 + 5 * seed)) for seed in range(200)]
    assert np.isinf(found).mean() > 0.985


@pytest.mark.parametrize("onset", [9.5, 10.5])
def test_saturated_stars_are_found_where_they_begin(onset: float) -> None:
    limits = []
    for seed in range(20):
        star, level, residual, errors = drawn(seed)
        lost = 0.3 * np.maximum(onset - (level - residual), 0.0)
        limits.append(bright_limit(star, level, residual - lost, errors))
    assert np.isfinite(limits).mean() > 0.9
    found = np.array(limits)[np.isfinite(limits)]
    # A ramp is cut where it is significant, which is not where it begins.
    assert abs(np.median(found) - onset) < 0.4 and (found < onset + 1.0).all()


def test_too_few_stars_cut_nothing() -> None:
    star, level, residual, errors = drawn(0, n_stars=20)
    assert bright_limit(star, level, residual - (level < 11.0), errors) == -np.inf
    nothing = np.zeros(0)
    assert bright_limit(np.zeros(0, np.intp), nothing, nothing, (nothing, nothing)) == -np.inf


def test_a_slope_over_all_magnitudes_is_no_departure() -> None:
    for seed in range(20):
        star, level, residual, errors = drawn(seed, n_stars=1000)
        assert bright_limit(star, level, residual + 0.008 * (level - 11.0), errors) == -np.inf
