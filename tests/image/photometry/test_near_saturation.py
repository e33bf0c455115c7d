"""What pixels beyond the linear range do to the flux of a star, and what saturated ones do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from skylake.core.flags import SourceFlag
from skylake.simulate import Moffat

#: Levels of raw pixels, ADU.
SATURATION, LINEARITY = 50_000.0, 40_000.0
#: Exposure of fields and radius of the second aperture, as the fixtures have them.
EXPOSURE_S, RADIUS_PX = 20.0, 5.0


@pytest.mark.parametrize("fwhm", [1.7, 2.5, 4.0])
@pytest.mark.parametrize(
    ("missing", "most_mmag"),
    [
        (0.0, 1.5),
        pytest.param(0.02, 3.0, marks=pytest.mark.full),
        pytest.param(0.05, 6.0, marks=pytest.mark.full),
    ],
)
def test_near_saturation_alone_biases_a_star_by_far_less_than_10_mmag(
    fwhm: float,
    missing: float,
    most_mmag: float,
    grid_field: Callable[..., Any],
    measure: Callable[..., Any],
    as_image: Callable[..., Any],
) -> None:
    """`missing` is the share of the charge of a pixel just below saturation that is not counted."""
    psf, flags, off = Moffat(fwhm), [], []
    for seed in range(3):
        field = grid_field(seed, flux=(0.3 * SATURATION / psf.peak, 1.6 * SATURATION / psf.peak), psf=psf)
        charge = np.minimum(field.pixels.astype(float), SATURATION)
        bend = np.maximum(charge - LINEARITY, 0.0) / (SATURATION - LINEARITY)
        counts = charge - missing * SATURATION * bend**2
        full = (1.0 - missing) * SATURATION - 1.0
        image = as_image(counts, saturation=full, linearity=LINEARITY)
        sources = measure(replace(field, pixels=counts.astype(np.float32)), image).sources
        index, distance = field.nearest(sources.x, sources.y)
        assert distance.max() < 0.5
        measured = EXPOSURE_S * sources.flux["aper2"][index]
        off.append(-2500.0 * np.log10(measured / (field.flux * field.held(RADIUS_PX))))
        flags.append(sources.flags[index])
    bits, mmag = np.concatenate(flags), np.concatenate(off)
    both = int(SourceFlag.SATURATED | SourceFlag.NEAR_SATURATED)
    is_linear, is_near = (bits & both) == 0, (bits & both) == int(SourceFlag.NEAR_SATURATED)
    is_full = (bits & int(SourceFlag.SATURATED)) != 0
    assert min(map(np.count_nonzero, (is_linear, is_near, is_full))) > 30
    usual = np.median(mmag[is_linear])
    assert abs(np.median(mmag[is_near]) - usual) < most_mmag
    assert np.median(mmag[is_full]) - usual > 10.0, "saturation itself is another matter"
