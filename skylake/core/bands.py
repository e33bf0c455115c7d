"""Photometric bands of catalogs and filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

System = Literal["Vega", "AB"]
"""What magnitudes are measured against: the star Vega, or a flux of 3631 jansky."""


@dataclass(frozen=True, slots=True)
class Band:
    """A photometric band.

    Attributes
    ----------
    name : str
        Name as it appears in catalog columns (``mag_<name>``).
    system : {'Vega', 'AB'}
        System that the magnitudes refer to.
    wavelength_nm : float
        Effective wavelength.
    extinction : float
        Typical atmospheric extinction at sea-level to mid-altitude sites, mag per airmass.
    """

    name: str
    system: System
    wavelength_nm: float
    extinction: float


#: Bands known by name. A profile or catalog may use others; these carry a system and a wavelength.
BANDS: dict[str, Band] = {
    band.name: band
    for band in (
        Band("U", "Vega", 366, 0.54),
        Band("B", "Vega", 436, 0.23),
        Band("V", "Vega", 545, 0.12),
        Band("R", "Vega", 641, 0.09),
        Band("I", "Vega", 798, 0.04),
        Band("BT", "Vega", 421, 0.25),
        Band("VT", "Vega", 532, 0.13),
        Band("Hp", "Vega", 528, 0.13),
        Band("u", "AB", 356, 0.59),
        Band("g", "AB", 472, 0.14),
        Band("r", "AB", 619, 0.08),
        Band("i", "AB", 750, 0.06),
        Band("z", "AB", 896, 0.04),
        Band("y", "AB", 961, 0.03),
        Band("SkyMapper_v", "AB", 384, 0.40),
        Band("Y", "Vega", 1020, 0.03),
        Band("J", "Vega", 1235, 0.10),
        Band("H", "Vega", 1662, 0.06),
        Band("K", "Vega", 2159, 0.08),
        Band("Gaia_G", "Vega", 622, 0.12),
        Band("Gaia_BP", "Vega", 511, 0.15),
        Band("Gaia_RP", "Vega", 777, 0.06),
    )
}


def mag_column(band: str) -> str:
    """Return the name of the catalog column that holds magnitudes in `band`."""
    return f"mag_{band}"


def colour_column(colour: str) -> str:
    """Return the name of the catalog column of a colour such as ``B-V``."""
    return "colour_" + colour.replace("-", "_")


def filter_called(name: str | None, names: Mapping[str, Sequence[str]]) -> str | None:
    """Return the key of the filter that has a name; None if it is unknown.

    The case of letters counts where it must, r being another filter than R, and else does not. A name that could be
    two filters is unknown.

    Parameters
    ----------
    name : str or None
    names : mapping
        Names of each filter by its key.
    """
    wanted = (name or "").strip()
    for same in (str, str.lower):
        keys = [key for key, some in names.items() if same(wanted) in map(same, some)]
        if keys:
            return keys[0] if len(keys) == 1 else None
    return None
