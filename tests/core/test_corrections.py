from __future__ import annotations

from typing import Any

import pytest

from skylake.core.corrections import correction, corrections_in


@pytest.mark.parametrize(
    "values",
    [
        {"optics.pixel_scale_arcsec": 31.71},
        {"optics.pixel_scale_arcsec": 212.0, "astrometry.mirrored": True},
        {"optics.pixel_scale_arcsec": 1e-05},
        {"detector.width_px": 1024, "detector.height_px": 1000},
    ],
)
def test_what_is_advised_is_read_again(values: dict[str, Any]) -> None:
    found = corrections_in(f"the frame is odd; {correction(values)}, or use another; and more")
    assert found == values
    assert [type(value) for value in found.values()] == [type(value) for value in values.values()]


@pytest.mark.parametrize(
    "message",
    [
        None,
        "",
        "clouds",
        "set a lamp in the profile",
        "set name = x in the profile",
        "the card OBJECT holds 'set a.b = zz in the profile'",
        "set a.b = 5 in the profile",
        "set optics.pixel_scale_arcsec = zz in the profile",
        "set optics.pixel_scale_arcsec = inf in the profile",
        "set optics.pixel_scale_arcsec = 2024-10-01 in the profile",
        "set optics.pixel_scale_arcsec.real = 5 in the profile",
        pytest.param(f"set optics.pixel_scale_arcsec = {'9' * 5000} in the profile", id="5000 digits"),
    ],
)
def test_other_sentences_advise_nothing(message: str | None) -> None:
    assert corrections_in(message) == {}
