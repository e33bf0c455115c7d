"""Published transformations between photometric systems: the coefficients, where they are from, how far they hold.

Several relations to one band stand in the order in which they are preferred. Each set of coefficients was compared
with its table, and with stars that have magnitudes in both systems. Where a source gives no range of colours or no
scatter, the text says whose they are. Three published relations are left out: R from r-i of Jordi et al. (2006) is
0.05 mag fainter than all others, z from Gaia EDR3 is 0.05 mag brighter, and i of APASS from PS1 differs between
transcriptions.
"""

from __future__ import annotations

from collections.abc import Collection

from skylake.core.bands import own_bands
from skylake.core.transformations import Relation, Term, Transformation

Range = tuple[float, float]

_TONRY_2012 = "Tonry et al. 2012, ApJ 750, 99, table 6"
_FINKBEINER_2016 = "Finkbeiner et al. 2016, ApJ 822, 66, table 2"
_TONRY_2018 = "Tonry et al. 2018, ApJ 867, 105"
_LUPTON_2005 = "Lupton 2005, SDSS DR4 web page on transformations"
_JORDI_2006 = "Jordi et al. 2006, A&A 460, 339, table 3"
_JESTER_2005 = "Jester et al. 2005, AJ 130, 873, table 1"
_BLANTON_2007 = "Blanton & Roweis 2007, AJ 133, 734, table 1"
_RIELLO_2021 = "Riello et al. 2021, A&A 649, A3, tables C.1 and C.2"
_GAIA_DR3 = "Gaia DR3 documentation, section 5.5.1, tables 5.9 and 5.10"
_EVANS_2018 = "Evans et al. 2018, A&A 616, A4, tables A.1 and A.2"
_MAMAJEK_2002 = "Mamajek et al. 2002, AJ 124, 1670, with the erratum AJ 131, 2360"
_ESA_1997 = "ESA 1997, SP-1200, vol. 1, section 1.3"

#: No range is published. Beyond early M dwarfs g-r says nothing more of a star of the main sequence.
_PS1_COLOURS = (-0.4, 1.2)
#: No range is published: that of the Landolt and Stetson standards which were compared.
_SDSS_GR, _SDSS_RI, _SDSS_IZ, _SDSS_UG = (-0.5, 1.5), (-0.4, 1.2), (-0.4, 0.8), (0.4, 2.8)


def _one(
    target: str,
    base: str,
    colour: str,
    coefficients: tuple[float, ...],
    valid: Range,
    scatter: float,
    source: str,
) -> Relation:
    """Return a relation with one colour; its constant is the first coefficient."""
    blue, red = colour.split("-")
    return Relation(
        target, base, coefficients[0], (Term(blue, red, coefficients[1:], valid),), scatter, source
    )


def _ps1(target: str, base: str, coefficients: tuple[float, ...], scatter: float) -> Relation:
    return _one(target, f"PS1_{base}", "PS1_g-PS1_r", coefficients, _PS1_COLOURS, scatter, _TONRY_2012)


def _finkbeiner(target: str, base: str, coefficients: tuple[float, ...]) -> Relation:
    """Return a relation of which the paper gives PS1 minus SDSS; the scatter is an estimate of ours."""
    signs = tuple(-value for value in coefficients)
    return _one(target, f"PS1_{base}", "PS1_g-PS1_i", signs, (0.4, 2.7), 0.015, _FINKBEINER_2016)


def _sdss(
    target: str, base: str, colour: str, coefficients: tuple[float, ...], scatter: float, source: str
) -> Relation:
    valid = {"gr": _SDSS_GR, "ri": _SDSS_RI, "iz": _SDSS_IZ, "ug": _SDSS_UG}[colour]
    return _one(
        target, f"SDSS_{base}", f"SDSS_{colour[0]}-SDSS_{colour[1]}", coefficients, valid, scatter, source
    )


def _apass(
    target: str, base: str, colour: str, coefficients: tuple[float, ...], scatter: float, source: str
) -> Relation:
    """Return a relation for the SDSS, which takes g', r' and i' of APASS for g, r and i."""
    valid = {"gr": _SDSS_GR, "ri": _SDSS_RI}[colour]
    source = f"{source}, for g'r'i' of APASS"
    return _one(
        target, f"APASS_{base}", f"APASS_{colour[0]}-APASS_{colour[1]}", coefficients, valid, scatter, source
    )


def _gaia(
    target: str,
    coefficients: tuple[float, ...],
    valid: Range,
    scatter: float,
    source: str,
    survey: str = "Gaia",
) -> Relation:
    """Return a relation of which the tables give G minus the target."""
    signs, colour = tuple(-value for value in coefficients), f"{survey}_BP-{survey}_RP"
    return _one(target, f"{survey}_G", colour, signs, valid, scatter, source)


PUBLISHED: tuple[Relation, ...] = (
    # PS1, which is the system of ATLAS-REFCAT2 too.
    _ps1("SDSS_g", "g", (0.013, 0.145, 0.019), 0.008),
    _ps1("SDSS_r", "r", (-0.001, 0.004, 0.007), 0.004),
    _ps1("SDSS_i", "i", (-0.005, 0.011, 0.010), 0.004),
    _ps1("SDSS_z", "z", (0.013, -0.039, -0.012), 0.010),
    _ps1("B", "g", (0.212, 0.556, 0.034), 0.032),
    _ps1("V", "r", (0.005, 0.462, 0.013), 0.012),
    _ps1("R", "r", (-0.137, -0.108, -0.029), 0.015),
    _ps1("I", "i", (-0.366, -0.136, -0.018), 0.017),
    # Between PS1 and the photometry of the SDSS since DR13; of the main sequence.
    _finkbeiner("SDSS_g", "g", (-0.01808, -0.13595, 0.01941, -0.00183)),
    _finkbeiner("SDSS_r", "r", (-0.01836, -0.03577, 0.02612, -0.00558)),
    _finkbeiner("SDSS_i", "i", (0.01170, -0.00400, 0.00066, -0.00058)),
    _finkbeiner("SDSS_z", "z", (-0.01062, 0.07529, -0.03592, 0.00890)),
    # The range is ours.
    _one("APASS_g", "PS1_g", "PS1_g-PS1_r", (0.023, 0.054), _PS1_COLOURS, 0.032, _TONRY_2018),
    _one("APASS_r", "PS1_r", "PS1_g-PS1_r", (-0.058, 0.023), _PS1_COLOURS, 0.039, _TONRY_2018),
    _one("PS1_g", "APASS_g", "APASS_g-APASS_r", (-0.009, -0.061), _PS1_COLOURS, 0.026, _TONRY_2018),
    _one("PS1_r", "APASS_r", "APASS_g-APASS_r", (0.065, -0.026), _PS1_COLOURS, 0.027, _TONRY_2018),
    # SDSS.
    _sdss("B", "g", "gr", (0.2271, 0.3130), 0.0107, _LUPTON_2005),
    _sdss("V", "g", "gr", (-0.0038, -0.5784), 0.0054, _LUPTON_2005),
    _sdss("R", "r", "ri", (-0.1439, -0.2936), 0.0072, _LUPTON_2005),
    _sdss("R", "r", "gr", (-0.0971, -0.1837), 0.0106, _LUPTON_2005),
    _sdss("I", "i", "iz", (-0.3974, -0.3780), 0.0063, _LUPTON_2005),
    _sdss("I", "r", "ri", (-0.3820, -1.2444), 0.0078, _LUPTON_2005),
    _sdss("B", "u", "ug", (0.1313, -0.8116), 0.0095, _LUPTON_2005),
    _sdss("V", "g", "ug", (0.0885, -0.2906), 0.0129, _LUPTON_2005),
    # The paper gives errors of the coefficients and no scatter: those of Lupton, of the same stars.
    _sdss("B", "g", "gr", (0.219, 0.313), 0.0107, _JORDI_2006),
    _sdss("V", "g", "gr", (-0.016, -0.565), 0.0054, _JORDI_2006),
    _sdss("I", "i", "iz", (-0.397, -0.386), 0.0063, _JORDI_2006),
    # Of stars with R-I below 1.15, which is r-i below 0.94.
    _sdss("B", "g", "gr", (0.21, 0.39), 0.03, _JESTER_2005),
    _sdss("V", "g", "gr", (-0.01, -0.59), 0.01, _JESTER_2005),
    # B and U-B of the table; 0.03 and 0.05 mag of scatter.
    Relation(
        "U",
        "SDSS_g",
        -0.67,
        (Term("SDSS_g", "SDSS_r", (0.39,), _SDSS_GR), Term("SDSS_u", "SDSS_g", (0.78,), _SDSS_UG)),
        0.058,
        _JESTER_2005,
    ),
    # V and V-R of the table; 0.01 and 0.03 mag of scatter.
    Relation(
        "R",
        "SDSS_g",
        -0.23,
        (Term("SDSS_g", "SDSS_r", (-0.59,), _SDSS_GR), Term("SDSS_r", "SDSS_i", (-1.09,), (-0.4, 0.94))),
        0.032,
        _JESTER_2005,
    ),
    # APASS has B and V of Johnson; its g', r' and i' are those of the standards of the SDSS. The scatter is ours.
    _apass("R", "r", "ri", (-0.1439, -0.2936), 0.02, _LUPTON_2005),
    _apass("I", "r", "ri", (-0.3820, -1.2444), 0.02, _LUPTON_2005),
    _apass("R", "r", "gr", (-0.0971, -0.1837), 0.02, _LUPTON_2005),
    _apass("V", "g", "gr", (-0.0038, -0.5784), 0.02, _LUPTON_2005),
    _apass("B", "g", "gr", (0.2271, 0.3130), 0.02, _LUPTON_2005),
    # Gaia EDR3 and DR3. Where the tables say that redder colours are those of giants only, the range ends there.
    _gaia("V", (-0.02704, 0.01424, -0.2156, 0.01426), (-0.5, 5.0), 0.03017, _RIELLO_2021),
    _gaia("R", (-0.02275, 0.3961, -0.1243, -0.01396, 0.003775), (0.0, 2.0), 0.03167, _RIELLO_2021),
    _gaia("I", (0.01753, 0.76, -0.0991), (-0.5, 4.5), 0.03765, _RIELLO_2021),
    _gaia("B", (0.01448, -0.6874, -0.3604, 0.06718, -0.006061), (-0.5, 1.75), 0.0633, _GAIA_DR3),
    _gaia("SDSS_g", (0.2199, -0.6365, -0.1548, 0.0064), (0.3, 2.0), 0.0745, _RIELLO_2021),
    _gaia("SDSS_r", (-0.09837, 0.08592, 0.1907, -0.1701, 0.02263), (0.0, 2.0), 0.03776, _RIELLO_2021),
    _gaia("SDSS_i", (-0.293, 0.6404, -0.09609, -0.002104), (0.5, 2.0), 0.04092, _RIELLO_2021),
    # Gaia DR2.
    _gaia("V", (-0.01760, -0.006860, -0.1732), (-0.5, 2.75), 0.045858, _EVANS_2018, "GaiaDR2"),
    _gaia("R", (-0.003226, 0.3833, -0.1345), (-0.5, 2.75), 0.04840, _EVANS_2018, "GaiaDR2"),
    _gaia("I", (0.02085, 0.7419, -0.09631), (-0.5, 2.75), 0.04956, _EVANS_2018, "GaiaDR2"),
    _gaia("SDSS_g", (0.13518, -0.46245, -0.25171, 0.021349), (-0.5, 2.0), 0.16497, _EVANS_2018, "GaiaDR2"),
    _gaia("SDSS_r", (-0.12879, 0.24662, -0.027464, -0.049465), (0.2, 2.7), 0.066739, _EVANS_2018, "GaiaDR2"),
    _gaia("SDSS_i", (-0.29676, 0.64728, -0.10141), (0.0, 4.5), 0.098957, _EVANS_2018, "GaiaDR2"),
    # Tycho-2, of stars that are not reddened and no M dwarfs. B is V and B-V of the paper in one. The scatters of all
    # are half of the largest deviations that ESA (1997) gives.
    _one("V", "VT", "BT-VT", (0.00097, -0.1334, 0.05486, -0.01998), (-0.25, 2.0), 0.008, _MAMAJEK_2002),
    _one("B", "BT", "BT-VT", (-0.00503, -0.2403, 0.20076, -0.01998), (-0.25, 0.5), 0.025, _MAMAJEK_2002),
    _one("B", "BT", "BT-VT", (0.00097, -0.141213, -0.09404, 0.01386), (0.5, 2.0), 0.025, _MAMAJEK_2002),
    _one("V", "VT", "BT-VT", (0.0, -0.090), (-0.2, 1.8), 0.008, _ESA_1997),
    _one("B", "BT", "BT-VT", (0.0, -0.240), (-0.2, 1.8), 0.025, _ESA_1997),
    # 2MASS from the Vega to the AB system.
    Relation("J_AB", "J", 0.91, (), 0.0, _BLANTON_2007),
    Relation("H_AB", "H", 1.39, (), 0.0, _BLANTON_2007),
    Relation("K_AB", "K", 1.85, (), 0.0, _BLANTON_2007),
)


def transformations_to(target: str, available: Collection[str]) -> list[Transformation]:
    """Return the published transformations to a band that need no others than some, the preferred one first.

    Parameters
    ----------
    target : str
        A band. A common name such as ``r`` means that of the SDSS, and ``y`` that of PS1.
    available : collection of str
        Bands that are known.
    """
    wanted = {target, *own_bands(target)[:1]}
    found: dict[tuple[str, ...], list[Relation]] = {}
    for relation in PUBLISHED:
        if relation.target in wanted and set(relation.inputs) <= set(available):
            found.setdefault(relation.form, []).append(relation)
    return [Transformation(pieces[0].target, tuple(pieces)) for pieces in found.values()]
