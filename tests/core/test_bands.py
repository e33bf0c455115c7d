from __future__ import annotations

import re

from skylake.cameras import load, names
from skylake.core.bands import BANDS, colour_column, mag_column


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
    assert all(re.fullmatch(r"[A-Za-z_]+", column) for column in (*columns, colour_column("Gaia_BP-Gaia_RP")))


def test_shipped_cameras_have_known_bands_and_colours() -> None:
    for name in names():
        for known in load(name).base.filters.values():
            assert known.band in BANDS
            assert known.colour is None or set(known.colour.split("-")) <= set(BANDS)
