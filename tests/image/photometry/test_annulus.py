"""The clipped sky of annuli, against the plain way for one source and against truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.flags import SourceFlag
from skylake.image.photometry.annulus import annulus_sky, common_parts

SHAPE = (80, 100)


def picture(seed: int) -> Any:
    return np.random.default_rng(seed).normal(5.0, 2.0, SHAPE).astype("f4")


def one_by_one(signal: Any, clean: Any, x: float, y: float, inner: float, outer: float) -> tuple[float, ...]:
    """What the docstring says, for one source."""
    row, column = np.indices(signal.shape)
    distance = np.hypot(column - x, row - y)
    values = signal[clean & (distance >= inner) & (distance < outer)].astype(float)
    if values.size == 0:
        return 0.0, 0.0, 0
    ordered = np.sort(values)
    top = ordered.size - 1
    centre = np.median(ordered)
    sigma = min(centre - ordered[round(0.158655 * top)], ordered[round(0.841345 * top)] - centre)
    for _ in range(2):
        kept = values[np.abs(values - centre) <= 3.0 * sigma]
        centre = kept.mean() if kept.size else centre
        sigma = kept.std() / 0.98658 if kept.size else 0.0
    return float(centre), float(sigma / np.sqrt(max(kept.size, 1))), values.size


@given(
    seed=st.integers(0, 10**6),
    inner=st.floats(2.0, 12.0),
    width=st.floats(1.0, 10.0),
    clean_share=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
)
def test_all_sources_at_once_are_as_one_by_one(
    seed: int, inner: float, width: float, clean_share: float
) -> None:
    random = np.random.default_rng(seed)
    signal = picture(seed)
    signal[random.random(SHAPE) < 0.03] += 500.0
    clean = random.random(SHAPE) < clean_share
    x, y = random.uniform(0.0, SHAPE[1] - 1.0, 12), random.uniform(0.0, SHAPE[0] - 1.0, 12)
    found = np.array(annulus_sky(signal, clean, x, y, inner, inner + width))
    alone = [one_by_one(signal, clean, *place, inner, inner + width) for place in zip(x, y, strict=True)]
    np.testing.assert_allclose(found, np.array(alone).T, rtol=1e-6, atol=1e-6)


def test_the_error_is_that_of_the_mean() -> None:
    x, y = np.full(60, 50.0), np.full(60, 40.0)
    clean = np.ones(SHAPE, bool)
    pulls = [
        (level[0] - 5.0) / error[0]
        for level, error, _ in (annulus_sky(picture(seed), clean, x[:1], y[:1], 10.0, 15.0) for seed in range(400))
    ]  # fmt: skip
    assert abs(np.mean(pulls)) < 0.15 and np.std(pulls) == pytest.approx(1.0, abs=0.12)


def test_a_trail_through_the_annulus_does_not_raise_the_sky() -> None:
    signal = picture(3)
    signal[48:52] += 4000.0
    level, error, number = annulus_sky(
        signal, np.ones(SHAPE, bool), np.array([50.0]), np.array([40.0]), 8.0, 14.0
    )
    assert number[0] == pytest.approx(np.pi * (14.0**2 - 8.0**2), rel=0.03)
    assert abs(level[0] - 5.0) < 4.0 * error[0] and error[0] == pytest.approx(
        2.0 / np.sqrt(number[0]), rel=0.2
    )


def test_many_sources_are_taken_in_pieces_and_none_are_none() -> None:
    random = np.random.default_rng(5)
    n = 30_000
    x, y = random.uniform(0.0, 99.0, n), random.uniform(0.0, 79.0, n)
    clean = np.ones(SHAPE, bool)
    whole = np.array(annulus_sky(picture(5), clean, x, y, 6.0, 8.0))
    some = np.sort(random.choice(n, 40, replace=False))
    np.testing.assert_allclose(whole[:, some], annulus_sky(picture(5), clean, x[some], y[some], 6.0, 8.0))
    assert annulus_sky(picture(5), clean, x[:0], y[:0], 6.0, 9.0)[0].size == 0


def test_undetected_companions_do_not_change_the_flux(
    make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    """Hot pixels are smaller than the smallest detection and lie in the annulus all the same."""
    field = make_field([128.0], [128.0], [1e5], (256, 256))
    ring = np.linspace(0.0, 2.0 * np.pi, 9)[:-1]
    spoilt = field.pixels.copy()
    spoilt[
        np.rint(128.0 + 14.0 * np.sin(ring)).astype(int), np.rint(128.0 + 14.0 * np.cos(ring)).astype(int)
    ] += 900.0
    options: dict[str, Any] = {
        "apertures": {"sky_annulus_px": (12.0, 16.0)},
        "extraction": {"engine": "sep", "threshold_sigma": 8.0, "min_area_px": 12, "kernel": "none"},
    }
    (plain, hot) = (
        measure(type(field)(pixels, field.x, field.y, field.flux, field.psf, field.sky), **options).sources
        for pixels in (field.pixels, spoilt)
    )
    assert len(plain) == len(hot) == 1 and not hot.flags[0] & SourceFlag.LOCAL_SKY_FAILED
    moved = (hot.flux["aper3"] - plain.flux["aper3"]) / plain.flux_err["aper3"]
    assert abs(moved[0]) < 0.5


@pytest.mark.parametrize(("inner", "outer"), [(0.0, 12.0), (10.0, 16.0), (15.0, 20.0)])
def test_common_parts_are_those_of_the_areas_of_annuli(inner: float, outer: float) -> None:
    step = 0.5
    parts = common_parts(inner, outer, step)
    fine = np.arange(-2.0 * outer, 3.0 * outer, 0.1)
    x, y = np.meshgrid(fine, fine)
    one = (np.hypot(x, y) >= inner) & (np.hypot(x, y) < outer)
    for number in (0, 1, 5, len(parts) // 2, len(parts) - 1):
        away = np.hypot(x - number * step, y)
        assert parts[number] == pytest.approx(
            float((one & (away >= inner) & (away < outer)).sum() / one.sum()), abs=3e-3
        )
    assert parts[0] == pytest.approx(1.0)
    assert len(parts) * step >= 2.0 * outer
    assert (parts >= 0.0).all()
