from __future__ import annotations

import pytest

from skylake.core.bands import BANDS
from skylake.errors import UsageError
from skylake.report.stars.aavso_filters import aavso_filter

CODES = {
    "U": "U", "B": "B", "V": "V", "R": "R", "I": "I", "J": "J", "H": "H", "K": "K",
    "u": "SU", "g": "SG", "r": "SR", "i": "SI", "z": "SZ", "y": "Y",
    "SDSS_u": "SU", "SDSS_g": "SG", "SDSS_r": "SR", "SDSS_i": "SI", "SDSS_z": "SZ",
    "PS1_g": "SG", "PS1_r": "SR", "PS1_i": "SI", "PS1_z": "ZS", "PS1_y": "Y",
    "APASS_g": "SG", "APASS_r": "SR", "APASS_i": "SI",
}  # fmt: skip


@pytest.mark.parametrize("band", BANDS)
def test_each_band_has_the_code_of_the_aavso_or_none(band: str) -> None:
    if band in CODES:
        assert aavso_filter(band, band) == aavso_filter(band, None) == CODES[band]
    else:
        with pytest.raises(UsageError, match=f"no filter for the band {band}; choose the points of another"):
            aavso_filter(band, band)


@pytest.mark.parametrize(("band", "code"), [("Rc", "R"), ("Ic", "I"), ("Ks", "K")])
def test_other_names_of_bands(band: str, code: str) -> None:
    assert aavso_filter(band, band) == code


@pytest.mark.parametrize(
    ("survey", "code"), [("ps1", "ZS"), ("refcat2", "ZS"), ("sdss", "SZ"), ("apass", "SZ"), ("", "SZ")]
)
def test_z_is_that_of_the_catalog(survey: str, code: str) -> None:
    assert aavso_filter("z", "z", survey) == code
    assert aavso_filter("r", "r", survey) == "SR"


@pytest.mark.parametrize("name", ["clear", "Clear", "none", "EMPTY", "open", " ", ""])
def test_unfiltered_measurements_are_so_for_the_aavso(name: str) -> None:
    assert [aavso_filter(band, name) for band in ("V", "R", "Rc")] == ["CV", "CR", "CR"]
    for band in ("B", "g", "Gaia_G"):
        with pytest.raises(UsageError, match=f"compared with V or R, and these are in {band}; set the band"):
            aavso_filter(band, name)
