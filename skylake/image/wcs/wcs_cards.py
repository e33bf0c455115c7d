"""Checks of the cards of the scale and rotation of a WCS."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from skylake.core.doubts import Doubt
from skylake.core.reasons import Reason
from skylake.errors import FrameRejected

#: What helps where a header says nothing, unless the stars were asked already.
SOLVE_FIRST = "; its stars show where it points, given a lake with a catalog (`skylake catalog import`)"
#: Cards of a WCS that hold numbers, and those that hold units.
_NUMBERS = re.compile(
    r"(CRVAL\d|CRPIX\d|CDELT\d|CROTA\d|(CD|PC|PV)\d_\d+|[AB]P?_(\d+_\d+|ORDER)|LONPOLE|LATPOLE|EQUINOX)\Z"
)
_UNITS = re.compile(r"CUNIT[12]\Z")
#: Highest order of a distortion (Shupe et al. 2005, ASPC 347, 491).
_MAX_ORDER = 9
_PLACES = ((1, 1), (1, 2), (2, 1), (2, 2))


def refuse_no_scale(header: Any) -> None:
    """Raise for a WCS whose cards give no scale, or one of zero: wcslib calls it none, or takes degrees for pixels.

    Raises
    ------
    FrameRejected
        ``no_wcs``.
    """
    if not (header.get("CTYPE1") and header.get("CTYPE2")):
        return
    names = [f"CD{i}_{j}" for i, j in _PLACES]
    unit = (0.0, 0.0, 0.0, 0.0)
    if not any(name in header for name in names):
        names, unit = [f"PC{i}_{j}" for i, j in _PLACES], (1.0, 0.0, 0.0, 1.0)
    names += ["CDELT1", "CDELT2"] if names[0] == "PC1_1" else []
    present = [name for name in names if name in header]
    if not present:
        raise FrameRejected(
            Reason.NO_WCS, f"the WCS of the header has no scale (neither CD1_1 … nor CDELT1){SOLVE_FIRST}"
        )
    values = [header.get(name, value) for name, value in zip(names, (*unit, 1.0, 1.0), strict=False)]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return
    matrix = np.array(values[:4], float).reshape(2, 2) * np.array(values[4:] or (1.0, 1.0), float)[:, None]
    if not (np.abs(matrix).sum(axis=0) > 0.0).all() or not (np.abs(matrix).sum(axis=1) > 0.0).all():
        zeros = ", ".join(f"{name} = {header[name]:g}" for name in present if header[name] == 0.0)
        raise FrameRejected(
            Reason.NO_WCS, f"the WCS of the header has a scale of zero along an axis ({zeros}){SOLVE_FIRST}"
        )


def refuse_odd_orders(header: Any) -> None:
    """Raise for a polynomial of a distortion of more terms than the convention has: astropy would make room for all.

    Raises
    ------
    FrameRejected
        ``no_wcs``.
    """
    for name in ("A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER"):
        order = header.get(name, 0)
        if isinstance(order, int | float) and not 0 <= order <= _MAX_ORDER:
            raise FrameRejected(
                Reason.NO_WCS,
                f"the card {name} of the WCS of the header holds {order}, and orders go from 0 to "
                f"{_MAX_ORDER}{SOLVE_FIRST}",
            )


def why_no_wcs(header: Any) -> str:
    """Return which card keeps a header from having a WCS."""
    if not (header.get("CTYPE1") and header.get("CTYPE2")):
        return "the header has no celestial WCS (CTYPE1 and CTYPE2)"
    for name in ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"):
        if name not in header:
            return f"the WCS of the header lacks the card {name}"
    for name, value in header.items():
        if _NUMBERS.match(name) and not (isinstance(value, int | float) and math.isfinite(value)):
            content = "nothing" if not isinstance(value, str | int | float | complex) else f"{value!r}"
            return f"the card {name} of the WCS of the header holds {content}, which is no finite number"
        if _UNITS.match(name) and degrees_of(value) is None:
            return f"the card {name} of the WCS of the header holds {value!r}, which is no unit of angle such as deg"
    return (
        f"the WCS of the header cannot be read (CTYPE1 = {header['CTYPE1']!r}, CTYPE2 = {header['CTYPE2']!r})"
    )


def degrees_of(unit: Any) -> float | None:
    """Return a unit of angle in degrees; None if it is none. No unit is a degree, as in headers that state none."""
    import astropy.units as u

    try:
        text = unit.strip().lower()
        return float(u.Unit(text).to(u.deg)) if text else 1.0
    except (ValueError, TypeError, AttributeError):
        return None


def left_out(header: Any, lost: FrameRejected | None) -> tuple[Doubt, ...]:
    """Return the doubt about a frame that is placed although the WCS of its header cannot be used; else none.

    A header without a WCS leaves no doubt.
    """
    has_cards = any(name in header for name in ("CTYPE1", "CRVAL1", "CD1_1"))
    if lost is None or not has_cards:
        return ()
    # After that comes advice, which the stars have followed.
    why = str(lost).partition(";")[0]
    return (Doubt("wcs", (("header", why),), "stars", f"{why}, and is left out: correct its cards"),)
