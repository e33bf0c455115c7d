from __future__ import annotations

import re

import pytest

from skylake.cameras import load, names
from skylake.core.bands import BANDS, as_it_is, colour_column, mag_column, survey_band


def test_bands_are_known_by_their_names() -> None:
    assert all(name == band.name for name, band in BANDS.items())
    assert all(300.0 < band.wavelength_nm < 2500.0 for band in BANDS.values())


def test_the_air_takes_less_light_the_longer_the_wavelength() -> None:
    """Within the broad optical bands of one system; water bands in the infrared are another matter."""
    for names_ in ("UBVRI", "ugrizy"):
        bands = [BANDS[name] for name in names_]
        assert [band.wavelength_nm for band in bands] == sorted(band.wavelength_nm for band in bands)
        assert [band.extinction for band in bands] == sorted((b.extinction for b in bands), reverse=True)


def test_columns_of_bands_and_colours_are_plain_names() -> None:
    columns = [mag_column(name) for name in BANDS]
    assert mag_column("V") == "mag_V" and colour_column("B-V") == "colour_B_V"
    assert len(set(columns)) == len(BANDS)
    assert all(
        re.fullmatch(r"[A-Za-z0-9_]+", column) for column in (*columns, colour_column("Gaia_BP-Gaia_RP"))
    )


def test_shipped_cameras_have_known_bands_and_colours() -> None:
    for name in names():
        for known in load(name).base.filters.values():
            assert known.band in BANDS
            assert known.colour is None or set(known.colour.split("-")) <= set(BANDS)


def test_a_common_name_takes_the_band_of_any_survey_and_its_own_name_no_other() -> None:
    assert survey_band("g", "ps1") == survey_band("g", "refcat2") == "PS1_g"
    assert survey_band("V", "apass") == "V" and survey_band("g", "") == "g"
    assert survey_band("Gaia_G", "refcat2") == survey_band("Gaia_G", "gaia_dr2") == "GaiaDR2_G"
    assert as_it_is("r", ["g", "r"], "ps1") == "r"
    assert as_it_is("PS1_r", ["g", "r"], "ps1") == "r"
    assert as_it_is("SDSS_r", ["g", "r"], "ps1") is None
    assert as_it_is("SDSS_r", ["g", "r"]) is None, "of an unknown survey"
    assert as_it_is("r", ["PS1_r"]) == "PS1_r"
    assert as_it_is("R", ["PS1_r", "r"]) is None


def test_fluxes_of_magnitude_zero_agree_with_those_of_2mass() -> None:
    """Cohen et al. (2003): 1594, 1024 and 667 Jy; Bessell (1998): V 3636 Jy."""
    for name, flux in (("J", 1594.0), ("H", 1024.0), ("K", 666.7), ("V", 3636.0)):
        assert BANDS[name].zero_flux_jy == pytest.approx(flux, rel=0.05)
    assert BANDS["PS1_g"].zero_flux_jy == 3631.0 and BANDS["VT"].zero_flux_jy is None
    assert all((band.ab_offset == 0.0) == (band.system == "AB") for band in BANDS.values())
