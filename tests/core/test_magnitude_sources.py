from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from skylake.core.magnitude_sources import bands_of, colour_sources, magnitude_source, read_colour
from skylake.core.published_transformations import transformations_to

Floats = np.ndarray
REFCAT2 = [
    f"mag_{band}{end}"
    for band in ("g", "r", "i", "z", "Gaia_G", "Gaia_BP", "Gaia_RP")
    for end in ("", "_err")
]


def reader(**columns: float) -> Callable[[str], Floats]:
    return lambda name: np.full(1, columns.get(name, np.nan))


def test_a_column_is_better_than_a_transformation() -> None:
    source = magnitude_source("V", ["mag_V", "mag_V_err", *REFCAT2], "refcat2")
    assert source is not None and source.transformation is None
    assert source.columns == ["mag_V", "mag_V_err"]
    mag, error = source.read(reader(mag_V=9.0, mag_V_err=0.02), 0.05)
    assert (mag[0], error[0]) == (9.0, 0.02)
    assert source.read(reader(mag_V=9.0), 0.05)[1][0] == 0.05
    assert np.isnan(source.read(reader(), 0.05)).all(), "an error without a magnitude"


def test_the_survey_says_what_a_common_name_means() -> None:
    source = magnitude_source("R", REFCAT2, "refcat2")
    assert source is not None and source.transformation is not None
    assert source.inputs == (("PS1_r", "r"), ("PS1_g", "g"))
    assert source.columns == ["mag_r", "mag_r_err", "mag_g", "mag_g_err"]
    unknown = magnitude_source("R", REFCAT2)
    assert unknown is not None and unknown.inputs[0] == ("Gaia_G", "Gaia_G"), (
        "r of an unknown survey is of no use"
    )
    assert magnitude_source("R", ["mag_g", "mag_r", "mag_i"]) is None
    assert magnitude_source("SDSS_r", ["mag_r", "mag_g"], "sdss").transformation is None  # type: ignore[union-attr]
    assert magnitude_source("U", REFCAT2, "refcat2") is None


def test_a_transformed_magnitude_is_that_of_the_transformation() -> None:
    source = magnitude_source("R", REFCAT2, "refcat2")
    (tonry, *_) = transformations_to("R", ["PS1_g", "PS1_r"])
    one = np.ones(1)
    expected = tonry.apply(
        {"PS1_g": 15.5 * one, "PS1_r": 15.0 * one}, {"PS1_g": 0.05 * one, "PS1_r": 0.01 * one}
    )
    assert source is not None
    found = source.read(reader(mag_g=15.5, mag_r=15.0, mag_r_err=0.01), 0.05)
    np.testing.assert_array_equal(found, expected)


def test_a_colour_is_given_or_a_difference_of_what_can_be_had() -> None:
    assert [source.inputs[0][0] for source in colour_sources("B-V", REFCAT2, "refcat2")] == ["PS1_g", "PS1_r"]
    assert colour_sources("B-V", ["mag_V"]) != [] and len(colour_sources("B-V", ["mag_V"])) == 1
    stars = reader(mag_g=15.5, mag_r=15.0)
    colour = read_colour("B-V", REFCAT2, "refcat2", stars)[0]
    b = 15.5 + 0.212 + 0.556 * 0.5 + 0.034 * 0.25
    v = 15.0 + 0.005 + 0.462 * 0.5 + 0.013 * 0.25
    assert colour == pytest.approx(b - v)
    assert (
        read_colour("B-V", [*REFCAT2, "colour_B_V"], "refcat2", reader(colour_B_V=0.3, mag_g=15.5))[0] == 0.3
    )
    assert np.isnan(read_colour("B-V", ["mag_V"], "", reader(mag_V=9.0))).all()


def test_bands_are_those_of_the_columns() -> None:
    assert bands_of(["ref_id", "mag_V", "mag_V_err", "mag_PS1_g", "colour_B_V"]) == ["V", "PS1_g"]
