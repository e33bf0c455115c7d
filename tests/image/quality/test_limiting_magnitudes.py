"""The histogram of sources shows the limit that they were drawn with, and injected stars show what the row says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from skylake.cameras import Profile
from skylake.core.camera import Injection
from skylake.image.quality.limiting_magnitudes import counts_limit
from skylake.image.reduction.reduce_frame import reduce_frame


def counted(limit: float, width: float, slope: float, count: int, seed: int = 1) -> Any:
    """Fluxes of stars whose number grows by 10^slope per magnitude and whose completeness falls at a magnitude."""
    random = np.random.default_rng(seed)
    mag = limit + 1.5 + np.log10(random.uniform(1e-6, 1.0, 12 * count)) / slope
    seen = random.random(mag.size) < ndtr((limit - mag) / width)
    return 10.0 ** (-0.4 * mag[seen][:count])


@given(st.floats(-15.0, 15.0), st.floats(0.05, 0.25), st.integers(1, 50))
def test_the_histogram_falls_to_its_half_at_the_limit(limit: float, width: float, seed: int) -> None:
    found = -2.5 * np.log10(counts_limit(counted(limit, width, 0.3, 4000, seed)))
    # Where a rising number meets a fall, the half of its maximum lies a little beyond that of completeness.
    assert abs(found - limit) < 0.1 + 0.5 * width


def test_the_limit_moves_with_the_unit_of_flux() -> None:
    flux = counted(12.0, 0.1, 0.3, 1000)
    expected = counts_limit(flux) * 10.0**0.8
    assert counts_limit(flux * 10.0**0.8) == pytest.approx(expected, rel=1e-6)


def test_fluxes_below_zero_count_for_nothing() -> None:
    flux = counted(12.0, 0.1, 0.3, 300)
    assert counts_limit(np.concatenate([flux, [-1.0, 0.0, np.nan]])) == counts_limit(flux)
    assert np.isnan(counts_limit(flux[:49]))
    assert counts_limit(np.full(60, 10.0)) == pytest.approx(10.0, rel=0.5)


def test_a_profile_that_asks_has_stars_put_into_every_frame(
    night_sky: Any, profile: Profile, fits_bytes: Callable[..., bytes], content_of: Callable[..., Any]
) -> None:
    content = content_of(fits_bytes(night_sky.pixels))
    plain = reduce_frame(content, profile)
    asked = replace(profile, base=replace(profile.base, injection=Injection(stars=1500)))
    tried, again = (reduce_frame(content, asked).row for _ in range(2))
    assert plain.row["flux_limit"] == tried["flux_limit"] and "n_injected" not in plain.row
    assert tried["n_injected"] == 1500
    # A quarter of the field is too near to one of its bright stars.
    assert 0.6 < tried["completeness"] < 0.9
    error = tried["flux_limit_injected_err"] / tried["flux_limit_injected"]
    assert 0.005 < error < 0.1
    assert 0.6 < tried["flux_limit_injected"] / tried["flux_limit"] < 1.4
    assert 0.05 < tried["completeness_width_mag"] < 0.6
    assert again["flux_limit_injected"] == tried["flux_limit_injected"]


def test_limits_in_cells_follow_the_noise(
    make_field: Callable[..., Any],
    profile: Profile,
    fits_bytes: Callable[..., bytes],
    content_of: Callable[..., Any],
) -> None:
    """The noise is three times as large in the upper third of the image."""
    y, x = np.mgrid[24:360:48, 24:360:48].reshape(2, -1).astype(float)
    field = make_field(x, y, np.full(x.size, 5e4), (384, 384), seed=3)
    more = np.random.default_rng(4).normal(0.0, np.sqrt(8.0) * field.sky_noise, field.pixels.shape)
    more[:256] = 0.0
    asked = replace(profile, base=replace(profile.base, injection=Injection(stars=1200)))
    row = reduce_frame(content_of(fits_bytes((field.pixels + more).astype(np.float32))), asked).row
    told = np.array([row[f"flux_limit_cell{number}"] for number in range(1, 10)]).reshape(3, 3)
    seen = np.array([row[f"flux_limit_injected_cell{number}"] for number in range(1, 10)]).reshape(3, 3)
    assert (told[:2] / row["flux_limit"]).max() < 1.1
    assert 2.2 < told[2].mean() / told[:2].mean() < 3.3
    assert np.isfinite(seen).all()
    assert 1.8 < np.median(seen[2]) / np.median(seen[:2]) < 4.0
