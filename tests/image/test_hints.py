"""Hints to the plate solver, and lenses as texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.astrometry import Astrometry
from skylake.core.attitudes import pointing_of_attitude
from skylake.core.camera import Camera, Optics
from skylake.image.hints import attempts, hinted_centre
from skylake.image.lens import Lens
from skylake.image.lenstext import lens_of_text, lens_text
from skylake.image.seeds import telescope_attitude

CAMERA = Camera(
    "lab", optics=Optics(pixel_scale_arcsec=4.0), astrometry=Astrometry(ra=("TELRA", "RA"), dec=("TELDEC", "DEC"))
)  # fmt: skip


@pytest.mark.parametrize(
    ("cards", "centre"),
    [
        ({"RA": 83.5, "DEC": -5.25}, (83.5, -5.25)),
        ({"RA": "05:34:00", "DEC": "-05 15 00.0"}, (83.5, -5.25)),
        ({"RA": "05 34", "DEC": "-00:15"}, (83.5, -0.25)),
        ({"RA": "-10.0", "DEC": "+5"}, (350.0, 5.0)),
        ({"TELRA": 1.0, "TELDEC": 2.0, "RA": 3.0, "DEC": 4.0}, (1.0, 2.0)),
        ({"TELRA": "parked", "TELDEC": 2.0, "RA": 3.0, "DEC": 4.0}, (3.0, 4.0)),
        ({"RA": 3.0, "DEC": 95.0}, None),
        ({"RA": float("nan"), "DEC": 5.0}, None),
        ({"RA": True, "DEC": 5.0}, None),
        ({"RA": 3.0}, None),
    ],
)
def test_cards_tell_where_to_look(cards: dict[str, Any], centre: tuple[float, float] | None) -> None:
    assert hinted_centre(cards, CAMERA) == (centre and pytest.approx(centre))


def test_a_hint_is_tried_first_and_not_believed() -> None:
    near, anywhere = attempts({"RA": 3.0, "DEC": 4.0}, CAMERA, 2)
    assert near.centre == (3.0, 4.0) and anywhere.centre is None
    assert near.scale_low == anywhere.scale_low == pytest.approx(8.0 / 1.2)
    assert near.seconds + anywhere.seconds == pytest.approx(CAMERA.astrometry.seconds)
    (only,) = attempts({}, replace(CAMERA, optics=Optics(), astrometry=Astrometry(mirrored=False)))
    assert (only.scale_low, only.scale_high, only.centre, only.parity) == (None, None, None, -1)


def test_of_a_header_that_the_stars_contradict_nothing_is_believed_in_the_end() -> None:
    from astropy.io import fits
    from astropy.wcs import WCS

    from skylake.image.astrometry import describe_pointing

    cards = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": 3.0,
        "CRVAL2": 4.0,
        "CRPIX1": 50.0,
        "CRPIX2": 50.0,
    }
    scales = {"CD1_1": -0.002, "CD2_2": 0.002}
    pointing = describe_pointing(WCS(fits.Header(cards | scales)), 100, 100)
    near, anywhere = attempts({}, replace(CAMERA, optics=Optics()), 1, pointing)
    assert near.centre == pytest.approx((3.0, 4.0), abs=0.01) and near.scale_high == pytest.approx(
        7.2 * 1.2, rel=1e-3
    )
    assert (anywhere.centre, anywhere.scale_low, anywhere.scale_high) == (None, None, None)
    # What the profile says of the scale is no word of the header.
    assert [one.scale_high for one in attempts({}, CAMERA, 1, pointing)] == pytest.approx([4.8, 4.8])


numbers = st.floats(-3.0, 3.0)


@given(
    st.lists(numbers, min_size=13, max_size=13), st.sampled_from(["rectilinear", "equisolid"]), st.booleans()
)
def test_a_lens_is_the_same_after_it_was_written(
    values: list[float], projection: str, mirrored: bool
) -> None:
    lens = Lens.from_parameters(values, projection, mirrored)
    assert lens_of_text(lens_text(lens)) == lens


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"projection": "rectilinear"}', "null"])
def test_another_text_is_no_lens(text: str) -> None:
    with pytest.raises(ValueError):
        lens_of_text(text)


@pytest.mark.parametrize(("cards", "equinox"), [({"EQUINOX": 1950.0}, "cards"), ({}, "B1950")])
def test_cards_of_another_equinox_are_brought_to_the_icrs(cards: dict[str, Any], equinox: str) -> None:
    camera = replace(CAMERA, astrometry=replace(CAMERA.astrometry, equinox=equinox, rotation_deg=0.0))
    # The pole of B1950 is 1,002 arcsec from that of the ICRS, and 0h 0m there is 0h 2m 34s.
    ra, dec = hinted_centre({"RA": 0.0, "DEC": 0.0} | cards, camera) or (0.0, 0.0)
    assert ra == pytest.approx(0.6407, abs=1e-3) and dec == pytest.approx(0.2783, abs=1e-3)
    attitude = telescope_attitude({"RA": 90.0, "DEC": 80.0} | cards, camera, 60000.0)
    assert attitude is not None
    centre = pointing_of_attitude(attitude)
    assert centre[:2] == pytest.approx(hinted_centre({"RA": 90.0, "DEC": 80.0} | cards, camera))
    # Near the pole north is elsewhere: the pole has moved by 0.278 degrees, across ten degrees from there.
    assert 1.2 < abs((centre[2] + 180.0) % 360.0 - 180.0) < 2.0
