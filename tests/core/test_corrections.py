from __future__ import annotations

from typing import Any

import pytest

from skylake.core.corrections import correction, corrections_of
from skylake.core.reasons import Reason
from skylake.errors import FrameRejected


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ({"optics.pixel_scale_arcsec": 31.7123}, "optics.pixel_scale_arcsec = 31.71"),
        (
            {"optics.pixel_scale_arcsec": 212.0, "astrometry.mirrored": True},
            "optics.pixel_scale_arcsec = 212.0 and astrometry.mirrored = true",
        ),
        ({"optics.pixel_scale_arcsec": 1e-05}, "optics.pixel_scale_arcsec = 1e-05"),
        (
            {"detector.width_px": 10240, "detector.height_px": 1000},
            "detector.width_px = 10240 and detector.height_px = 1000",
        ),
    ],
)
def test_advice_names_the_values_that_travel_with_it(values: dict[str, Any], advice: str) -> None:
    corrections = corrections_of(values)
    assert correction(corrections) == f"set {advice} in the profile" == correction(values)
    for key, value in corrections.items():
        assert type(value) is type(values[key]) and value == pytest.approx(values[key], rel=1e-3)
    # Written and read again, they are the same.
    assert corrections_of(corrections) == corrections


def test_an_error_keeps_them() -> None:
    wanted = corrections_of({"optics.pixel_scale_arcsec": 31.7})
    assert FrameRejected(Reason.BAD_WCS, "odd", wanted).corrections == wanted
    assert FrameRejected(Reason.BAD_WCS, "odd").corrections == {}
