"""Hints to the plate solver, and lenses as texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.astrometry_settings import Astrometry
from skylake.core.attitudes import pointing_of_attitude
from skylake.core.camera import Camera, Optics
from skylake.core.reasons import Reason
from skylake.image.solving.expected_pointing import telescope_attitude
from skylake.image.solving.pointing_hints import attempts, contradicted, hinted_centre, in_turn, why_unsolved
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.solve_stars import Solution, Unsolved
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_text import lens_of_text, lens_text

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
def test_cards_show_where_to_look(cards: dict[str, Any], centre: tuple[float, float] | None) -> None:
    assert hinted_centre(cards, CAMERA) == (centre and pytest.approx(centre))


def test_a_hint_is_tried_first_and_not_believed() -> None:
    near, anywhere, nothing = attempts({"RA": 3.0, "DEC": 4.0}, CAMERA, 2)
    assert near.centre == (3.0, 4.0) and anywhere.centre is None
    assert near.scale_low == anywhere.scale_low == pytest.approx(8.0 / 1.2)
    assert (nothing.scale_low, nothing.scale_high, nothing.centre, nothing.parity) == (None, None, None, None)
    assert near.seconds + anywhere.seconds + nothing.seconds == pytest.approx(CAMERA.astrometry.seconds)
    turned, last = attempts({}, replace(CAMERA, optics=Optics(), astrometry=Astrometry(mirrored=False)))
    assert (turned.scale_low, turned.scale_high, turned.centre, turned.parity) == (None, None, None, -1)
    assert last.parity is None
    # Where nothing is given there is but one way.
    (only,) = attempts({}, replace(CAMERA, optics=Optics(), astrometry=Astrometry()))
    assert only == SolveParams(seconds=CAMERA.astrometry.seconds)


def answer(seconds: float, n_guesses: int, message: str) -> Unsolved:
    return Unsolved(Reason.NO_WCS, message, 0.0, n_guesses, seconds)


def test_what_an_attempt_leaves_of_its_time_the_next_may_take() -> None:
    tries = [SolveParams(scale_low=1.0, seconds=1.0), SolveParams(seconds=0.25), SolveParams(seconds=0.5)]
    lent = []

    def attempt(params: SolveParams) -> Unsolved:
        lent.append(params.seconds)
        return answer(0.125 if params.scale_low else params.seconds + 0.01, len(lent), f"try {len(lent)}")

    done = [one for _, one in in_turn(tries, attempt)]
    assert lent == [1.0, 1.125, 0.5]
    told = SolveParams(scale_low=1.0, scale_high=2.0)
    assert (
        why_unsolved(done, told)
        == "try 3; nor does one fit with scale, centre and parity left open, as if none was given"
    )
    assert why_unsolved(done[:1], told) == "try 1"
    # A width for which there are no patterns says more than a long search for any width.
    narrow = replace(done[0], message="no patterns", n_guesses=0, without_patterns=True)
    assert why_unsolved([narrow, *done], told).startswith("no patterns; ")
    # Where there is nothing to search, nothing was searched with fewer hints.
    lacking = replace(done[0], message="no index", n_guesses=0, without_index=True)
    assert why_unsolved([lacking, lacking], told) == "no index"
    # Of a width that nobody gave the picture may show the whole sky, but no word of that where there are no stars.
    assert "--all-sky" in why_unsolved(done[:1], SolveParams())
    few = replace(done[0], reason=Reason.TOO_FEW_SOURCES)
    assert why_unsolved([few], SolveParams()) == "try 1"


def test_contradictions_of_stars_and_header_are_put_in_words() -> None:
    found = Solution(
        np.eye(3)[[1, 2, 0]], 3600.0, (0.0, 0.0), -1, (100, 100), np.zeros(0, np.int64), np.zeros((0, 3)),
        np.zeros(0), 20.0, 0.1, 1, 0.1,
    )  # fmt: skip
    told = SolveParams(scale_low=50.0, scale_high=60.0, parity=-1, centre=found.centre, rotation_deg=5.0)
    assert contradicted(told, found) is None
    wrong = SolveParams(
        scale_low=20.0, scale_high=30.0, parity=1, centre=(40.0, 0.0), radius_deg=2.0, rotation_deg=90.0
    )
    sentence = contradicted(wrong, found) or ""
    for words in (
        "57.3 arcsec per pixel, and 20 to 30",
        "is not mirrored, and was given as mirrored",
        "40 degrees from",
        "90",
    ):
        assert words in sentence


def test_a_header_that_stars_contradict_is_not_believed() -> None:
    from astropy.io import fits
    from astropy.wcs import WCS

    from skylake.image.wcs.header_wcs import describe_pointing

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
    near, anywhere = attempts({}, replace(CAMERA, optics=Optics()), 1, pointing)[:2]
    assert near.centre == pytest.approx((3.0, 4.0), abs=0.01) and near.scale_high == pytest.approx(
        7.2 * 1.2, rel=1e-3
    )
    assert (anywhere.centre, anywhere.scale_low, anywhere.scale_high) == (None, None, None)
    # What the profile says of the scale is no word of the header.
    near, anywhere, nothing = attempts({}, CAMERA, 1, pointing)
    assert (near.scale_high, anywhere.scale_high, nothing.scale_high) == (*[pytest.approx(4.8)] * 2, None)


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
