from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.bands import BANDS
from skylake.simulate.colours import SIMULATED_BANDS, colour_index, has_band, has_colour, magnitude

colours = st.floats(0.0, 1.8)


@given(st.floats(5.0, 20.0), colours)
def test_b_minus_v_is_b_minus_v(v_mag: float, b_minus_v: float) -> None:
    assert magnitude("V", v_mag, b_minus_v) == v_mag
    assert colour_index("B-V", b_minus_v) == pytest.approx(b_minus_v)


@given(st.floats(0.0, 1.7))
def test_redder_stars_are_redder_in_every_colour(b_minus_v: float) -> None:
    for colour in ("B-V", "V-R", "g-r", "r-i"):
        assert colour_index(colour, b_minus_v + 0.1) > colour_index(colour, b_minus_v)


def test_every_band_is_a_known_one() -> None:
    assert set(SIMULATED_BANDS) <= set(BANDS)
    assert has_band("g") and not has_band("K")
    assert has_colour("g-r") and not has_colour("J-K") and not has_colour("gr")


def test_the_bands_stand_in_order_of_wavelength() -> None:
    """A red star is brighter the longer the wavelength, within the systems."""
    for bands in (("B", "V", "R"), ("g", "r", "i")):
        assert (np.diff([float(magnitude(band, 0.0, 1.2)) for band in bands]) < 0.0).all()
