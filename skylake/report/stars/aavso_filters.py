"""What the AAVSO calls the filter behind a magnitude."""

from __future__ import annotations

from skylake.core.bands import survey_band
from skylake.errors import StarError

#: Names of filters that let all light pass, in lower case.
_UNFILTERED = frozenset(
    (
        "",
        "air",
        "blank",
        "c",
        "clear",
        "empty",
        "l",
        "lum",
        "luminance",
        "no filter",
        "none",
        "open",
        "unfiltered",
    )
)
#: Codes of unfiltered measurements, by the band of the comparison stars.
_CLEAR = {"V": "CV", "R": "CR", "Rc": "CR"}
#: z of Pan-STARRS ends where that of the SDSS goes on: the AAVSO calls it z-short. Its y is not the Y of infrared
#: surveys such as VHS, which has no code.
_CODES = {
    **{name: name for name in "UBVRIJHK"},
    "Rc": "R",
    "Ic": "I",
    "Ks": "K",
    **{f"{survey}{band}": f"S{band.upper()}" for survey in ("", "SDSS_") for band in "ugriz"},
    **{f"{survey}_{band}": f"S{band.upper()}" for survey in ("APASS", "PS1") for band in "gri"},
    "PS1_z": "ZS",
    "y": "Y",
    "PS1_y": "Y",
}
#: Codes of measurements that cannot be transformed to a standard system.
UNFILTERED_CODES = frozenset(_CLEAR.values())


def aavso_filter(band: str, filter_name: str | None, survey: str = "") -> str:
    """Return the code of the AAVSO for the filter of a measurement.

    Parameters
    ----------
    band : str
        Band of the magnitude, which is that of the comparison stars.
    filter_name : str or None
        Filter of the frame; None if it is not known, which is taken for that of the band.
    survey : str
        Of the catalog of the comparison stars, one of :data:`skylake.core.bands.SURVEYS`; empty if unknown. A common
        name such as ``z`` means the band of that survey.

    Raises
    ------
    StarError
        If the AAVSO has no such code.
    """
    if filter_name is not None and filter_name.strip().lower() in _UNFILTERED:
        if band not in _CLEAR:
            raise StarError(
                f"the AAVSO takes unfiltered measurements compared with V or R, and these are in {band}; set the "
                f"band of the filter {filter_name!r} to V or R in the profile of the camera, and calibrate again"
            )
        return _CLEAR[band]
    code = _CODES.get(survey_band(band, survey) if band in "ugrizy" else band)
    if code is None:
        raise StarError(
            f"the AAVSO has no filter for the band {band}; choose the points of another by --band"
        )
    return code
