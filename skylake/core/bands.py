"""Photometric bands of catalogs and filters, and the surveys that define what a common name means.

``g`` of Pan-STARRS1 and ``g`` of the SDSS differ by a tenth of a magnitude. A catalog whose system is known has bands
their own, ``PS1_g`` or ``SDSS_g``, even if its columns are called ``mag_g``: see :func:`survey_band`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

System = Literal["Vega", "AB"]
"""What magnitudes are measured against: the star Vega, or a flux of 3631 jansky."""
#: Flux density of magnitude 0 in the AB system, Jy.
AB_ZERO_JY = 3631.0


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
    ab_offset : float or None
        AB magnitude minus that in `system`; None if unknown. Of UBVRI and JHK from Blanton & Roweis (2007, AJ 133,
        734, table 1), of Gaia from the zeropoints of Riello et al. (2021, A&A 649, A3).
    """

    name: str
    system: System
    wavelength_nm: float
    extinction: float
    ab_offset: float | None = None

    @property
    def zero_flux_jy(self) -> float | None:
        """Flux density of magnitude 0, Jy; None if unknown."""
        return None if self.ab_offset is None else AB_ZERO_JY * 10.0 ** (-0.4 * self.ab_offset)


#: Bands known by name. A profile or catalog may use others; these carry a system and a wavelength.
BANDS: dict[str, Band] = {
    band.name: band
    for band in (
        # Johnson-Cousins.
        Band("U", "Vega", 366, 0.54, 0.79),
        Band("B", "Vega", 436, 0.23, -0.09),
        Band("V", "Vega", 545, 0.12, 0.02),
        Band("R", "Vega", 641, 0.09, 0.21),
        Band("I", "Vega", 798, 0.04, 0.45),
        # Tycho-2.
        Band("BT", "Vega", 421, 0.25),
        Band("VT", "Vega", 532, 0.13),
        # Of any survey with such filters.
        Band("u", "AB", 356, 0.59, 0.0),
        Band("g", "AB", 472, 0.14, 0.0),
        Band("r", "AB", 619, 0.08, 0.0),
        Band("i", "AB", 750, 0.06, 0.0),
        Band("z", "AB", 896, 0.04, 0.0),
        Band("y", "AB", 961, 0.03, 0.0),
        Band("SkyMapper_v", "AB", 384, 0.40, 0.0),
        Band("SDSS_u", "AB", 356, 0.59, 0.0),
        Band("SDSS_g", "AB", 470, 0.14, 0.0),
        Band("SDSS_r", "AB", 618, 0.08, 0.0),
        Band("SDSS_i", "AB", 749, 0.06, 0.0),
        Band("SDSS_z", "AB", 896, 0.04, 0.0),
        Band("PS1_g", "AB", 481, 0.14, 0.0),
        Band("PS1_r", "AB", 617, 0.08, 0.0),
        Band("PS1_i", "AB", 752, 0.06, 0.0),
        Band("PS1_z", "AB", 866, 0.04, 0.0),
        Band("PS1_y", "AB", 962, 0.03, 0.0),
        Band("APASS_g", "AB", 472, 0.14, 0.0),
        Band("APASS_r", "AB", 619, 0.08, 0.0),
        Band("APASS_i", "AB", 750, 0.06, 0.0),
        # Hipparcos, and the VHS.
        Band("Hp", "Vega", 528, 0.13),
        Band("Y", "Vega", 1020, 0.03),
        # 2MASS, and the same bands in the AB system.
        Band("J", "Vega", 1235, 0.10, 0.91),
        Band("H", "Vega", 1662, 0.06, 1.39),
        Band("K", "Vega", 2159, 0.08, 1.85),
        Band("J_AB", "AB", 1235, 0.10, 0.0),
        Band("H_AB", "AB", 1662, 0.06, 0.0),
        Band("K_AB", "AB", 2159, 0.08, 0.0),
        # Gaia EDR3 and DR3; the passbands of DR2 are others.
        Band("Gaia_G", "Vega", 622, 0.12, 0.114),
        Band("Gaia_BP", "Vega", 511, 0.15, 0.016),
        Band("Gaia_RP", "Vega", 777, 0.06, 0.356),
        Band("GaiaDR2_G", "Vega", 622, 0.12),
        Band("GaiaDR2_BP", "Vega", 505, 0.15),
        Band("GaiaDR2_RP", "Vega", 772, 0.06),
    )
}

_SDSS = {name: f"SDSS_{name}" for name in "ugriz"}
_APASS = {name: f"APASS_{name}" for name in "gri"}
_PS1 = {name: f"PS1_{name}" for name in "grizy"}
_GAIA_DR2 = {f"Gaia_{name}": f"GaiaDR2_{name}" for name in ("G", "BP", "RP")}

#: Surveys in whose catalogs a common name means a band of its own: the name to that band.
SURVEYS: dict[str, dict[str, str]] = {
    "sdss": _SDSS,
    "apass": _APASS,
    "ps1": _PS1,
    "refcat2": _PS1 | _GAIA_DR2,
    "gaia_dr2": _GAIA_DR2,
}


def survey_band(name: str, survey: str) -> str:
    """Return the band that a name means in a survey; the name itself where it means the same everywhere.

    Parameters
    ----------
    name : str
    survey : str
        One of :data:`SURVEYS`; others, and an empty one, change nothing.
    """
    return SURVEYS.get(survey, {}).get(name, name)


def own_bands(name: str) -> list[str]:
    """Return the bands that a common name such as ``r`` may mean, that of the SDSS first; none for other names."""
    return list(dict.fromkeys(names[name] for names in SURVEYS.values() if name in names))


def as_it_is(band: str, names: Collection[str], survey: str = "") -> str | None:
    """Return by which name a catalog has a band as it is; None if it does not.

    A common name such as ``r`` takes that of any survey; the name of a survey's own band takes no other.

    Parameters
    ----------
    band : str
        The wanted one, such as ``r`` or ``PS1_r``.
    names : collection of str
        Those of the bands of the catalog.
    survey : str
        The survey in whose system it is; empty if unknown.
    """
    if band in names:
        return band
    means = {survey_band(name, survey): name for name in names}
    return next((means[one] for one in (band, *own_bands(band)) if one in means), None)


def mag_column(band: str) -> str:
    """Return the name of the catalog column that holds magnitudes in `band`."""
    return f"mag_{band}"


def colour_column(colour: str) -> str:
    """Return the name of the catalog column of a colour such as ``B-V``."""
    return "colour_" + colour.replace("-", "_")


def filter_called(name: str | None, names: Mapping[str, Sequence[str]]) -> str | None:
    """Return the key of the filter that has a name; None if it is unknown.

    The case of letters counts where it must, r being another filter than R, and else does not. A filter's own name
    comes before an alias of another one. A name that could be two filters is unknown.

    Parameters
    ----------
    name : str or None
    names : mapping
        Names of each filter by its key, its own first.
    """
    wanted = (name or "").strip()
    for same in (str, str.lower):
        for length in (1, None):
            keys = [key for key, some in names.items() if same(wanted) in map(same, some[:length])]
            if keys:
                return keys[0] if len(keys) == 1 else None
    return None
