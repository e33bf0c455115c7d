"""Cards of a WCS that contradict one another: what is taken, and what is left out.

The FITS standard 4.0 (section 8) forbids CD beside PC, and gives TAN no parameters on the latitude. SCAMP wrote its
polynomials as PV cards of TAN before they were called TPV (Shupe et al. 2012, Proc. SPIE 8451, 84511M, whose section 7
says what counts beside SIP).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.cameras.header_values import MAX_SHOWN, values_of
from skylake.core.doubts import Doubt
from skylake.core.reasons import Reason
from skylake.image.wcs.wcs_cards import degrees_of

Floats = npt.NDArray[np.float64]

_WCS_CARD = re.compile(
    r"(WCSAXES|RADESYS|RADECSYS|EQUINOX|LONPOLE|LATPOLE|C(TYPE|UNIT|RVAL|RPIX|DELT|ROTA)[12]|(CD|PC)[12]_[12]|PV[12]_\d+"
    r"|[AB]P?_(\d_\d|ORDER))\Z"
)
_PV = re.compile(r"PV([12])_(\d+)\Z")
_SIP = re.compile(r"[AB]P?_(\d_\d|ORDER)\Z")
_SIP_TERM = re.compile(r"[AB]_\d_\d\Z")
#: TAN may have such parameters to this number, on the longitude: where its reference is.
_LAST_PARAMETER = 4
#: Matrices that differ by less than this part put the pixels of all detectors within some of one another.
_SAME_MATRIX = 1e-3
_PLACES = ((1, 1), (1, 2), (2, 1), (2, 2))


def agreed_cards(header: Any) -> tuple[Any, tuple[Doubt, ...]]:
    """Return the header with those cards of its WCS left out that others contradict, and a doubt about each kind.

    Parameters
    ----------
    header : astropy.io.fits.Header
        It is not changed.

    Returns
    -------
    header : astropy.io.fits.Header
    doubts : tuple of Doubt
        One with a reason means that no WCS can be taken from the cards.
    """
    repeated = _repeated_cards(header)
    if repeated:
        return header, repeated
    agreed = header.copy()
    for name in ("CUNIT1", "CUNIT2"):
        if name in header and degrees_of(header[name]) is not None:
            # wcslib knows units in lower case.
            agreed[name] = header[name].strip().lower()
    doubts = (*_agree_on_matrix(agreed), *_agree_on_distortion(agreed))
    return agreed, doubts


def _repeated_cards(header: Any) -> tuple[Doubt, ...]:
    """Return doubts about cards that stand twice with different values: nothing shows which is the right one."""
    doubts = []
    for name, count in Counter(header.keys()).items():
        if count == 1 or not _WCS_CARD.match(name):
            continue
        texts = [str(value).strip()[:MAX_SHOWN] for value in values_of(header, name)]
        if len(texts) > 1:
            sentence = (
                f"the card {name} of the WCS stands in the header more than once, as {' and '.join(texts)}"
            )
            stated = tuple((name, text) for text in texts)
            doubts.append(Doubt("wcs", stated, "", sentence, Reason.NO_WCS))
    return tuple(doubts)


def _agree_on_matrix(header: Any) -> tuple[Doubt, ...]:
    """Keep one of two matrices; return a doubt if they differ.

    CD comes from solvers, which leave the PC of the software before them; wcslib takes PC. What PC and CROTA2 both say
    is what PC says, as CROTA2 is for readers that know no PC.
    """
    cd, pc, turned = _of_cd(header), _of_pc(header), _of_rotation(header)
    if pc is None:
        return ()
    if cd is not None:
        for name in [*(f"PC{i}_{j}" for i, j in _PLACES), "CDELT1", "CDELT2", "CROTA1", "CROTA2"]:
            header.remove(name, ignore_missing=True, remove_all=True)
        return () if _is_placeholder(pc) else _differing(("CD1_1 …", cd), ("PC1_1 …", pc), "solvers write CD")
    if turned is not None:
        return _differing(("PC1_1 …", pc), ("CROTA2", turned), "CROTA2 is out of use")
    return ()


def _of_cd(header: Any) -> Floats | None:
    names = [f"CD{i}_{j}" for i, j in _PLACES]
    return _matrix(header, names, (0.0,) * 4) if any(name in header for name in names) else None


def _of_pc(header: Any) -> Floats | None:
    names = [f"PC{i}_{j}" for i, j in _PLACES]
    matrix = _matrix(header, names, (1.0, 0.0, 0.0, 1.0)) if any(name in header for name in names) else None
    steps = _numbers(header, ["CDELT1", "CDELT2"], (1.0, 1.0))
    return None if matrix is None or steps is None else matrix * steps[:, None]


def _of_rotation(header: Any) -> Floats | None:
    """Return the matrix of CDELT and CROTA2; None without a rotation, or one of zero, which need not be meant."""
    values = _numbers(header, ["CDELT1", "CDELT2", "CROTA2"], (1.0, 1.0, 0.0))
    if values is None or values[2] == 0.0:
        return None
    cosine, sine = math.cos(math.radians(values[2])), math.sin(math.radians(values[2]))
    return np.array([[cosine * values[0], -sine * values[1]], [sine * values[0], cosine * values[1]]])


def _matrix(header: Any, names: list[str], missing: tuple[float, ...]) -> Floats | None:
    values = _numbers(header, names, missing)
    return None if values is None else values.reshape(2, 2)


def _numbers(header: Any, names: list[str], missing: tuple[float, ...]) -> Floats | None:
    """Return the numbers of cards; None if one is no number, which is refused where the WCS is read."""
    values = [header.get(name, value) for name, value in zip(names, missing, strict=True)]
    usable = all(isinstance(value, int | float) and math.isfinite(value) for value in values)
    return np.array(values, float) if usable else None


def _is_placeholder(pc: Floats) -> bool:
    """Return whether a matrix is that of a WCS of which nothing is known: a degree from each pixel to the next."""
    return bool((pc == np.eye(2)).all())


def _differing(taken: tuple[str, Floats], other: tuple[str, Floats], why: str) -> tuple[Doubt, ...]:
    (name, matrix), (other_name, other_matrix) = taken, other
    if np.abs(matrix - other_matrix).max() <= _SAME_MATRIX * np.abs(matrix).max():
        return ()
    stated = ((name, _geometry(matrix)), (other_name, _geometry(other_matrix)))
    sentence = (
        f"the WCS of the header contradicts itself: {name} has {stated[0][1]} and {other_name} {stated[1][1]}; {name} "
        f"is taken, as {why}: delete the cards that are wrong"
    )
    return (Doubt("wcs", stated, name, sentence),)


def _geometry(matrix: Floats) -> str:
    """Return scale and position angle of a matrix, in units of its cards per pixel and degrees."""
    angle = math.degrees(math.atan2(matrix[0, 1], matrix[1, 1])) % 360.0
    return f"{math.sqrt(abs(float(np.linalg.det(matrix)))):.6g} per pixel at {angle:.3f} deg"


def _agree_on_distortion(header: Any) -> tuple[Doubt, ...]:
    """Keep the polynomials of SIP or those of SCAMP, which become TPV, as wcslib knows them; doubt if there are both.

    What CTYPE names counts. PV cards beside TAN are polynomials if TAN has no such parameters.
    """
    kinds = [str(header.get(f"CTYPE{axis}", "")).strip().upper() for axis in (1, 2)]
    codes = {kind[5:] for kind in kinds}
    if not codes <= {"TAN", "TAN-SIP", "TPV"} or not (scamp := _scamp_cards(header, kinds)):
        return ()
    bent = [name for name in scamp if header[name] != (1.0 if name.endswith("_1") else 0.0)]
    sip = [name for name in header if _SIP_TERM.match(name) and header[name]]
    # A term of each distortion that bends the image.
    terms = [(names[0], str(header[names[0]])) for names in (sip, bent) if names]
    is_sip = bool(sip) and (codes == {"TAN-SIP"} or not (bent or codes == {"TPV"}))
    for name in [name for name in header if (_PV if is_sip else _SIP).match(name)]:
        header.remove(name, ignore_missing=True, remove_all=True)
    if not is_sip:
        for axis, kind in enumerate(kinds, 1):
            header[f"CTYPE{axis}"] = f"{kind[:5]}TPV"
            # The one coefficient that is not 0 where it has no card.
            header.setdefault(f"PV{axis}_1", 1.0)
    return (_two_distortions(terms, kinds[0], is_sip),) if len(terms) == 2 else ()


def _scamp_cards(header: Any, kinds: list[str]) -> list[str]:
    """Return the PV cards if they are coefficients of polynomials; else none."""
    cards = {name: match for name in header if (match := _PV.match(name))}
    if any(kind.endswith("TPV") for kind in kinds):
        return list(cards)
    is_latitude = [kind.startswith("DEC") or kind[1:].startswith("LAT") for kind in kinds]
    foreign = any(
        is_latitude[int(match[1]) - 1] or int(match[2]) > _LAST_PARAMETER for match in cards.values()
    )
    return list(cards) if foreign else []


def _two_distortions(terms: list[tuple[str, str]], kind: str, is_sip: bool) -> Doubt:
    """Return the doubt about a header with a term of SIP and one of SCAMP."""
    sip, scamp = (f"{name} = {value}" for name, value in terms)
    taken, names_it = ("SIP", "names it") if is_sip else ("SCAMP", "names no SIP")
    sentence = (
        f"the WCS of the header has two distortions, polynomials of SIP ({sip} …) and of SCAMP ({scamp} …); {taken} "
        f"is taken, as CTYPE1 = {kind!r} {names_it}: delete the cards that are wrong"
    )
    return Doubt("wcs", (("CTYPE1", kind), *terms), taken, sentence)
