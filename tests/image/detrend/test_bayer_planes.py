"""One colour plane of a mosaic: the pixels of that colour, and a WCS that puts them where they were."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.flags import PixelFlag
from skylake.image.detrend.bayer_planes import bayer_cells, moved_wcs, take_mask, take_plane

PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")


def mosaic(pattern: str, height: int = 10, width: int = 12) -> np.ndarray:
    """A picture in which each colour has its own value: 1, 2 and 3 for red, green and blue."""
    values = {"R": 1.0, "G": 2.0, "B": 3.0}
    cell = np.array([values[letter] for letter in pattern], np.float32).reshape(2, 2)
    return np.tile(cell, (height // 2, width // 2))


@given(
    st.sampled_from(PATTERNS),
    st.sampled_from(["R", "G", "G1", "G2", "B"]),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_a_plane_has_its_colour_wherever_the_image_was_trimmed(
    pattern: str, colour: str, x0: int, y0: int
) -> None:
    trimmed = mosaic(pattern)[y0:, x0:]
    cells = bayer_cells(pattern, colour, (x0, y0))  # type: ignore[arg-type]
    assert len(cells) == (2 if colour == "G" else 1)
    plane, (x, y) = take_plane(trimmed, cells)
    assert set(plane.ravel()) == {{"R": 1.0, "G": 2.0, "B": 3.0}[colour[0]]}
    assert plane.shape == (trimmed.shape[0] // 2, trimmed.shape[1] // 2)
    assert (x, y) == ((0.5, 0.5) if colour == "G" else cells[0])


def test_the_two_greens_are_kept_apart_and_bits_of_both_count() -> None:
    (first,), (second,) = (bayer_cells("RGGB", one, (0, 0)) for one in ("G1", "G2"))  # type: ignore[arg-type]
    assert first == (1, 0) and second == (0, 1)
    mask = np.zeros((4, 4), np.uint8)
    mask[0, 1], mask[1, 0] = PixelFlag.HOT, PixelFlag.DEAD
    both = take_mask(mask, bayer_cells("RGGB", "G", (0, 0)))
    assert both.tolist() == [[int(PixelFlag.HOT | PixelFlag.DEAD), 0], [0, 0]]


@given(
    st.sampled_from([1, 2, 3]),
    st.floats(0.0, 20.0).map(lambda value: round(2.0 * value) / 2.0),
    st.floats(0.0, 20.0).map(lambda value: round(2.0 * value) / 2.0),
    st.booleans(),
    st.booleans(),
)
def test_the_wcs_puts_pixels_where_they_were(
    step: int, x0: float, y0: float, sip: bool, has_cd: bool
) -> None:
    header = fits.Header()
    suffix = "-SIP" if sip else ""
    cards = {
        "CTYPE1": f"RA---TAN{suffix}", "CTYPE2": f"DEC--TAN{suffix}", "CRVAL1": 120.0, "CRVAL2": -25.0,
        "CRPIX1": 31.25, "CRPIX2": 40.5,
    }  # fmt: skip
    cards |= (
        {"CD1_1": -0.002, "CD1_2": 1e-4, "CD2_1": 1e-4, "CD2_2": 0.002}
        if has_cd
        else {"CDELT1": -0.002, "CDELT2": 0.002}
    )
    if sip:
        cards |= {"A_ORDER": 3, "B_ORDER": 3, "A_2_0": 3e-5, "A_1_1": -2e-5, "B_0_3": 1e-6, "B_2_0": 1e-5}
    header.update(cards)
    wcs = WCS(header)
    moved = moved_wcs(wcs, (x0, y0), step)
    x, y = np.mgrid[0:30:7, 0:30:7].reshape(2, -1).astype(float)
    wanted = wcs.all_pix2world(x0 + step * x, y0 + step * y, 0)
    found = moved.all_pix2world(x, y, 0)
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_an_image_smaller_than_a_cell_is_reported() -> None:
    with pytest.raises(Exception, match="smaller than a cell"):
        take_plane(np.zeros((1, 9), np.float32), [(0, 0)])
